"""Do a sweep: whoever comes takes what nobody has done and nobody is doing.

1. Load the models and compute their ablation means, once.
2. Go through the cells, larger targets first. Claim a cell by locking its folder, find the circuit, write circuit and
   result, let go. A process that is killed lets go too, and its cell is as if it had never been begun.
3. Pass by what another process works on, and come back: it may die.

So any number of processes, on any machines that share the folder, do it together; one run again does what is missing.
(Where a file system has no locks, some work is done twice, with the same result.)
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.circuits.attribution import baseline
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.processes import together
from sparse_circuits.circuits.prune import prune
from sparse_circuits.circuits.subjects import Subject, subjects
from sparse_circuits.circuits.sweep.cells import FILE, FORMAT, Cell, cells_of
from sparse_circuits.circuits.sweep.config import SweepConfig
from sparse_circuits.circuits.sweep.summary import Row, Sweep
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import from_json, require, to_json
from sparse_circuits.files import claimed, write_json
from sparse_circuits.files import sweep as sweep_up
from sparse_circuits.progress import Bar

POLL_SECONDS = 0.25


def sweep(config: SweepConfig, workers: int = 1, progress: bool = False) -> Sweep:
    """Find all circuits of `config`, but for those that are in its folder already, and compare their sizes.

    Args:
        workers: processes at once on this machine; 1 works in this one.
        progress: show progress on standard error.

    Raises:
        InputError: an unknown model or task, no text for the means, results of other settings in the folder, or
            workers that died and left work undone.
    """
    require(workers >= 1, f"workers is {workers}; it must be at least 1")
    cells = cells_of(config, _subjects(config, progress))
    missing = [cell for cell in cells if cell.result() is None]
    with Bar("sweep", len(cells), progress) as bar:
        if workers > 1 and len(missing) > 1:
            _work_together(config, cells, min(workers, len(missing)), bar)
        else:
            _work(missing, bar, len(cells))
    results = [(cell.subject.name, cell.result()) for cell in cells]
    return Sweep([Row.of(name, result) for name, result in results if result is not None])


def work(told: Any) -> None:
    """What a worker process does: the cells of the `SweepConfig` in JSON that nobody else does."""
    config = from_json(SweepConfig, told, "the sweep's settings")
    cells = cells_of(config, _subjects(config))
    with Bar("sweep", len(cells), show=False) as bar:
        _work(cells, bar, len(cells))


def _subjects(config: SweepConfig, progress: bool = False) -> list[Subject]:
    return subjects(config.models, config.out, config.corpus, config.config.mean_tokens, progress)


def _work_together(config: SweepConfig, cells: Sequence[Cell], workers: int, bar: Bar) -> None:
    def watch() -> None:
        bar.update(sum((cell.folder / FILE).is_file() for cell in cells))

    statuses = together(f"{__name__}:work", to_json(config), workers, watch)
    undone = sum(cell.result() is None for cell in cells)
    if undone:
        raise InputError(
            f"{undone} of {len(cells)} results are missing: the workers ended with status "
            f"{', '.join(map(str, statuses))}; run the same command again to go on"
        )


def _work(cells: Sequence[Cell], bar: Bar, total: int) -> None:
    """Do what is left of `cells`, and wait for what others do."""
    waiting = list(cells)
    while waiting:
        begun = len(waiting)
        for cell in list(waiting):
            if cell.result() is None and (cell.needs is None or cell.needs.result() is not None):
                checkpoint.make_folder(cell.folder)
                with claimed(cell.folder) as ours:
                    if ours and cell.result() is None:
                        bar.update(total - len(waiting), str(cell))
                        _find(cell)
            if cell.result() is not None:
                waiting.remove(cell)
                bar.update(total - len(waiting))
        if len(waiting) == begun:
            time.sleep(POLL_SECONDS)


def _find(cell: Cell) -> None:
    """Find the cell's circuit and write what came of it."""
    result: dict[str, Any] = {"format": FORMAT, "model": cell.subject.name, "settings": cell.settings}
    started = time.monotonic()
    for name in (FILE, "circuit.json", "circuit.safetensors"):
        sweep_up(cell.folder / name)
    try:
        result["model_loss"] = cell.subject.loss(cell.task, cell.config)
        if result["model_loss"] <= cell.target:
            circuit = _circuit(cell, result)
        else:
            result["status"] = "not reached"
            circuit = None
    except InputError as error:
        result |= {"status": "skipped", "reason": str(error)}
        circuit = None
    except Diverged as error:
        result |= {"status": "failed", "reason": str(error)}
        circuit = None
    if circuit is not None:
        circuit.save(cell.folder)
        described = circuit.description()
        result |= {"status": "found", "sizes": described["sizes"], "losses": circuit.found["losses"]}
    write_json(cell.folder / FILE, result | {"seconds": round(time.monotonic() - started, 2)})


def _circuit(cell: Cell, result: dict[str, Any]) -> Circuit:
    """The circuit, found as the cell's method does; how far it leans on another cell goes into `result`."""
    subject, task = cell.subject, cell.task
    if cell.method == "learned":
        return prune(subject.model, task, config=cell.config, means=subject.means)
    before = _before(cell)
    if cell.method == "warm":
        if before is not None:
            result["warm_from"] = before[0]
        start = None if before is None else before[1]
        return prune(subject.model, task, config=cell.config, means=subject.means, warm_start=start)
    return baseline(
        subject.model,
        task,
        cell.method,  # type: ignore[arg-type]  # SweepConfig admits no others
        config=cell.config,
        scoring=cell.scoring,
        means=subject.means,
        scores=None if before is None else before[1],
    )


def _before(cell: Cell) -> tuple[float, Tensor] | None:
    """The nearest larger target at which a circuit was found, and that circuit's mask parameters or scores."""
    for other in reversed(cell.larger):
        with contextlib.suppress(InputError):
            tensors, _ = checkpoint.read_tensors(other.folder / "circuit.safetensors")
            if other.result() is not None and "scores" in tensors:
                return other.target, tensors["scores"]
    return None
