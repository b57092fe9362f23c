"""Training by several real processes, as torchrun starts them: the model of one, stopped and resumed, and refusals."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import flags, log_of, settings

from sparse_circuits import checkpoint
from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.config import GPTConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.distributed import ALONE, Group, joined
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.process import is_first
from sparse_circuits.train import train

REPOSITORY = Path(__file__).parents[1]
STEPS = 40


LAUNCH = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "sparse_circuits",
]


def command(config: TrainConfig, *more: str) -> list[str]:
    """What a shell would run for two processes."""
    return [*LAUNCH, "train", *(more or flags(config))]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(arguments, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=300)


def kill_all(word: str) -> None:
    """SIGKILL every process with `word` on its command line: the launcher's own would go on without it."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (folder / "cmdline").read_text():
                os.kill(int(folder.name), signal.SIGKILL)


def small(corpus: PackedCorpus, out: Path) -> TrainConfig:
    return settings(corpus, out, STEPS, loop={"precision": "fp32"}, eval_every=5, checkpoint_seconds=0.0001)


@pytest.fixture(scope="module")
def together(packed_corpus: PackedCorpus, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run of two processes, never stopped."""
    config = small(packed_corpus, tmp_path_factory.mktemp("together") / "run")
    finished = run(command(config))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("validation loss") == 1, "one process talks"
    return config


def test_two_processes_train_the_model_of_one(
    together: TrainConfig, packed_corpus: PackedCorpus, tmp_path: Path
) -> None:
    alone = train(small(packed_corpus, tmp_path / "alone"), progress=False)
    model = checkpoint.load(together.out)
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert int(ours.count_nonzero()) == int(theirs.count_nonzero()), name
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    for ours_line, line in zip(log_of(together.out), log_of(tmp_path / "alone"), strict=True):
        assert ours_line == pytest.approx(line, rel=1e-3)


def test_killed_and_resumed_they_end_with_the_same_bits(
    together: TrainConfig, packed_corpus: PackedCorpus, tmp_path: Path
) -> None:
    config = small(packed_corpus, tmp_path / "run")
    process = subprocess.Popen(
        command(config),
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (config.out / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    kill_all(str(config.out))
    process.wait()
    assert (config.out / "checkpoint.safetensors").exists(), "killed on the way"
    finished = run(command(config, "--resume", "--out", str(config.out)))
    assert finished.returncode == 0, finished.stderr
    assert (config.out / "model.safetensors").read_bytes() == (together.out / "model.safetensors").read_bytes()
    assert log_of(config.out) == log_of(together.out)


def test_what_cannot_be_shared_out_is_told_once(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = dataclasses.replace(small(packed_corpus, tmp_path / "run"), batch_size=7)
    refused = run(command(config))
    assert refused.returncode != 0
    said = [line for line in refused.stderr.splitlines() if line.startswith("sparse-circuits:")]
    assert said == ["sparse-circuits: a batch of 7 cannot be shared by 2 processes; make it a multiple"]
    assert refused.stderr.count("Traceback (most recent call last)") == 1, "the launcher's own"
    assert not config.out.exists()


def test_a_bridge_is_trained_by_two_processes(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    dense = GPT(GPTConfig(vocab_size=300, block_size=32, n_layer=1, d_model=12, n_head=2, abs_topk=None), seed=5)
    dense.tokenizer = packed_corpus.tokenizer
    checkpoint.save(dense, tmp_path / "dense")
    given = ["--dense", tmp_path / "dense", "--corpus", packed_corpus.folder, "--out", tmp_path / "run", "--n-layer", 1]
    given += ["--block-size", 32, "--d-model", 16, "--n-head", 2, "--steps", 4, "--batch-size", 4, "--eval-tokens", 64]
    given += ["--learning-rate", 0.001, "--density", 0.5]
    finished = run([*LAUNCH, "bridge", *map(str, given), "--check-tokens", "64"])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("the worst hybrid pass is") == 1, "one process talks"
    assert finished.stderr.count("passes of the sparse model") == 1
    assert Bridge.load(tmp_path / "run").sparse.config.d_model == 16
    assert [line["step"] for line in log_of(tmp_path / "run")] == [1, 4]


def test_one_process_is_a_group_too() -> None:
    tensors = [torch.ones(3), torch.zeros(2, 2)]
    ALONE.average_(tensors)
    assert tensors[0].tolist() == [1, 1, 1]
    assert ALONE.total(1.5, 2.0) == [1.5, 2.0]
    assert ALONE.told(lambda: "here") == "here"
    assert ALONE.rows(7) == slice(0, 7)
    ALONE.check_same(tensors)


def test_rows_are_shared_out_evenly() -> None:
    shares = [Group(rank, 4).rows(12) for rank in range(4)]
    assert [row for share in shares for row in range(12)[share]] == list(range(12))
    with pytest.raises(InputError, match="a batch of 10 cannot be shared by 4 processes"):
        Group(0, 4).rows(10)


def test_processes_that_drift_apart_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reduction is stood in for by one with a process that holds something else, or the same."""

    def reduce_with(other: torch.Tensor) -> None:
        def all_reduce(tensor: torch.Tensor, operation: object) -> None:
            tensor.copy_(torch.maximum(tensor, torch.cat([other, -other]).nan_to_num(nan=torch.inf)))

        monkeypatch.setattr("sparse_circuits.distributed.distributed.all_reduce", all_reduce)

    group, held = Group(0, 2), [torch.ones(4), torch.tensor([2.0])]
    reduce_with(torch.tensor([4.0, 2.0], dtype=torch.float64))
    group.check_same(held)
    for other in ([4.0, 2.5], [3.5, 2.0], [4.0, float("nan")]):
        reduce_with(torch.tensor(other, dtype=torch.float64))
        with pytest.raises(Diverged, match="no longer hold the same weights"):
            group.check_same(held)


def test_a_process_without_a_window_of_its_own_adds_nothing(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(packed_corpus, tmp_path)
    model = GPT(dataclasses.replace(config.model, vocab_size=packed_corpus.tokenizer.vocab_size))
    alone = Pretraining(model, packed_corpus, config).validation_loss(32)
    shares: list[tuple[float, ...]] = []

    def total(group: Group, *numbers: float) -> list[float]:
        shares.append(numbers)
        return [sum(each) for each in zip(*shares, strict=True)]

    monkeypatch.setattr(Group, "total", total)
    found = [Pretraining(model, packed_corpus, config, Group(rank, 2)).validation_loss(32) for rank in range(2)]
    assert found == [alone, alone]
    assert shares[1] == (0, 0)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'; it must be a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "", "LOCAL_RANK": ""}, "RANK is ''; it must be a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK is 2, of 2 processes"),
    ],
)
def test_half_an_environment_of_a_launcher_is_told(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message), joined():
        pass


def test_one_process_talks_whatever_number_its_environment_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_first()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_first()
