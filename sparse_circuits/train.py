"""Pretraining: a weight-sparse transformer on a packed corpus (paper, section 2.1).

1. Take vocabulary and tokenizer from the corpus, make the model, and measure the bigram baseline.
2. Run the loop; after every optimiser step keep only the largest weights of each matrix (`pretraining`).
3. Write checkpoints to resume from, `progress.jsonl` and, at the end, the model folder.

The folder while training: `train.json` (config, what the corpus is, and results once finished), `progress.jsonl` (one
JSON object a line), `checkpoint.safetensors` (the loop's state). A killed run continues with `resume` and ends with the
same bits.
"""

import json
import math
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from sparse_circuits import checkpoint
from sparse_circuits.config import TrainConfig
from sparse_circuits.corpus.bigram import bigram_log_probabilities, bigram_loss
from sparse_circuits.corpus.packed import SPLITS, PackedCorpus
from sparse_circuits.distributed import Group, joined
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import from_json, to_json
from sparse_circuits.files import atomic_write, locked, read_json, sweep, write_json
from sparse_circuits.loop import Loop, StepLog
from sparse_circuits.model import GPT
from sparse_circuits.pretraining import Pretraining
from sparse_circuits.progress import Bar

FILES = ("config.json", "model.safetensors", "tokenizer.json", "train.json", "progress.jsonl", "checkpoint.safetensors")
"""Everything a run writes to its folder."""
LOG_EVERY = 10
FINAL_EVAL_FACTOR = 8


def train(config: TrainConfig, resume: bool = False, progress: bool = True) -> GPT:
    """Train the model `config` describes and write it to `config.out`.

    Args:
        resume: continue the run in `config.out`, whose own config is used.
        progress: show a progress bar on standard error.

    Returns:
        the trained model, with its tokenizer.

    Raises:
        InputError: the corpus or the folder is not usable.
        Diverged: the loss went to NaN or far off; the message names the last good checkpoint.
        KeyboardInterrupt: Ctrl-C; a checkpoint of the last whole step is written first.
    """

    def make(admitted: TrainConfig, corpus: PackedCorpus, group: Group) -> Training:
        return Training(admitted, corpus, group, resume, progress)

    return conduct(config, resume, make).model


T = TypeVar("T", bound="Training")


def conduct(
    config: TrainConfig,
    resume: bool,
    make: Callable[[TrainConfig, PackedCorpus, Group], T],
    command: str = "train",
) -> T:
    """Run the training that `make` makes of the config that is to be used, its corpus and the processes that take part.

    It is alone in its folder.

    Args:
        command: by which it was started, and is resumed.
    """
    given, out = config, Path(config.out)
    with joined() as group:
        config = group.told(lambda: _admitted(given, resume, command))  # before anything is made on disk
        group.told(lambda: group.rows(config.batch_size))
        corpus = group.after_first(lambda: PackedCorpus.load(config.corpus))
        group.told(lambda: checkpoint.make_folder(out))
        with locked(out) if group.first else nullcontext():
            # Another process may have been here meanwhile.
            config = group.told(lambda: _admitted(given, resume, command))
            for name in FILES if group.first else ():
                sweep(out / name)
            training = make(config, corpus, group)
            training.finish()
            group.wait()
            return training


class Training:
    """One training run in its folder: pretraining, and what is trained like it with another objective."""

    seconds_before = 0.0
    """Seconds the run has taken up to the checkpoint it continues from."""

    def __init__(self, config: TrainConfig, corpus: PackedCorpus, group: Group, resume: bool, progress: bool):
        """Make the model and its objective, or read the checkpoint to `resume` from."""
        vocabulary = corpus.tokenizer.vocab_size
        self.config = replace(config, model=replace(config.model, vocab_size=vocabulary))
        self.corpus = corpus
        self.out = Path(config.out)
        self.group = group
        self.progress = progress and group.first
        self.device = group.device
        if self.device != "cpu" and config.dw == "amortized":
            warnings.warn("dw=amortized does nothing on CUDA, where products are dense", stacklevel=2)
        self.model = self.make_model().to(self.device)
        self.model.tokenizer = corpus.tokenizer
        self.objective = self.make_objective()
        self.loop = Loop(self.objective, config.loop, group)
        self.saved_at = time.monotonic()
        self.saved_step = 0
        if resume:
            self._restore()
            self.objective.choose_products(self.loop.step)
            return
        for split in SPLITS:  # a corpus without one window fails now, not in an hour
            corpus.windows_per_epoch(split, self.config.model.block_size)
        self.bigram = bigram_loss(corpus.train, corpus.validation, vocabulary)
        if group.first:
            for name in ("progress.jsonl", "checkpoint.safetensors"):  # an earlier run's, whose train.json is gone
                (self.out / name).unlink(missing_ok=True)
            write_json(self.out / "train.json", self._description())

    def make_model(self) -> GPT:
        """The model to train, with the weights it begins with."""
        model = GPT(self.config.model, seed=self.config.loop.seed)
        if self.config.bigram_start == "counts" and self.config.model.bigram_table != "none":
            table = torch.from_numpy(bigram_log_probabilities(self.corpus.train, self.config.model.vocab_size))
            cast(Tensor, model.bigram_table).data.copy_(table)
        return model

    def make_objective(self) -> Pretraining:
        """What is minimised."""
        return Pretraining(self.model, self.corpus, self.config, self.group)

    def describe(self) -> dict[str, Any]:
        """What `train.json` says beside the usual."""
        return {}

    def write(self) -> None:
        """Write what was trained to the folder."""
        checkpoint.save(self.model, self.out)

    def finish(self) -> None:
        """Run to the last step and write the model folder."""
        started = time.monotonic() - self.seconds_before
        with Bar("train", self.config.last_step, self.progress) as bar, _interruptible() as stop:
            bar.say(self.opening())
            for step in self._steps():
                self._report(step, bar, time.monotonic() - started)
                # After the last step too: the closing measurement takes a while, and it may be interrupted.
                due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
                stopped = self.group.total(float(stop.is_set()))[0] > 0
                if due or stopped or step.step == self.config.last_step:
                    self._save_checkpoint(time.monotonic() - started)
                if stopped:
                    bar.say(f"stopped after step {self.loop.step}; continue with --resume --out {self.out}")
                    raise KeyboardInterrupt
        self._write_model(time.monotonic() - started)

    def opening(self) -> str:
        tokens = self.config.tokens
        available = len(self.objective.corpus.train)
        return (
            f"{sum(p.numel() for p in self.objective.parameters().values()):,} parameters, density "
            f"{self.config.sparsity.density:.4g}; {tokens:,} tokens ({tokens / available:.2f} epochs); "
            f"bigram baseline {self.bigram:.3f} nats per token"
        )

    def _steps(self) -> Iterator[StepLog]:
        steps = iter(self.loop)
        try:
            while self.loop.step < self.config.last_step:
                yield next(steps)
        except Diverged as error:
            raise Diverged(f"{error}; {self._last_good()}") from None

    def _last_good(self) -> str:
        if not self.saved_step:
            return "there is no earlier checkpoint"
        return f"the last good checkpoint is step {self.saved_step} in {self.out / 'checkpoint.safetensors'}"

    def _report(self, step: StepLog, bar: Bar, seconds: float) -> None:
        """Log the step, and the validation loss where it is due."""
        size = self.config.batch_size * self.config.model.block_size
        last = step.step == self.config.last_step
        if step.step % LOG_EVERY == 0 or step.step == 1 or last:
            line = {
                "step": step.step,
                "tokens": step.step * size,
                "loss": step.loss,
                "learning_rate": step.learning_rate,
                "gradient_rms": step.gradient_rms,
                "tokens_per_second": size / step.seconds,
                **step.figures,
            }
            self._append(line)
        density = step.figures["density"]
        bar.update(step.step, f"loss {step.loss:.3f}  density {density:.3f}  {size / step.seconds:,.0f} tok/s")
        if step.step % self.config.eval_every == 0 and not last:
            loss = self.objective.validation_loss(self.config.eval_tokens)
            self.group.check_same(list(self.objective.parameters().values()))
            # JSON knows no NaN; the next step's loss will say what the matter is.
            self._append({"step": step.step, "validation_loss": loss if math.isfinite(loss) else None})
            bar.say(
                f"step {step.step}: validation loss {loss:.3f} (bigram {self.bigram:.3f}), density {density:.3f}, "
                f"{seconds:.0f} s"
            )

    def _append(self, line: dict[str, Any]) -> None:
        if not self.group.first:
            return
        path = self.out / "progress.jsonl"
        try:
            with open(path, "a") as log:
                log.write(json.dumps(line) + "\n")
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; free space, then continue with --resume"
            ) from error

    def _save_checkpoint(self, seconds: float) -> None:
        self.saved_at = time.monotonic()
        if not self.loop.is_finite():
            return  # the next step's loss will say so; the last good checkpoint stays
        self.saved_step = self.loop.step
        if not self.group.first:
            return
        metadata = {"seconds": str(seconds), "bigram": repr(self.bigram)}
        checkpoint.write_tensors(self.out / "checkpoint.safetensors", self.loop.state(), metadata)

    def _restore(self) -> None:
        """Continue from the checkpoint, or from the start when the run was killed before the first."""
        path = self.out / "checkpoint.safetensors"
        described = read_json(self.out / "train.json")
        if described.get("corpus") != _identity(self.objective.corpus):
            raise InputError(
                f"the corpus in {self.config.corpus} is not the one the run in {self.out} was started on; "
                "build that one again, or start anew in another --out"
            )
        self.bigram = described["bigram_loss"]
        if path.exists():
            state, metadata = checkpoint.read_tensors(path)
            self.loop.load_state(state)
            try:
                self.seconds_before = float(metadata.get("seconds", 0))
            except ValueError:
                raise InputError(f"{path}: its seconds are no number; the file is damaged") from None
            self.saved_step = self.loop.step
        self.group.wait()  # all have read what is there
        if self.group.first:
            _cut_log(self.out / "progress.jsonl", self.loop.step)

    def _description(self, **results: Any) -> dict[str, Any]:
        return {
            "format": checkpoint.FORMAT,
            # Found from any folder.
            "config": to_json(replace(self.config, corpus=Path(self.config.corpus).resolve())),
            "corpus": _identity(self.objective.corpus),
            "bigram_loss": self.bigram,
            "torch": torch.__version__,
            "machine": machine(self.group),
            **self.describe(),
            **results,
        }

    def _write_model(self, seconds: float) -> None:
        self.model.eval()
        self.objective.finish()
        loss = self.objective.validation_loss(self.config.eval_tokens * FINAL_EVAL_FACTOR)
        if not math.isfinite(loss):
            raise Diverged(
                f"the validation loss is {loss} after the last step; lower the learning rate; {self._last_good()}"
            )
        if not self.group.first:
            return
        self.write()
        results = {"validation_loss": loss, "tokens": self.config.tokens, "seconds": round(seconds, 1)}
        write_json(self.out / "train.json", self._description(**results))
        (self.out / "checkpoint.safetensors").unlink(missing_ok=True)


def machine(group: Group) -> str:
    """What a run is computed on."""
    here = torch.cuda.get_device_name() if group.device != "cpu" else platform.machine()
    several = f", {group.size} processes" if group.size > 1 else ""
    return f"{here}, {torch.get_num_threads()} threads{several}"


def _admitted(config: TrainConfig, resume: bool, command: str) -> TrainConfig:
    """The config to train with: the stored one when resuming. InputError where the folder does not allow it."""
    out = Path(config.out)
    if resume:
        stored = stored_config(out, command)
        return stored if config.corpus == TrainConfig().corpus else replace(stored, corpus=config.corpus)
    # A run that ended before its first checkpoint has nothing to lose.
    worth = (out / "checkpoint.safetensors").exists() or (out / "model.safetensors").exists()
    if worth and (out / "train.json").exists():
        described = read_json(out / "train.json")
        if isinstance(described, dict) and "validation_loss" in described:
            raise InputError(f"{out} already holds a finished model; choose another --out")
        raise InputError(f"{out} already holds a run; add --resume to continue it, or choose another --out")
    if (out / "config.json").exists():
        raise InputError(f"{out} already holds a model; choose another --out")
    return config


def _identity(corpus: PackedCorpus) -> dict[str, str]:
    """What must stay the same for a resumed run to see the same tokens."""
    return {"tokenizer": corpus.tokenizer.hash} | {name: corpus.manifest["splits"][name]["sha256"] for name in SPLITS}


def stored_config(out: Path, command: str = "train") -> TrainConfig:
    """The config of the unfinished run in `out`; InputError where there is none, or its description is damaged.

    A run of another command than `command` is refused too.
    """
    if not (out / "train.json").exists():
        raise InputError(f"{out} holds no run to resume: expected train.json, as `train` writes it")
    described = read_json(out / "train.json")
    if not isinstance(described, dict) or described.get("format") != checkpoint.FORMAT:
        raise InputError(f"{out / 'train.json'}: expected format {checkpoint.FORMAT}; it is damaged or newer")
    if "validation_loss" in described:
        raise InputError(f"the run in {out} is finished; nothing is left to resume")
    began = "bridge" if "bridge" in described else "train"
    if began != command:
        raise InputError(f"the run in {out} was begun by {began}; continue it with `sparse-circuits {began} --resume`")
    if not isinstance(described.get("bigram_loss"), float):
        raise InputError(f"{out / 'train.json'}: bigram_loss is missing or no number; the file is damaged")
    # The folder may have been moved since.
    return replace(from_json(TrainConfig, described.get("config"), str(out / "train.json")), out=out)


def _cut_log(path: Path, step: int) -> None:
    """Drop the lines after `step` (they will be made again) and a last line cut short by a kill."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            break
    atomic_write(path, "".join(kept))


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is never cut in two; a second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def stop(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
