"""Hostile and broken files are refused in one line: no crash, no hang, no code run, no memory eaten."""

import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from mutations import mutate, mutate_json, mutate_torch
from small_models import randomised, small
from viz_files import released

from sparse_circuits import checkpoint
from sparse_circuits.errors import InputError
from sparse_circuits.files import read_json
from sparse_circuits.formats import gpt2_pair, hub, openai, tiktoken_ranks, viz_data
from sparse_circuits.formats.openai_config import Seen, from_released, to_released
from sparse_circuits.formats.tensor_files import read_state, read_torch
from sparse_circuits.formats.tokenizers import read_tokenizer
from sparse_circuits.model import GPT
from sparse_circuits.storage import pack, unpack
from sparse_circuits.tokenizer import Tokenizer

LONGEST = 5.0
"""Seconds of processor time that any one file may take."""

Mutate = Callable[[bytes, random.Random], bytes]


class Target(NamedTuple):
    """A kind of file: how many of it are mutated, a sound one, what reads it."""

    count: int
    mutate: Mutate
    file: str
    read: Callable[[Path], object]


def _tiny() -> GPT:
    return randomised(small(n_layer=1, vocab_size=7, block_size=4, d_model=6, d_mlp=4), dtype=torch.float32)


STATE = {name: tensor.detach() for name, tensor in openai.model_to_released(_tiny())[1].items()}
SEEN = Seen(sink=True, positions=False)


def _described(folder: Path) -> object:
    return from_released(read_json(folder / "beeg_config.json"), SEEN, str(folder / "beeg_config.json"))


def _unpacked(path: Path) -> object:
    return unpack(checkpoint.read_tensors(path)[0], path)


def _few_sites(content: dict[str, Any]) -> dict[str, Any]:
    """A released circuit file cut down to two sites, so that thousands of it are read in seconds."""
    sites = ("0.attn.v", "0.attn.resid_delta")
    importances = content["importances"]

    def part(given: dict[str, Any]) -> dict[str, Any]:
        return {site: given[site] for site in sites}

    tokens, values = importances["task_samples"]
    content["samples"] = {
        site: {channel: {0.01: fractions[0.01]} for channel, fractions in channels.items()}
        for site, channels in part(content["samples"]).items()
    }
    blocks = [block for block in importances["pair_data"] if block[3] == sites]
    importances |= {"task_samples": (tokens, part(values)), "pair_data": blocks, "pair_data_connections": blocks}
    importances["ch_interv_losses"] = part(importances["ch_interv_losses"])
    del importances["task_samples_circuit"]
    return content | {"circuit_data": part(content["circuit_data"])}


TARGETS = {
    "tensors": Target(4000, mutate_torch, "few/final_model.pt", lambda f: read_state(f / "few", ["final_model"])),
    "released model": Target(200, mutate_torch, "openai/final_model.pt", lambda f: openai.read(f / "openai")),
    "released config": Target(2200, mutate_json, "openai/beeg_config.json", lambda f: _described(f / "openai")),
    "beeg_config.json": Target(200, mutate_json, "openai/beeg_config.json", lambda f: openai.read(f / "openai")),
    "viz_data.pt": Target(1500, mutate_torch, "viz_data.pt", lambda f: viz_data.read(f / "viz_data.pt")),
    "safetensors": Target(
        1300, mutate, "few/model.safetensors", lambda f: checkpoint.read_tensors(f / "few" / "model.safetensors")
    ),
    "model.safetensors": Target(300, mutate, "native/model.safetensors", lambda f: checkpoint.load(f / "native")),
    "stored in parts": Target(
        300, mutate, "parts/model.safetensors", lambda f: _unpacked(f / "parts" / "model.safetensors")
    ),
    "config.json": Target(200, mutate_json, "native/config.json", lambda f: checkpoint.load(f / "native")),
    "shards": Target(
        200, mutate_json, "shards/final_model.pt.index.json", lambda f: read_state(f / "shards", ["final_model"])
    ),
    "hub config.json": Target(300, mutate_json, "hub/config.json", lambda f: hub.read(f / "hub")),
    "hub model.safetensors": Target(100, mutate, "hub/model.safetensors", lambda f: hub.read(f / "hub")),
    "ranks": Target(500, mutate, "code.tiktoken", lambda f: read_tokenizer(f / "code.tiktoken")),
    "encoder.json": Target(150, mutate_json, "pair/encoder.json", lambda f: read_tokenizer(f / "pair")),
    "vocab.bpe": Target(150, mutate, "pair/vocab.bpe", lambda f: read_tokenizer(f / "pair")),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound file of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    model = _tiny()
    openai.write(model, folder / "openai")
    hub.write(model, folder / "hub")
    checkpoint.save(model, folder / "native")
    content = released(model, to_released(model.config), kept=1, pairs=1)
    torch.save(_few_sites(content), folder / "viz_data.pt")
    few = {"a": torch.ones(2, 3), "b": torch.nn.Parameter(torch.zeros(4)), "c": torch.zeros(2, dtype=torch.float16)}
    (folder / "few").mkdir()
    torch.save(few, folder / "few" / "final_model.pt")
    checkpoint.write_tensors(folder / "few" / "model.safetensors", few)
    (folder / "parts").mkdir()
    table = (torch.arange(260.0)[:, None] / 32 + torch.arange(260.0)).half().float()
    table[3, 5:9] = 0.125
    packed = pack({"bigram_table": table, "h.0.mlp.c_fc.weight": torch.eye(12)})
    assert set(packed) > {"bigram_table:row", "h.0.mlp.c_fc.weight:gaps"}
    checkpoint.write_tensors(folder / "parts" / "model.safetensors", packed)
    tokenizer = Tokenizer.train(["for x in range(10):\n    print(x)\n"] * 3, 262)
    tiktoken_ranks.write(tokenizer, folder / "code.tiktoken")
    for name in ("pair", "shards"):
        (folder / name).mkdir()
    gpt2_pair.write(tokenizer, folder / "pair")
    files = {name: f"final_model-{len(name) % 2}.pt" for name in STATE}
    for file in set(files.values()):
        torch.save({name: tensor for name, tensor in STATE.items() if files[name] == file}, folder / "shards" / file)
    (folder / "shards" / "final_model.pt.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


class _Watch:
    """Takes down what a reader of files has no business with, while it is on."""

    forbidden = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "os.remove")

    def __init__(self) -> None:
        self.on, self.seen = False, list[str]()
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and (event in self.forbidden or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))):
            self.seen.append(f"{event} {arguments}")


WATCH = _Watch()


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files_are_read_or_refused(name: str, sound: Path, unannotated: None) -> None:
    target = TARGETS[name]
    path = sound / target.file
    content = path.read_bytes()
    target.read(sound)
    dice, messages = random.Random(name), list[str]()
    WATCH.seen.clear()
    try:
        for number in range(target.count):
            changed = target.mutate(content, dice)
            path.write_bytes(changed)
            started = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                WATCH.on = True
                try:
                    target.read(sound)
                except InputError as error:
                    messages.append(str(error))
                finally:
                    WATCH.on = False
            assert time.process_time() - started < LONGEST, f"{name} {number}"
    finally:
        path.write_bytes(content)
    assert WATCH.seen == []
    assert not [message for message in messages if "\n" in message]
    assert len(messages) > target.count // 4


def test_ten_thousand_files_are_mutated() -> None:
    assert sum(target.count for target in TARGETS.values()) >= 10_000


# --- files made on purpose ---


class _Payload:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def repacked(content: bytes, change: Callable[[str, bytes], tuple[str, bytes]], compression: int = 0) -> bytes:
    """A `.pt` file with its members changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", compression) as new:
        for each in old.infolist():
            new.writestr(*change(each.filename, old.read(each)))
    return made.getvalue()


def saved(value: Any) -> bytes:
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


def assert_refused(content: bytes, folder: Path, message: str) -> None:
    path = folder / "file.pt"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=message) as refused:
        read_torch(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "it took memory (kB)"


def test_a_payload_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert_refused(saved({"a": _Payload(marker)}), tmp_path, "its pickle asks for '(posix|nt) system'")
    payload = pickle.dumps(_Payload(marker))
    assert_refused(payload, tmp_path, "it is no zip archive as torch.save writes them")
    inside = repacked(saved({"a": torch.ones(3)}), lambda name, part: (name, payload if "data.pkl" in name else part))
    assert_refused(inside, tmp_path, r"its pickle (asks for|uses STACK_GLOBAL)")
    old = io.BytesIO()
    torch.save({"a": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
    assert_refused(old.getvalue(), tmp_path, "it is no zip archive as torch.save writes them")
    assert not marker.exists()


def test_few_bytes_do_not_become_many(tmp_path: Path) -> None:
    bomb = repacked(saved({"a": torch.zeros(30_000_000)}), lambda name, part: (name, part), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    assert_refused(bomb, tmp_path, "its members are compressed")
    wide = torch.ones(1).expand(1_000_000, 1_000_000)
    assert_refused(saved({"a": wide}), tmp_path, "larger than what the file holds of it")
    base = torch.zeros(100_000)
    assert_refused(saved({str(n): base[n % 2 :] for n in range(40)}), tmp_path, "larger than what the file holds of it")


def test_billions_in_a_header_cost_nothing(tmp_path: Path) -> None:
    sound = saved({"a": torch.ones(3, 5)})
    billions = struct.pack("<i", 2**31 - 1)
    for number in (b"K\x03", b"K\x05", b"K\x0f"):
        changed = repacked(
            sound,
            lambda name, part, number=number: (name, part.replace(number, b"J" + billions)),  # type: ignore[misc]
        )
        assert changed != sound
        assert_refused(changed, tmp_path, "cannot read")
    for header in (2**63 - 1, 2**40, 10**9):
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", header) + b'{"a":1}')
        with pytest.raises(InputError, match="cannot read"):
            checkpoint.read_tensors(tmp_path / "model.safetensors")
    shape = b'{"a":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,4]}}'
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(shape)) + shape + bytes(4))
    with pytest.raises(InputError, match="cannot read"):
        checkpoint.read_tensors(tmp_path / "model.safetensors")


def test_a_config_of_billions_costs_nothing(tmp_path: Path) -> None:
    openai.write(_tiny(), tmp_path / "openai")
    checkpoint.save(_tiny(), tmp_path / "native")
    largest = 1 << 24
    for name in ("n_layer", "d_model", "n_head", "vocab_size", "d_mlp"):
        for folder, file, part in (("openai", "beeg_config.json", None), ("native", "config.json", "model")):
            path = tmp_path / folder / file
            before = path.read_text()
            described = json.loads(before)
            (described if part is None else described[part])[name] = largest
            path.write_text(json.dumps(described))
            started = time.process_time()
            with pytest.raises(InputError):
                checkpoint.load(tmp_path / folder)
            assert time.process_time() - started < LONGEST
            path.write_text(before)


def test_a_background_of_billions_costs_nothing(tmp_path: Path) -> None:
    """A number of each row and column stands for all entries."""
    count = 100_000
    tensors = {
        "bigram_table:row": torch.zeros(count),
        "bigram_table:column": torch.zeros(count),
        "bigram_table:values": torch.zeros(0),
        "bigram_table:gaps": torch.zeros(0, dtype=torch.int64),
        "bigram_table:shape": torch.tensor([count, count]),
    }
    checkpoint.write_tensors(tmp_path / "model.safetensors", tensors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=r"'bigram_table', stored in parts, is damaged \(.* more entries than"):
        _unpacked(tmp_path / "model.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "it took memory (kB)"


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    def elsewhere(name: str, part: bytes) -> tuple[str, bytes]:
        return name.replace("archive/data/", "../../../escaped/"), part

    assert_refused(repacked(saved({"a": torch.ones(3)}), elsewhere), tmp_path, "cannot read")
    assert not list(tmp_path.rglob("escaped*"))


def test_what_is_nested_within_itself_is_walked_once(tmp_path: Path) -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    (tmp_path / "ring.pt").write_bytes(saved({"circuit_data": {}, "prune_config": {"ring": ring}}))
    with pytest.raises(InputError, match="is no circuit file as released"):
        viz_data.read(tmp_path / "ring.pt")
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]
    (tmp_path / "deep.pt").write_bytes(saved({"circuit_data": {}, "prune_config": {"deep": deep}}))
    assert viz_data.read(tmp_path / "deep.pt").settings == {"deep": deep}


def test_special_files_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "final_model.pt")
    (tmp_path / "beeg_config.json").write_text("{}")
    with pytest.raises(InputError, match="no weights in"):
        checkpoint.load(tmp_path)
    checkpoint.save(_tiny(), tmp_path / "native")
    (tmp_path / "native" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "native" / "model.safetensors")
    with pytest.raises(InputError, match=r"it is no ordinary file|no model at"):
        checkpoint.load(tmp_path / "native")
