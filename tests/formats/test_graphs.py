"""Circuits go out as graphs and tables that other programs read, and say what the circuit says."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import networkx
import pytest
import torch
from pyarrow import parquet
from small_models import randomised, small
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.formats import graphml, mib, tables, tracer
from sparse_circuits.formats import parquet as parquet_tables
from sparse_circuits.formats.graph import edge_rows, node_rows, residual_links, to_networkx
from sparse_circuits.formats.recorded_task import write_pairs
from sparse_circuits.formats.registry import FORMATS, get_format
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer

LETTERS = Tokenizer.train([], 257)


def circuit_of(**changes: Any) -> Circuit:
    settings = {"vocab_size": 257, "block_size": 12, "abs_topk": 0.5} | changes
    model = randomised(small(**settings), dtype=torch.float32)
    model.tokenizer = LETTERS
    with torch.no_grad():
        for block in model.blocks:  # sparse enough for the graph to have holes
            for layer in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
                layer.weight[torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(1)) < 0.6] = 0
    templates = {"report": tuple(Template(f"t{n}", f'x{n}("a', f"x{n}('a", '"', "'") for n in range(4))}
    means = node_means(model, torch.randint(257, (6, 12), generator=torch.Generator().manual_seed(3)))
    nodes = {site: (0, 3, 5, 7) for site in NodeSpace(model.config).slices if site != "1.attn.q"}
    made = Circuit(model, Task("quotes", "", templates), nodes, means, PruneConfig(eval_pairs=4))
    dropped = [(edge.source, edge.target) for edge in made.node_edges[::5]]
    costs = {site: [0.5, 0.25, 0.0, 0.0] for site in made.nodes}
    return Circuit(model, made.task, nodes, means, made.config, found={"costs": costs}, dropped=dropped)


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return circuit_of()


def test_rows_are_the_circuit(circuit: Circuit) -> None:
    nodes = node_rows(circuit)
    assert [(row["site"], row["channel"]) for row in nodes] == [
        (s, c) for s, kept in circuit.nodes.items() for c in kept
    ]
    assert {row["head"] for row in nodes if row["kind"] == "k"} == {0, 1}
    assert all(row["head"] is None for row in nodes if row["component"] == "mlp")
    first = nodes[1]
    assert (first["node"], first["layer"], first["cost"], first["score"]) == ("0.attn.act_in:3", 0, 0.25, None)
    assert first["held_at"] == float(circuit.means.values[3])
    edges = edge_rows(circuit)
    assert len(edges) == len(circuit.edges) < len(circuit.node_edges)
    assert [row["weight"] for row in edges] == [edge.weight for edge in circuit.edges]
    assert sum(row["edges_in"] for row in nodes) == sum(row["edges_out"] for row in nodes) == len(edges)


def test_the_residual_stream_joins_writers_to_later_readers(circuit: Circuit) -> None:
    links = residual_links(circuit)
    assert (("0.attn.resid_delta", 3), ("0.mlp.act_in", 3)) in links
    assert (("0.attn.resid_delta", 3), ("1.mlp.act_in", 3)) in links
    assert all(source[1] == target[1] and source[0].endswith("resid_delta") for source, target in links)
    assert not [link for link in links if link[1][0] == "0.attn.act_in"]
    assert not [link for link in links if link[0][0] == "1.attn.resid_delta" and link[1][0] == "1.attn.act_in"]


def test_networkx(circuit: Circuit) -> None:
    graph = to_networkx(circuit)
    assert graph.number_of_nodes() == circuit.size
    assert graph.number_of_edges() == len(circuit.edges) + len(residual_links(circuit))
    assert networkx.is_directed_acyclic_graph(graph)
    plain = to_networkx(circuit, residual=False)
    assert {kind for _, _, kind in plain.edges(data="kind")} == {"weight"}
    edge = circuit.edges[0]
    ends = [f"{site}:{channel}" for site, channel in (edge.source, edge.target)]
    assert plain.edges[ends[0], ends[1]]["weight"] == edge.weight
    assert plain.graph["task"] == "quotes"


def test_graphml_is_read_back_by_networkx(circuit: Circuit, tmp_path: Path) -> None:
    graphml.write(circuit, tmp_path / "new" / "circuit.graphml")
    again = networkx.read_graphml(tmp_path / "new" / "circuit.graphml")
    expected = to_networkx(circuit)
    assert dict(again.nodes(data=True)) == dict(expected.nodes(data=True))
    assert {(a, b): d for a, b, d in again.edges(data=True)} == {(a, b): d for a, b, d in expected.edges(data=True)}


def test_tables_in_csv_and_parquet_say_the_same(circuit: Circuit, tmp_path: Path) -> None:
    tables.write(circuit, tmp_path)
    parquet_tables.write(circuit, tmp_path)
    for name, columns, rows in (
        ("nodes", tables.NODE_COLUMNS, node_rows(circuit)),
        ("edges", tables.EDGE_COLUMNS, edge_rows(circuit)),
    ):
        assert parquet.read_table(tmp_path / f"{name}.parquet").to_pylist() == rows
        with open(tmp_path / f"{name}.csv", newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        typed = [{key: columns[key](value) if value else None for key, value in row.items()} for row in read]
        assert typed == rows


def test_an_empty_circuit_has_tables_too(circuit: Circuit, tmp_path: Path) -> None:
    empty = Circuit(circuit.model, circuit.task, {}, circuit.means, circuit.config)
    for name in ("csv", "parquet", "graphml", "mib", "graph"):
        get_format(name, "circuit").module.write(empty, tmp_path / name)
    assert parquet.read_table(tmp_path / "parquet" / "nodes.parquet").num_rows == 0
    assert json.loads((tmp_path / "mib").read_text())["edges"] == {}


# --- MIB ---


def mib_names(layers: int, heads: int) -> set[str]:
    """Every edge of a graph of MIB's, by its evaluation's own naming."""
    names, before = set(), ["input"]
    for layer in range(layers):
        attention = [f"a{layer}.h{head}" for head in range(heads)]
        names |= {f"{s}->{t}<{letter}>" for s in before for t in attention for letter in "qkv"}
        before += attention
        names |= {f"{s}->m{layer}" for s in before}
        before.append(f"m{layer}")
    return names | {f"{s}->logits" for s in before}


def test_the_edges_of_mib_are_those_its_evaluation_knows(circuit: Circuit) -> None:
    graph = json.loads(json.dumps(mib.graph(circuit)))
    config = circuit.model.config
    assert graph["cfg"] == {"n_layers": 2, "n_heads": 3, "parallel_attn_mlp": False, "d_model": config.d_model}
    assert set(graph["edges"]) <= mib_names(2, 3)
    heads = [[f"a{layer}.h{head}" for head in range(3)] for layer in range(2)]
    assert list(graph["nodes"]) == ["input", *heads[0], "m0", *heads[1], "m1", "logits"]
    assert all(edge["in_graph"] and edge["score"] > 0 for edge in graph["edges"].values())
    # Head 2 (channels 8 to 11) has no kept channel at all.
    assert not graph["nodes"]["a0.h2"]["in_graph"]
    assert not [name for name in graph["edges"] if "a0.h2" in name or "a1.h2" in name]
    assert not [name for name in graph["edges"] if name.endswith("<q>") and "->a1" in name]
    sources = {name.split("->")[0] for name in graph["edges"]}
    assert {name for name, node in graph["nodes"].items() if node["in_graph"]} == sources | {"logits"}


def test_the_score_of_an_edge_of_mib_is_what_its_ways_carry(circuit: Circuit) -> None:
    written: dict[int, float] = {}
    for edge in circuit.edges:
        if edge.source[0] == "0.mlp.post_act":
            written[edge.target[1]] = written.get(edge.target[1], 0) + abs(edge.weight)
    expected = sum(
        written.get(edge.source[1], 0) * abs(edge.weight)
        for edge in circuit.edges
        if edge.target[0] == "1.attn.k" and edge.target[1] // 4 == 0
    )
    assert mib.graph(circuit)["edges"]["m0->a1.h0<k>"]["score"] == pytest.approx(expected)


def mib_neurons(graph: dict[str, Any]) -> tuple[dict[str, list[bool]], Tensor]:
    """Neurons by node, and their scores by row, as the readers of MIB's JSON find them: what a head shows is set for
    the rows of all heads of its layer; what is not shown has no score, which is NaN."""
    cfg = graph["cfg"]
    sources = [name for name in graph["nodes"] if name != "logits"]
    inside = torch.zeros(len(sources), cfg["d_model"], dtype=torch.bool)
    scores = torch.full((len(sources), cfg["d_model"]), torch.nan)
    for row, name in enumerate(sources):
        found = graph["nodes"][name]
        first = row - int(name.partition(".h")[2] or 0)
        rows = slice(first, first + cfg["n_heads"]) if name.startswith("a") else row
        if "neurons" in found:
            inside[rows] = torch.tensor(found["neurons"])
        if "neurons_scores" in found:
            scores[rows] = torch.tensor(found["neurons_scores"])
    return dict(zip(sources, inside.tolist(), strict=True)), scores


def test_the_neurons_of_mib_are_the_channels_a_node_writes(circuit: Circuit) -> None:
    graph = json.loads(json.dumps(mib.graph(circuit), allow_nan=False))
    neurons, scores = mib_neurons(graph)
    assert all(neurons["input"])
    for name, inside in neurons.items():
        if name == "input":
            continue
        layer, head = int(name[1]), name.partition(".h")[2]
        channels = {
            edge.target[1]
            for edge in circuit.edges
            if edge.source[0] == (f"{layer}.attn.v" if head else f"{layer}.mlp.post_act")
            and (not head or edge.source[1] // 4 == int(head))
        }
        kept = graph["nodes"][name]["in_graph"]
        assert {c for c, each in enumerate(inside) if each} == (channels if kept else set())
    assert neurons["a0.h0"] != neurons["a0.h1"], "the heads of a layer are told apart"
    assert bool(scores[0].isnan().all()), "what has no score stays"
    assert bool((scores[1:] >= 0).all())
    weights = [abs(e.weight) for e in circuit.edges if e.source[0] == "1.mlp.post_act" and e.target[1] == 3]
    assert float(scores[-1, 3]) == pytest.approx(sum(weights))


def test_both_forms_of_mib_say_the_same(circuit: Circuit, tmp_path: Path) -> None:
    mib.write(circuit, tmp_path / "circuit.json")
    mib.write(circuit, tmp_path / "circuit.pt")
    graph = json.loads((tmp_path / "circuit.json").read_text())
    held = torch.load(tmp_path / "circuit.pt", weights_only=True)
    assert held["cfg"] == graph["cfg"]
    assert held["src_nodes"] == list(graph["nodes"])[:-1]
    neurons, scores = mib_neurons(graph)
    torch.testing.assert_close(held["neurons_scores"], scores, equal_nan=True)
    assert held["neurons_in_graph"].tolist() == list(neurons.values())
    assert held["nodes_in_graph"].tolist() == [graph["nodes"][name]["in_graph"] for name in held["src_nodes"]]
    found = {
        f"{source}->{target}": float(held["edges_scores"][row, column])
        for row, source in enumerate(held["src_nodes"])
        for column, target in enumerate(held["dst_nodes"])
        if bool(held["edges_in_graph"][row, column])
    }
    assert found == pytest.approx({name: edge["score"] for name, edge in graph["edges"].items()})
    # The column of a target, as its readers reckon it from its name.
    for column, target in enumerate(held["dst_nodes"][:-1]):
        layer, heads = int(target[1]), graph["cfg"]["n_heads"]
        head = int(target[4]) + "qkv".index(target[-2]) * heads if target.startswith("a") else 3 * heads
        assert column == layer * (3 * heads + 1) + head


# --- circuit-tracer ---

NODE_KEYS = {
    *("node_id", "feature", "layer", "ctx_idx", "feature_type", "token_prob", "is_target_logit", "run_idx"),
    *("reverse_ctx_idx", "jsNodeId", "clerp", "influence", "activation"),
}


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_graph_has_the_form_of_circuit_tracer(circuit: Circuit, side: str) -> None:
    graph = json.loads(json.dumps(tracer.graph(circuit, pair=1, side=side), allow_nan=False))
    prompt = graph["metadata"]["prompt"]
    assert prompt[2:] == ('("a' if side == "a" else "('a")
    assert graph["metadata"]["prompt_tokens"] == list(prompt)
    assert {"slug", "scan", "transcoder_list", "prompt_tokens", "prompt", "schema_version"} <= set(graph["metadata"])
    assert set(graph["qParams"]) == {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"}
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids)
    for node in graph["nodes"]:
        assert set(node) == NODE_KEYS
        layer, feature, position = node["node_id"].split("_")
        assert (layer, int(position)) == (node["layer"], node["ctx_idx"])
        if node["feature_type"] == "cross layer transcoder":
            x, y = int(layer), int(feature)
            assert node["feature"] == (x + y) * (x + y + 1) // 2 + y
            assert node["activation"] != 0
    for link in graph["links"]:
        assert link["source"] in ids
        assert link["target"] in ids
        assert math.isfinite(link["weight"])
        assert link["weight"] != 0
    logits = [node for node in graph["nodes"] if node["feature_type"] == "logit"]
    assert [node["is_target_logit"] for node in logits] == [True, False]
    answer = '"' if side == "a" else "'"
    assert logits[0]["clerp"].startswith(f'Output "{answer}" (p=')


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "layer", "sink": False}, {"positions": "learned_concat", "d_position": 3}],
)
def test_links_into_a_node_add_up_to_its_value(changes: dict[str, Any]) -> None:
    """With everything kept, no AbsTopK and no dropped edge, what flows into a linear node is all there is to it."""
    part = circuit_of(abs_topk=None, **changes)
    everything = {site: tuple(range(s.stop - s.start)) for site, s in part.space.slices.items()}
    circuit = Circuit(part.model, part.task, everything, part.means, part.config)
    graph = tracer.graph(circuit)
    values: dict[str, dict[int, tuple[str, float]]] = {node["clerp"]: {} for node in graph["nodes"]}
    for node in graph["nodes"]:
        values[node["clerp"]][node["ctx_idx"]] = (node["node_id"], node["activation"])
    into: dict[str, float] = {}
    for link in graph["links"]:
        into[link["target"]] = into.get(link["target"], 0.0) + link["weight"]
    last = len(graph["metadata"]["prompt_tokens"]) - 1
    block = circuit.model.blocks[1]
    biases = {"1.attn.k:4": block.attn.c_attn.bias[12 + 4], "1.attn.resid_delta:2": block.attn.c_proj.bias[2]}
    biases["1.mlp.resid_delta:7"] = block.mlp.c_proj.bias[7]
    if changes.get("norm") != "layer":  # which takes the mean off as well
        biases |= {"1.mlp.act_in:3": torch.zeros(()), "1.attn.act_in:0": torch.zeros(())}
    for name, bias in biases.items():
        identity, value = values[name][last]
        assert into[identity] + float(bias.detach()) == pytest.approx(value, rel=1e-4, abs=1e-5), name


# --- the command ---


@pytest.mark.filterwarnings("default")
def test_every_format_is_exported_by_the_command(
    circuit: Circuit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(circuit.model, tmp_path / "model")
    task = Task.from_jsonl(_pairs(circuit, tmp_path))
    Circuit(circuit.model, task, circuit.nodes, circuit.means, circuit.config).save(tmp_path / "circuit")
    for name, chosen in FORMATS.items():
        out = tmp_path / "out" / (f"{name}.tiktoken" if name == "tiktoken" else name)
        given = ["--circuit", "circuit"] if chosen.holds == "circuit" else ["--model", "model"]
        arguments = ["export", name, given[0], str(tmp_path / given[1]), "--out", str(out)]
        if chosen.holds == "circuit":
            arguments += ["--task", str(tmp_path / "quotes.jsonl")]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            assert main(arguments) == 0, capsys.readouterr().err
        assert out.exists()
        assert f"wrote {out}" in capsys.readouterr().out
    assert main(["export", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(FORMATS)


def _pairs(circuit: Circuit, folder: Path) -> Path:
    write_pairs(circuit.task, folder / "quotes.jsonl")
    return folder / "quotes.jsonl"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "opneai", "--out", "x"), "'opneai' is no format; did you mean 'openai'? choose among csv,"),
        (("export", "openai", "--out", "x"), "openai is a form of models; give the model with --model"),
        (("export", "csv", "--out", "x"), "csv is a form of circuits; give the circuit with --circuit"),
        (("export", "openai", "--model", "nowhere", "--out", "x"), "no model at nowhere"),
        (("export", "csv", "--circuit", "nowhere", "--out", "x"), "no circuit at nowhere"),
        (("convert", "nowhere", "--to", "openai", "--out", "x"), "no model at nowhere"),
        (("convert", "model", "--to", "csv", "--out", "x"), "'csv' holds no model; choose among"),
        (("convert", "model", "--to", "openai", "--out", "model"), "is the model to read; choose another folder"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: tuple[str, ...],
    message: str,
    circuit: Circuit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save(circuit.model, tmp_path / "model")
    assert main(list(arguments)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_there_and_back_between_all_kinds(circuit: Circuit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(circuit.model, tmp_path / "start")
    before, path = checkpoint.model_hash(circuit.model), tmp_path / "start"
    kinds = [name for name, each in FORMATS.items() if each.holds == "model"]
    for number, kind in enumerate([*kinds, "native"]):
        out = tmp_path / str(number)
        assert main(["convert", str(path), "--to", kind, "--out", str(out)]) == 0
        told = capsys.readouterr().out
        assert f"-> {kind}, " in told
        assert "density 0." in told
        path = out
    loaded = checkpoint.load(path)
    assert checkpoint.model_hash(loaded) == before
    assert loaded.tokenizer is not None
    assert main(["convert", str(path), "--to", "openai", "--out", str(tmp_path / "json"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["from"] == "native"
    assert described["bytes"] == sum(each.stat().st_size for each in (tmp_path / "json").iterdir())
