"""What a person sees while something long runs: a live bar on a terminal, a line now and then elsewhere.

Everything goes to standard error, so that standard output holds results only.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 15.0
"""Seconds between lines where standard error is not a terminal."""

Watcher = Callable[[str, int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Have `watcher(title, done, total)` called at every update of every bar inside; what it raises ends the work."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


class Bar:
    """A progress bar: `with Bar("train", 400) as bar: bar.update(step, "loss 2.1")`.

    Args:
        title: one word for the work.
        total: how many units it has.
        show: False shows nothing.
    """

    def __init__(self, title: str, total: int, show: bool = True):
        self._title, self._total, self._show = title, total, show
        self._live: Progress | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> "Bar":
        if self._show and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
            )
            self._live = Progress(*columns, console=Console(stderr=True), transient=True)
            self._live.start()
            self._task = self._live.add_task(self._title, total=self._total, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, done: int, text: str = "") -> None:
        """Say that `done` units are done."""
        watcher = _watcher.get()
        if watcher is not None:
            watcher(self._title, done, self._total)
        if self._live is not None:
            self._live.update(self._task, completed=done, text=text)
        elif self._show and time.monotonic() - self._last_line >= QUIET_SECONDS:
            self._last_line = time.monotonic()
            print(f"{self._title} {done}/{self._total} {text}".rstrip(), file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print one line that stays, above the bar."""
        if self._live is not None:
            self._live.console.print(line, highlight=False, markup=False)
        elif self._show:
            print(line, file=sys.stderr, flush=True)
