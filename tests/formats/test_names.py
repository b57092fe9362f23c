"""Released artifacts have names, are looked for on this machine first, and fetched only when that is asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from server import Web, serve
from small_models import randomised, small

from sparse_circuits import checkpoint
from sparse_circuits.__main__ import main
from sparse_circuits.errors import InputError
from sparse_circuits.formats import names, openai
from sparse_circuits.formats.download import Patience
from sparse_circuits.formats.names import fetch_named, find, parse

HASTY = Patience(seconds=0.3, attempts=2, pause=0.01)
SWEEP = "csp_sweep1_1x_7.4Mnonzero_afrac0.125"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty working folder beside it."""
    monkeypatch.setenv("SPARSE_CIRCUITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A published tree with one model."""
    model = randomised(small(), dtype=torch.float32)
    openai.write(model, tmp_path / "made")
    files = {f"/tree/models/{SWEEP}/{path.name}": path.read_bytes() for path in (tmp_path / "made").iterdir()}
    with serve(Web(files)) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("csp_yolo2", "model", "models/csp_yolo2"),
        (SWEEP, "model", f"models/{SWEEP}"),
        ("dense1_4x", "model", "models/dense1_4x"),
        ("openai/circuit-sparsity", "hub", "hub/openai/circuit-sparsity"),
        ("csp_yolo1/quote/prune_v2/64", "circuit", "viz/csp_yolo1/quote/prune_v2/64"),
        ("viz/csp_yolo1/quote/prune_v2/k_optim", "circuit", "viz/csp_yolo1/quote/prune_v2/k_optim"),
    ],
)
def test_what_names_mean(text: str, kind: str, place: str) -> None:
    name = parse(text)
    assert name is not None
    assert (name.kind, name.place) == (kind, place)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "runs",
            "../csp_yolo2",
            "csp_yolo2/",
            "csp_yolo2/..",
            "/etc/passwd",
            "a/../b",
            "a/b/c",
            "a//b",
        ),
        *("csp_yolo1/../../x", "csp_yolo1/t/s/..", "csp_\n", "../hub", "./runs", "a/b\n"),
    ],
)
def test_paths_are_no_names(text: str) -> None:
    assert parse(text) is None


def test_a_released_model_is_found_in_the_cache(cache: Path) -> None:
    assert find("csp_yolo2") is None
    with pytest.raises(InputError, match="`sparse-circuits import csp_yolo2 --download --out FOLDER` fetches it"):
        checkpoint.load("csp_yolo2")
    openai.write(randomised(small(), dtype=torch.float32), cache / "models" / "csp_yolo2")
    assert checkpoint.load("csp_yolo2").folder == cache / "models" / "csp_yolo2"
    openai.write(randomised(small(n_layer=1), dtype=torch.float32), Path("csp_yolo2"))
    assert checkpoint.load("csp_yolo2").config.n_layer == 1, "a folder of that name comes first"


def test_what_the_hub_has_fetched_is_found(cache: Path, tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "models--openai--circuit-sparsity"
    (kept / "refs").mkdir(parents=True)
    assert find("openai/circuit-sparsity") is None
    (kept / "refs" / "main").write_text("abc123\n")
    assert find("openai/circuit-sparsity") is None
    (kept / "snapshots" / "abc123").mkdir(parents=True)
    (kept / "snapshots" / "abc123" / "config.json").write_text("{}")
    assert find("openai/circuit-sparsity") == kept / "snapshots" / "abc123"
    (kept / "refs" / "main").write_text("../../elsewhere")
    assert find("openai/circuit-sparsity") is None


def test_nothing_is_fetched_unless_that_is_said(cache: Path, web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    base = f"{web.address}/tree"
    assert main(["import", SWEEP, "--out", "model", "--base", base]) == 2
    assert "--download --out FOLDER` fetches it" in capsys.readouterr().err
    assert web.asked == []
    assert main(["import", SWEEP, "--out", "model", "--base", base, "--download"]) == 0
    out = capsys.readouterr().out
    assert f"final_model.pt  {len(web.files[f'/tree/models/{SWEEP}/final_model.pt']):,} bytes  sha256 " in out
    assert "(md5 as the server says)" in out
    assert "openai -> native" in out
    assert sorted(path.name for path in (cache / "models" / SWEEP).iterdir()) == ["beeg_config.json", "final_model.pt"]
    model = checkpoint.load("model")
    assert checkpoint.model_hash(model) == checkpoint.model_hash(checkpoint.load(SWEEP))
    web.asked.clear()
    assert main(["import", SWEEP, "--out", "again", "--base", base, "--download", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fetched"] == {}
    assert web.asked == []


def test_a_model_is_none_before_all_of_it_is_there(cache: Path, web: Web) -> None:
    del web.files[f"/tree/models/{SWEEP}/beeg_config.json"]
    with pytest.raises(InputError, match=r"beeg_config\.json: the server has no such file"):
        fetch_named(SWEEP, f"{web.address}/tree/", HASTY)
    assert (cache / "models" / SWEEP / "final_model.pt").exists()
    assert find(SWEEP) is None
    web.files[f"/tree/models/{SWEEP}/beeg_config.json"] = b"{}"
    web.asked.clear()
    _, files = fetch_named(SWEEP, f"{web.address}/tree/", HASTY)
    assert files["final_model.pt"].checked == "fetched before"
    assert [path.rsplit("/", 1)[1] for path, _ in web.asked] == ["beeg_config.json"]
    assert find(SWEEP) is not None


@pytest.mark.parametrize("pair", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_a_tokenizer_in_two_files_comes_along(pair: tuple[str, str], cache: Path, web: Web) -> None:
    names_there = ("model.safetensors", "config.json", *pair)
    web.files = {f"/owner/name/resolve/main/{name}": name.encode() for name in names_there}
    _, files = fetch_named("owner/name", web.address, HASTY)
    assert set(files) == set(names_there)


def test_a_circuit_is_fetched_by_its_path(cache: Path, web: Web) -> None:
    web.files["/tree/viz/csp_yolo1/quote/prune_v2/64/viz_data.pt"] = b"circuit"
    path, files = fetch_named("csp_yolo1/quote/prune_v2/64", f"{web.address}/tree", HASTY)
    assert path == cache / "viz/csp_yolo1/quote/prune_v2/64/viz_data.pt"
    assert (path.read_bytes(), list(files)) == (b"circuit", ["viz_data.pt"])
    assert find("csp_yolo1/quote/prune_v2/64") == path


@pytest.mark.parametrize("sharded", [True, False])
def test_a_model_of_the_hub_is_fetched_whole(sharded: bool, cache: Path, web: Web) -> None:
    root = "/owner/name/resolve/main"
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    weights = {"model.safetensors": b"w"}
    if sharded:
        weights = {"model-1.safetensors": b"1", "model-2.safetensors": b"2"}
        weights["model.safetensors.index.json"] = json.dumps(index).encode()
    web.files = {f"{root}/{name}": content for name, content in weights.items()}
    web.files |= {f"{root}/config.json": b"{}", f"{root}/tokenizer.json": b"{}"}
    folder, files = fetch_named("owner/name", web.address, HASTY)
    assert folder == cache / "hub" / "owner" / "name" == find("owner/name")
    assert set(files) == {*weights, "config.json", "tokenizer.json"}
    assert all((folder / name).read_bytes() == content for name, content in weights.items())


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"weight_map": {"a": "../../evil"}}', b'{"weight_map": []}', b"{"])
def test_shards_with_odd_names_are_not_asked_for(content: bytes, cache: Path, web: Web) -> None:
    web.files = {"/owner/name/resolve/main/model.safetensors.index.json": content}
    with pytest.raises(InputError):
        fetch_named("owner/name", web.address, HASTY)
    assert not any("evil" in path for path, _ in web.asked)


def test_names_of_nothing_are_refused(cache: Path, web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="is no name of anything released; expected one like csp_yolo2"):
        fetch_named("../x", web.address)
    assert main(["import", "nowhere", "--out", "x", "--download"]) == 2
    assert "there is no nowhere, and it is no name of anything released" in capsys.readouterr().err
    with pytest.raises(InputError, match="the server has none of"):
        fetch_named("owner/name", web.address, HASTY)
    assert names.cache_folder() == cache


def test_the_cache_is_where_the_system_keeps_such_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPARSE_CIRCUITS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert names.cache_folder() == tmp_path / "sparse-circuits"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert names.cache_folder() == Path.home() / ".cache" / "sparse-circuits"
