"""When a function is recorded and replayed; what a GPU makes of it, `benchmarks/cuda_graphs.py` says."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch

from sparse_circuits.kernels.graphs import ENVIRONMENT, Recorder


class Tape:
    """Stands in for a CUDA graph: the functions that were called while it recorded."""

    recording: "Tape | None" = None
    replays = 0

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def replay(self) -> None:
        Tape.replays += 1
        for call in self.calls:
            call()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder[list[int]]:
    @contextlib.contextmanager
    def record(tape: Tape) -> Iterator[None]:
        Tape.recording = tape
        try:
            yield
        finally:
            Tape.recording = None

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(Tape, "replays", 0)
    return Recorder()


class Work:
    """Counts how often its launch runs: at once, or when the graph that has recorded it is replayed."""

    def __init__(self) -> None:
        self.done = [0]

    def __call__(self) -> list[int]:
        def launch() -> None:
            self.done[0] += 1

        if Tape.recording is None:
            launch()
        else:
            Tape.recording.calls.append(launch)
        return self.done


def test_the_first_call_is_plain_and_later_ones_are_replayed(recorder: Recorder[list[int]]) -> None:
    work = Work()
    assert [recorder("key", work)[0] for _ in range(4)] == [1, 2, 3, 4]
    assert Tape.replays == 3


def test_another_key_begins_anew(recorder: Recorder[list[int]]) -> None:
    first, second = Work(), Work()
    for key, work in (("a", first), ("a", first), ("b", second), ("b", second), ("a", first), ("a", first)):
        recorder(key, work)
    assert (first.done, second.done, Tape.replays) == ([4], [2], 3)


def test_not_where_it_is_switched_off(recorder: Recorder[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "0")
    work = Work()
    assert [recorder("key", work)[0] for _ in range(3)] == [1, 2, 3]
    assert Tape.replays == 0


def test_what_cannot_be_recorded_is_run_as_it_is(recorder: Recorder[list[int]]) -> None:
    work = Work()

    def stubborn() -> list[int]:
        if Tape.recording is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return work()

    recorder("key", stubborn)
    with pytest.warns(UserWarning, match="cannot be a CUDA graph, and is slower without: operation not permitted"):
        assert recorder("key", stubborn) == [2]
    assert recorder("key", stubborn) == [3]
    assert Tape.replays == 0
