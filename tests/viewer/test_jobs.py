"""Jobs run one at a time, in order; they say how far they are and can be ended."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.progress import Bar
from sparse_circuits.viewer.jobs import MOST_WAITING, Job, Jobs


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    found = Jobs()
    yield found
    found.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finished(job: Job) -> bool:
    return job.state not in ("waiting", "running")


def test_one_at_a_time_and_in_order(jobs: Jobs) -> None:
    seen: list[str] = []
    running = threading.Semaphore(1)

    def work(name: str) -> Callable[[], str]:
        def done() -> str:
            assert running.acquire(blocking=False), "two jobs at once"
            seen.append(name)
            running.release()
            return name

        return done

    added = [jobs.add(name, work(name)) for name in "abc"]
    until(lambda: all(map(finished, added)))
    assert seen == ["a", "b", "c"]
    assert [job.result for job in added] == ["a", "b", "c"]
    assert [job.number for job in jobs.all()] == [1, 2, 3]


def test_bars_of_the_work_are_its_progress(jobs: Jobs) -> None:
    going, seen = threading.Event(), threading.Event()

    def work() -> None:
        with Bar("masks", 10, False) as bar:
            bar.update(4)
            seen.set()
            going.wait(60)

    job = jobs.add("x", work)
    assert seen.wait(60)
    assert (job.stage, job.done, job.total, job.state) == ("masks", 4, 10, "running")
    going.set()
    until(lambda: finished(job))
    assert job.described()["state"] == "done"


def test_cancelling_ends_what_runs_and_drops_what_waits(jobs: Jobs) -> None:
    seen = threading.Event()

    def work() -> None:
        with Bar("masks", 10, False) as bar:
            while True:
                bar.update(1)
                seen.set()
                time.sleep(0.005)

    running, waiting = jobs.add("runs", work), jobs.add("waits", lambda: None)
    assert seen.wait(60)
    assert jobs.cancel(waiting.number).state == "cancelled"
    jobs.cancel(running.number)
    until(lambda: finished(running))
    assert running.state == "cancelled"
    after = jobs.add("after", lambda: 3)
    until(lambda: finished(after))
    assert after.result == 3
    assert waiting.state == "cancelled"


def test_what_fails_says_why_and_the_next_one_runs(jobs: Jobs) -> None:
    def wrong() -> None:
        raise InputError("the model cannot")

    def broken() -> None:
        raise ZeroDivisionError("oh")

    first, second, third = jobs.add("a", wrong), jobs.add("b", broken), jobs.add("c", lambda: 1)
    until(lambda: finished(third))
    assert (first.state, first.error) == ("failed", "the model cannot")
    assert second.error == "ZeroDivisionError: oh"
    assert third.state == "done"


def test_the_queue_is_bounded(jobs: Jobs) -> None:
    go = threading.Event()
    jobs.add("first", lambda: go.wait(60))
    until(lambda: jobs.get(1).state == "running")
    for number in range(MOST_WAITING):
        jobs.add(str(number), lambda: None)
    with pytest.raises(InputError, match="wait already"):
        jobs.add("more", lambda: None)
    with pytest.raises(InputError, match="there is no job 99"):
        jobs.cancel(99)
    go.set()
