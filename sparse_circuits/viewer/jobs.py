"""Long work for the server: jobs one at a time, in order, with progress, and each can be cancelled."""

import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.progress import watched

MOST_WAITING = 8
MOST_REMEMBERED = 50


class Cancelled(Exception):
    """Raised inside a job that is to end."""


@dataclass
class Job:
    """One piece of work and how far it is."""

    number: int
    title: str
    work: Callable[[], Any]
    state: str = "waiting"
    """waiting, running, done, failed or cancelled."""
    stage: str = ""
    done: int = 0
    total: int = 0
    result: Any = None
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def described(self) -> dict[str, Any]:
        """What the page is told."""
        names = ("number", "title", "state", "stage", "done", "total", "result", "error")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """A queue and the one thread that works on it. The thread ends with the process."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="jobs")
        self._thread.start()

    def add(self, title: str, work: Callable[[], Any]) -> Job:
        """Put `work` at the end of the queue.

        Raises:
            InputError: too many wait already.
        """
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} jobs wait already; cancel one or wait")
            job = Job(next(self._numbers), title, work)
            self._jobs[job.number] = job
            over = [number for number, old in self._jobs.items() if old.state not in ("waiting", "running")]
            for number in over[: max(0, len(self._jobs) - MOST_REMEMBERED)]:
                del self._jobs[number]
        self._queue.put(job)
        return job

    def get(self, number: int) -> Job:
        """The job of that number.

        Raises:
            InputError: there is none.
        """
        if number not in self._jobs:
            raise InputError(f"there is no job {number}")
        return self._jobs[number]

    def all(self) -> list[Job]:
        """Every job that is remembered, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def cancel(self, number: int) -> Job:
        """End a job at its next sign of progress, or take it out of the queue."""
        job = self.get(number)
        job.stop.set()
        if job.state == "waiting":
            job.state = "cancelled"
        return job

    def close(self) -> None:
        """Cancel everything; returns when the thread has ended."""
        for job in self.all():
            job.stop.set()
        self._queue.put(None)
        self._thread.join(30)

    def _serve(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            if job.stop.is_set():
                job.state = "cancelled"
                continue
            self._do(job)

    @staticmethod
    def _do(job: Job) -> None:
        def watch(stage: str, done: int, total: int) -> None:
            job.stage, job.done, job.total = stage, done, total
            if job.stop.is_set():
                raise Cancelled

        job.state = "running"
        try:
            with watched(watch):
                job.result = job.work()
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except (InputError, Diverged) as error:
            job.state, job.error = "failed", str(error)
        except Exception as error:
            job.state, job.error = "failed", f"{type(error).__name__}: {error}"
