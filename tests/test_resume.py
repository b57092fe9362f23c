"""A run stopped anywhere, by Ctrl-C or by SIGKILL, ends with the bits of one never stopped."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import STEPS, Finished, ctrl_c, flags, interrupt_after, log_of, settings

from sparse_circuits.__main__ import main
from sparse_circuits.checkpoint import read_tensors, write_tensors
from sparse_circuits.config import SparsityConfig, TrainConfig
from sparse_circuits.corpus.build import build_corpus
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import InputError
from sparse_circuits.fields import to_json
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.train import train

pytestmark = pytest.mark.usefixtures("one_thread")

REPOSITORY = Path(__file__).parents[1]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"tied_embeddings": True},
    {"positions": "learned"},
    {"positions": "sinusoidal_concat", "d_position": 4},
    {"bigram_table": "fixed"},
    {"bigram_table": "none", "norm": "layer", "norm_bias": True, "bias": False, "sink": False},
]


@pytest.mark.parametrize("model", VARIANTS, ids=lambda model: "-".join(map(str, model.values())) or "default")
def test_an_interrupted_run_ends_with_the_same_bits(
    model: dict[str, Any], packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (
        settings(packed_corpus, tmp_path / name, 4, model=model, bigram_start="counts", eval_every=1, eval_tokens=64)
        for name in ("whole", "parts")
    )
    handler = signal.getsignal(signal.SIGINT)
    train(whole, progress=False)
    with monkeypatch.context() as patched:
        interrupt_after(2, patched, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(parts, progress=False)
    assert int(read_tensors(parts.out / "checkpoint.safetensors")[0]["step"]) == 2
    train(parts, resume=True, progress=False)
    assert (parts.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert log_of(parts.out) == log_of(whole.out)
    assert not (parts.out / "checkpoint.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is handler, "Ctrl-C is the caller's again"


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_run_with_sparse_products_and_amortised_gradients_ends_with_the_same_bits(
    stop: int, packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before and after a dense step, and between live ones."""
    monkeypatch.setattr("sparse_circuits.pretraining.worthwhile", lambda rows, columns, density, *_: density < 0.5)
    changes = {"model": {"tied_embeddings": True}, "dw": "amortized", "dw_every": 3, "eval_tokens": 64}
    sparsity = SparsityConfig(density=0.25, sparse_biases=True, density_start=0.0, density_end=0.9)
    whole, parts = (
        settings(packed_corpus, tmp_path / name, 6, sparsity=sparsity, **json.loads(json.dumps(changes)))
        for name in ("whole", "parts")
    )
    train(whole, progress=False)
    with monkeypatch.context() as patched:
        interrupt_after(stop, patched, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(parts, progress=False)
    train(parts, resume=True, progress=False)
    assert (parts.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert log_of(parts.out) == log_of(whole.out)


def test_what_a_kill_left_half_written_is_cleared_away(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(packed_corpus, tmp_path / "run", steps=20)
    with monkeypatch.context() as patched:
        interrupt_after(10, patched, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(config, progress=False)
    for name in (".checkpoint.safetensors.abc.tmp", ".model.safetensors.abc.tmp"):
        (config.out / name).mkdir()
        (config.out / name / ".of_a_library").write_bytes(b"half")
    with open(config.out / "progress.jsonl", "a") as log:
        log.write('{"step": 12, "loss": 9.9}\n{"step": 1')
    train(config, resume=True, progress=False)
    assert [line["step"] for line in log_of(config.out)] == [1, 10, 20]
    assert all(line["loss"] != 9.9 for line in log_of(config.out))
    assert not list(config.out.glob("*.tmp"))
    assert not list(config.out.glob(".*.tmp"))


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (settings(packed_corpus, tmp_path / name, steps=4) for name in ("whole", "killed"))
    train(whole, progress=False)

    def die() -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        interrupt_after(3, patched, die)
        with pytest.raises(RuntimeError):
            train(killed, progress=False)
    assert not (killed.out / "checkpoint.safetensors").exists()
    train(killed, resume=True, progress=False)
    assert (killed.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert log_of(killed.out) == log_of(whole.out)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_finished_by_another_process_meanwhile_is_left_alone(
    resume: bool, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(finished.config, out=tmp_path / "run")
    if resume:
        interrupted(config, monkeypatch)
    look = PackedCorpus.load

    def meanwhile(folder: Path) -> PackedCorpus:
        shutil.copytree(finished.config.out, config.out, dirs_exist_ok=True)
        return look(folder)

    monkeypatch.setattr(PackedCorpus, "load", meanwhile)
    with pytest.raises(InputError, match="is finished" if resume else "already holds a finished model"):
        train(config, resume=resume, progress=False)
    assert (config.out / "model.safetensors").read_bytes() == finished.model_bytes


def test_what_a_forgotten_run_left_does_not_leak_into_a_new_one(
    finished: Finished, packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(finished.config, out=tmp_path / "run")
    interrupted(dataclasses.replace(config, loop=dataclasses.replace(config.loop, seed=1)), monkeypatch)
    (config.out / "train.json").unlink()
    train(config, progress=False)
    assert (config.out / "model.safetensors").read_bytes() == finished.model_bytes
    assert log_of(config.out) == log_of(finished.config.out)


def test_a_full_disk_stops_the_run_in_one_line_and_it_goes_on_when_there_is_space(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(finished.config, out=tmp_path / "run")
    interrupted(config, monkeypatch)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((config.out / "progress.jsonl").stat().st_size + 1, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*progress\.jsonl: .*; free space, then continue"):
            train(config, resume=True, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    train(config, resume=True, progress=False)
    assert (config.out / "model.safetensors").read_bytes() == finished.model_bytes
    assert log_of(config.out) == log_of(finished.config.out)


KILLER = """
import json, os, random, signal, sys, time, traceback
import torch
torch.set_num_threads(1)
from sparse_circuits.config import TrainConfig
from sparse_circuits.fields import from_json
from sparse_circuits.train import train

config = from_json(TrainConfig, json.loads(sys.argv[1]), "argument")
at_most = int(sys.argv[2])
moments = random.Random(0)
kills = 0
ended = os.WEXITED | os.WNOHANG | os.WNOWAIT


def written():
    path = config.out / "checkpoint.safetensors"
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


while True:
    child = os.fork()
    if child == 0:
        try:
            train(config, resume=(config.out / "train.json").exists(), progress=False)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if kills < at_most:
        # The first before there is a checkpoint, the others soon after one of this child's own.
        before = written()
        while kills and written() == before and os.waitid(os.P_PID, child, ended) is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        break
    kills += 1
print(kills)
sys.exit(status)
"""


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(finished: Finished, tmp_path: Path) -> None:
    config = dataclasses.replace(finished.config, out=tmp_path / "killed", checkpoint_seconds=0.02)
    arguments = [json.dumps(to_json(config)), "4"]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2
    assert (config.out / "model.safetensors").read_bytes() == finished.model_bytes
    assert log_of(config.out) == log_of(finished.config.out)
    visible = sorted(path.name for path in config.out.iterdir() if path.name != ".lock")
    assert visible == ["config.json", "model.safetensors", "progress.jsonl", "tokenizer.json", "train.json"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def test_ctrl_c_on_the_command_line_leaves_a_checkpoint_and_resume_ends_with_the_same_bits(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "sparse_circuits", "train"]
    config = finished.config
    given = flags(dataclasses.replace(config, out=out))
    with subprocess.Popen(
        command + given, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        log = out / "progress.jsonl"
        while running.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process is writing to"):
            train(dataclasses.replace(config, out=out), resume=True, progress=False)
        running.send_signal(signal.SIGINT)
        printed, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert printed == ""
    stopped = int(read_tensors(out / "checkpoint.safetensors")[0]["step"])
    assert f"stopped after step {stopped}; continue with --resume --out {out}" in told
    assert "Traceback" not in told
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == STEPS * 8 * 32
    assert (out / "model.safetensors").read_bytes() == finished.model_bytes
    assert log_of(out) == log_of(config.out)


def interrupted(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        interrupt_after(1, patched, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(config, progress=False)


def test_a_corpus_that_has_moved_is_named(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(finished.config.corpus, here)
    config = dataclasses.replace(finished.config, corpus=here, out=tmp_path / "run")
    interrupted(config, monkeypatch)
    here.rename(there)
    with pytest.raises(InputError, match=f"no corpus in {here}"):
        train(TrainConfig(out=config.out), resume=True, progress=False)
    train(TrainConfig(out=config.out, corpus=there), resume=True, progress=False)
    assert (config.out / "model.safetensors").read_bytes() == finished.model_bytes


def test_a_corpus_rebuilt_with_another_tokenizer_cannot_be_resumed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(seed: int, vocab_size: int) -> PackedCorpus:
        build_corpus(
            CorpusConfig(out=tmp_path / "corpus", idioms=0.05, vocab_size=vocab_size, seed=seed, overwrite=True),
            progress=False,
        )
        return PackedCorpus.load(tmp_path / "corpus")

    config = settings(build(seed=0, vocab_size=280), tmp_path / "run", steps=4)
    interrupted(config, monkeypatch)
    for seed, vocab_size in ((0, 290), (1, 280)):
        build(seed, vocab_size)
        with pytest.raises(InputError, match=r"is not the one the run in .* was started on"):
            train(config, resume=True, progress=False)
    build(seed=0, vocab_size=280)
    train(config, resume=True, progress=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "train.json is not valid JSON"),
        ("[]", "expected format 1"),
        ('{"format": 9}', "expected format 1"),
        ('{"format": 1}', "bigram_loss is missing"),
        ('{"format": 1, "bigram_loss": 2.0}', "expected a JSON object for TrainConfig"),
        ('{"format": 1, "bigram_loss": 2.0, "config": {"stps": 1}}', "unknown key 'stps'"),
    ],
)
def test_a_damaged_description_is_refused(
    content: str, message: str, packed_corpus: PackedCorpus, tmp_path: Path
) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(InputError, match=message):
        train(settings(packed_corpus, tmp_path), resume=True, progress=False)


def test_a_damaged_checkpoint_is_refused_by_name(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(packed_corpus, tmp_path / "run", steps=3)
    interrupted(config, monkeypatch)
    path = config.out / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cannot read .*checkpoint\.safetensors"):
        train(config, resume=True, progress=False)


def test_ctrl_c_in_the_closing_measurement_loses_no_step(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (settings(packed_corpus, tmp_path / name, 3, eval_tokens=64) for name in ("whole", "parts"))
    train(whole, progress=False)
    with monkeypatch.context() as patched:
        patched.setattr(Pretraining, "validation_loss", lambda *_: ctrl_c())
        with pytest.raises(KeyboardInterrupt):
            train(parts, progress=False)
    assert int(read_tensors(parts.out / "checkpoint.safetensors")[0]["step"]) == 3
    train(parts, resume=True, progress=False)
    assert (parts.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert log_of(parts.out) == log_of(whole.out)


DAMAGED_STATES: list[tuple[dict[str, torch.Tensor], dict[str, str], str]] = [
    ({"exp_avg.ln_f.weight": torch.zeros(2)}, {}, r"ln_f.weight has shape \(2,\), the model's \(16,\)"),
    ({"step": torch.tensor([1, 2])}, {}, r"step is none of 0\.\.4"),
    ({"step": torch.tensor(-1)}, {}, r"step is none of 0\.\.4"),
    ({"step": torch.tensor(5)}, {}, r"step is none of 0\.\.4"),
    ({}, {"seconds": "soon"}, "its seconds are no number"),
]


@pytest.mark.parametrize(("tensors", "metadata", "message"), DAMAGED_STATES)
def test_a_damaged_checkpoint_is_told_in_one_line(
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str],
    message: str,
    packed_corpus: PackedCorpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = settings(packed_corpus, tmp_path / "run", 4)
    interrupt_after(2, monkeypatch, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        train(run, progress=False)
    state, described = read_tensors(run.out / "checkpoint.safetensors")
    write_tensors(run.out / "checkpoint.safetensors", state | tensors, described | metadata)
    with pytest.raises(InputError, match=message):
        train(run, resume=True, progress=False)


@pytest.mark.parametrize("line", [b"[1, 2]\n", b"5\n", b"\xff\xfe\x00"])
def test_an_odd_line_ends_the_log_that_is_kept(
    line: bytes, packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = settings(packed_corpus, tmp_path / "run", 4)
    with monkeypatch.context() as patched:
        interrupt_after(2, patched, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            train(run, progress=False)
    with open(run.out / "progress.jsonl", "ab") as log:
        log.write(line)
    train(run, resume=True, progress=False)
    assert [entry["step"] for entry in log_of(run.out)] == [1, 4]
