"""A small circuit of a random model, and a server in a thread, for the tests of the viewer."""

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

import torch

from sparse_circuits import checkpoint, kernels
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.means import node_means
from sparse_circuits.circuits.nodes import NodeSpace
from sparse_circuits.circuits.report.build import fingerprint
from sparse_circuits.circuits.report.rows import Card, Row
from sparse_circuits.config import GPTConfig
from sparse_circuits.model import GPT
from sparse_circuits.tasks import Task, Template
from sparse_circuits.tokenizer import Tokenizer

NODES = {
    "0.attn.act_in": (0, 3, 7, 17),
    "0.attn.q": (1, 5),
    "0.attn.k": (1,),
    "0.attn.v": (2, 6),
    "0.attn.resid_delta": (3, 7),
    "0.mlp.act_in": (3,),
    "0.mlp.post_act": (4, 9),
    "0.mlp.resid_delta": (7,),
    "1.attn.act_in": (7,),
    "1.attn.v": (0,),
    "1.attn.resid_delta": (2,),
}
WORDS = {
    "prune": "ox elk lynx hyena badger",
    "calibrate": "ant crow eagle falcon",
    "report": "bee wolf otter rabbit",
    "ood": "hippopotamus rhinoceros chameleon wildebeest",
}


def quote_task(one_token: bool = False) -> Task:
    """Close the quote that is open; as a one-token question: a double quote or anything else."""
    other = None if one_token else "'"
    templates = {s: (Template(f"{s}/0", f'{s[0]}("$word', f"{s[0]}('$word", '"', other),) for s in WORDS}
    words = {split: {"word": tuple(words.split())} for split, words in WORDS.items()}
    return Task("quotes", "Close the quote that is open.", templates, words)


def random_model(config: GPTConfig, seed: int, spread: float) -> GPT:
    """A model of random weights far enough apart that everything in it matters, with a tokenizer of bytes."""
    model = GPT(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
    model.tokenizer = Tokenizer.train([], 257)
    return model.eval()


def dense_circuit(config: GPTConfig) -> Circuit:
    """All nodes of a random dense model."""
    model = random_model(config, 0, 0.2)
    nodes = {site: tuple(range(width)) for site, width in NodeSpace(model.config).widths.items()}
    means = node_means(model, torch.randint(257, (4, 24), generator=torch.Generator().manual_seed(0)))
    return Circuit(model, quote_task(), nodes, means, PruneConfig(eval_pairs=2))


def small_circuit(seed: int = 0, nodes: dict[str, tuple[int, ...]] = NODES, one_token: bool = False) -> Circuit:
    """A circuit of a random model in which every node matters; one edge is dropped."""
    config = GPTConfig(
        vocab_size=257,
        block_size=24,
        n_layer=2,
        d_model=16,
        n_head=4,
        d_mlp=24,
        sink=True,
        bigram_table="learned",
        positions="sinusoidal_concat",
        d_position=4,
    )
    model = random_model(config, seed, 0.4)
    generator = torch.Generator().manual_seed(seed + 1)
    windows = torch.randint(257, (8, 24), generator=generator)
    link = (("0.mlp.act_in", 3), ("0.mlp.post_act", 4))
    dropped = [link] if all(channel in nodes.get(site, ()) for site, channel in link) else []
    scores = torch.randn(sum_of(config), generator=generator)
    return Circuit(
        model,
        quote_task(one_token=one_token),
        nodes,
        node_means(model, windows),
        PruneConfig(eval_pairs=4),
        scores,
        dropped=dropped,
    )


def a_card(circuit: Circuit) -> Card:
    """A report card of `circuit` with a row of every verdict; the numbers are made up."""
    rows = (
        Row(1, "loss_report", "loss on unseen pairs", "It has a loss.", "holds", 0.25, (0.125, 0.5), "nats"),
        Row(1, "loss_ood", "loss out of distribution", "It has another.", "fails", 0.75, None, "nats"),
        Row(2, "ablation_zero", "zero ablation", "A part of it is left.", "weak", 0.375),
        Row(5, "seeds", "overlap with others", "Nobody pruned again.", "not measured"),
        Row(9, "identity", "logits with everything kept", "All is as in the model.", "holds", 0.0, decisive=True),
    )
    about = {
        "circuit": fingerprint(circuit),
        "task": circuit.task.name,
        "description": circuit.task.description,
        "model": checkpoint.model_hash(circuit.model),
        "nodes": circuit.size,
        "edges": len(circuit.edges),
        "all_nodes": circuit.space.total,
        "ablation": "mean",
        "pairs": 4,
        "fewer_pairs": 2,
        "by_hand": True,
        "full": False,
        "seed": 0,
        "seconds": 1.0,
    }
    return Card(about, rows)


def sum_of(config: GPTConfig) -> int:
    """How many nodes a model has."""
    return NodeSpace(config.resolved()).total


def spoil(bundle: dict[str, Any], place: str, value: object) -> None:
    """Put `value` at `place` of a bundle, such as "circuits.0.title"; KeyError takes it out."""
    *path, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    for part in path:
        bundle = bundle[part]
    if value is KeyError:
        del bundle[last]
    else:
        bundle[last] = value


SPOILED: list[tuple[str, object, str]] = [
    ("circuits.0.nodes.0.mean", "much", "nodes[0].mean is no number"),
    ("circuits.0.nodes.0.mean", float("nan"), "nodes[0].mean is no number"),
    ("circuits.0.nodes.0.channel", -1, "nodes[0].channel is below 0"),
    ("circuits.0.nodes.1.cost", "none", "nodes[1].cost is none of what it may be"),
    ("circuits.0.title", KeyError, "circuits[0] lacks 'title'"),
    ("circuits.0.edges.0", [0, 1], "edges[0] has 2 items, fewer than 3"),
    ("circuits.0.edges.0", [0, 999, 1.0], "edges name a node it has not"),
    ("circuits.0.model", 5, "circuits[0].model is no model of it"),
    ("circuits.0.task.loss", "other", "task.loss is none of 'two_token', 'one_token'"),
    ("circuits.0.card", {"verdict": "holds"}, "circuits[0].card is none of what it may be"),
    ("models.0.tokens.3", 7, "tokens[3] is no string"),
    ("models.0.health.kurtosis", {"a": "b"}, "kurtosis.a is no number"),
    ("models", [], "models has 0 items"),
]


HOSTILE = '<img src=x onerror="window.hacked=1"></script><script>window.hacked=2</script><!--'


def hostile(bundle: dict[str, Any]) -> dict[str, Any]:
    """The bundle with markup that would run in the place of every string; changed in place."""
    model, circuit = bundle["models"][0], bundle["circuits"][0]
    model["tokens"] = [HOSTILE] * len(model["tokens"])
    model["name"] = circuit["title"] = circuit["text"] = HOSTILE
    circuit["task"] = {**circuit["task"], "name": HOSTILE, "description": HOSTILE}
    for pair in circuit["pairs"]:
        pair["template"] = HOSTILE
    model["health"]["text"] = HOSTILE
    model["health"]["kurtosis"] = {HOSTILE: 1, "__proto__": 2, "constructor": 3}
    row = {"name": HOSTILE, "sentence": HOSTILE, "verdict": "weak", "value": 1, "interval": [0, 1], "unit": HOSTILE}
    circuit["card"] = {
        "verdict": "weak",
        "line": HOSTILE,
        "warnings": [HOSTILE],
        "points": {str(point): "weak" for point in range(1, 10)},
        "rows": [{**row, "point": point, "spans": HOSTILE} for point in range(1, 10)],
    }
    return bundle


class Served:
    """A server in a thread."""

    def __init__(self, app: Any):
        import uvicorn

        config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.02)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"

    def _run(self) -> None:
        with kernels.use("reference"):
            self.server.run()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, content, given | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End it at once."""
        self.server.should_exit = True
        self.server.force_exit = True
        self._thread.join(30)


def saved(circuit: Circuit, folder: Path) -> Path:
    """The circuit in a folder, its model in one beside."""
    checkpoint.save(circuit.model, folder / "model")
    circuit.save(folder / "circuit")
    return folder / "circuit"
