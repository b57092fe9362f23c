"""Questions put to a model and its circuit while somebody looks: any prompt, any change, and what it does to losses."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.evaluator import Evaluator
from sparse_circuits.circuits.logits import frozen_logits, last_logits, norm_scale
from sparse_circuits.circuits.nodes import keep_only
from sparse_circuits.errors import InputError
from sparse_circuits.model import GPT
from sparse_circuits.sites import FINAL_SITE, Record, Tap, compose
from sparse_circuits.tasks import Examples, task_losses
from sparse_circuits.tasks.pair import ANY
from sparse_circuits.viewer.changes import Change, Edit, RowEdit, aligned, kept_with, read_changes
from sparse_circuits.viewer.numbers import Number, number, numbers
from sparse_circuits.viewer.prompts import answer

PAIRS = 24
"""Of the report split, on which losses under changes are measured, so that an answer comes at once."""
LONGEST = 20_000
"""Characters of a prompt."""


@contextmanager
def one_thread() -> Iterator[None]:
    """For work of a few milliseconds, on which two threads are no faster.

    Where something else has the second core, two wait for each other at every step: 450 ms in place of 24.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Live:
    """One circuit, ready to answer. Calls come one at a time: a model's taps are no place for two."""

    def __init__(self, circuit: Circuit):
        self.circuit = circuit
        self._lock = threading.Lock()
        self._examples: Examples | None = None
        self._evaluator: tuple[GPT, Evaluator] | None = None
        self._unchanged: dict[str, Number] = {}

    @property
    def examples(self) -> Examples:
        """The first of the fixed report pairs."""
        if self._examples is None:
            whole = self.circuit.examples("report")
            self._examples = whole.pick(torch.arange(min(PAIRS, len(whole))))
        return self._examples

    def evaluator(self) -> Evaluator:
        """Of those pairs, kept from question to question: what it adds up beforehand takes longer than an answer."""
        full = self.circuit.full
        if self._evaluator is None or self._evaluator[0] is not full:
            self._evaluator = full, self.circuit.evaluator(self.examples)
            self._unchanged = {}
        return self._evaluator[1]

    def run(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The model, the circuit, and one of them changed, on one prompt.

        Args:
            asked: `prompt` (text) or `tokens`; `changes`; `whole` (change the model instead of the circuit);
                `patch_from` (text), where a change is a patch; `right` and `wrong`, the two answers (text), or token
                ids as `answers`.

        Raises:
            InputError: anything asked for that cannot be.
        """
        changes = read_changes(asked.get("changes", []), self.circuit)
        whole = bool(asked.get("whole", False))
        tokens = self._tokens(asked, "prompt")
        right, wrong = self._answers(asked)
        other = self._tokens(asked, "patch_from") if any(change.kind == "patch" for change in changes) else None
        with self._lock, torch.no_grad(), one_thread():
            runs = {
                "model": self._one(tokens, [], True, None),
                "circuit": self._one(tokens, [], False, None),
                "changed": self._one(tokens, changes, whole, other),
            }
        return {
            "tokens": tokens.flatten().tolist(),
            "right": right,
            "wrong": wrong,
            **{name: self._described(logits, sites, right, wrong) for name, (logits, sites) in runs.items()},
        }

    def losses(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Losses in nats on report pairs: the model's, the circuit's, and those of one of them changed.

        A circuit with nodes switched off or on is another choice of nodes, which its evaluator answers at the price of
        their number; any other change takes a forward pass of the model.
        """
        changes = read_changes(asked.get("changes", []), self.circuit)
        whole = bool(asked.get("whole", False))
        with self._lock, torch.no_grad():
            examples, evaluate = self.examples, self.evaluator()
            if not self._unchanged:
                self._unchanged = {
                    "model": _loss(last_logits(self.circuit.full, examples), examples),
                    "circuit": _loss(evaluate.logits(self.circuit.kept), examples),
                }
            if not changes:
                return {"pairs": len(examples), "changed": self._unchanged["model" if whole else "circuit"]} | (
                    self._unchanged
                )
            kept = kept_with(self.circuit, changes, whole)
            if whole or Edit(changes):
                model = self.circuit.full if whole else self.circuit.runner
                edit = RowEdit(model, examples, evaluate.tap(kept), changes)
                found = last_logits(model, examples, edit, evaluate.scales)
            else:
                with one_thread():
                    found = evaluate.logits(kept)
            return {"pairs": len(examples), "changed": _loss(found, examples)} | self._unchanged

    def _one(
        self, tokens: Tensor, changes: Sequence[Change], whole: bool, other: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits at the last token, and the sites of kept nodes."""
        circuit = self.circuit
        model = circuit.full if whole else circuit.runner
        held = circuit.held.to(tokens.device)
        base: Tap = keep_only(circuit.space, kept_with(circuit, changes, whole).to(tokens.device), held)
        others = None
        if other is not None:
            sites = sorted({change.site for change in changes if change.kind == "patch"})
            recorder = Record(sites)
            model(other, tap=compose(base, recorder))
            last = [torch.tensor([each.shape[1] - 1]) for each in (other, tokens)]
            others = aligned(recorder.sites, last[0], last[1], tokens.shape[1])
        recorder = Record(list(circuit.nodes))
        last_place = torch.tensor([tokens.shape[1] - 1])
        scales = None if whole else self._scales(tokens, last_place)
        logits = frozen_logits(model, tokens, last_place, compose(base, Edit(changes, others), recorder), scales)
        return logits[0].float(), recorder.sites

    def _scales(self, tokens: Tensor, last: Tensor) -> Tensor | None:
        """What the final norm divides by, where the circuit freezes it at the full model's."""
        if self.circuit.config.final_norm != "frozen":
            return None
        recorder = Record([FINAL_SITE])
        self.circuit.full(tokens, tap=recorder, at=last)
        return norm_scale(self.circuit.full, recorder.sites[FINAL_SITE][:, -1])

    def _described(self, logits: Tensor, sites: dict[str, Tensor], right: int, wrong: int) -> dict[str, Any]:
        examples = Examples(
            torch.zeros(1, 1, dtype=torch.int64),
            torch.zeros(1, dtype=torch.int64),
            torch.tensor([right]),
            torch.tensor([wrong]),
            "one_token" if ANY in (right, wrong) else "two_token",
        )
        loss = float(task_losses(logits[None], examples)[0])
        values = [numbers(sites[site][0, :, c]) for site, kept in self.circuit.nodes.items() for c in kept]
        return answer(logits, loss, right, wrong) | {"values": values}

    def _tokens(self, asked: dict[str, Any], name: str) -> Tensor:
        tokenizer, size = self.circuit.model.tokenizer, self.circuit.model.config.block_size
        assert tokenizer is not None
        text = asked.get(name)
        if name == "prompt" and isinstance(asked.get("tokens"), list):
            ids = asked["tokens"]
            known = self.circuit.model.config.vocab_size
            if not all(type(each) is int and 0 <= each < known for each in ids):  # True is no token
                raise InputError(f"tokens must be whole numbers from 0 to {known - 1}")
        elif not isinstance(text, str) or not text:
            raise InputError(f"{name} must be text; a patch needs a prompt to take values from")
        elif len(text) > LONGEST:
            raise InputError(f"{name} has {len(text):,} characters; at most {LONGEST:,} are read")
        else:
            ids = tokenizer.encode(text)
        if not ids:
            raise InputError(f"{name} has no token")
        return torch.tensor([ids[-(size - 1) :]])

    def _answers(self, asked: dict[str, Any]) -> tuple[int, int]:
        known = self.circuit.model.config.vocab_size
        given = asked.get("answers")
        if given is None:
            given = [self._token(asked.get(name), name) for name in ("right", "wrong")]
        fits = isinstance(given, list) and len(given) == 2 and all(type(each) is int for each in given)
        if not fits or not all(-1 <= each < known for each in given) or given[0] == given[1]:
            raise InputError("answers must be two different tokens; -1 stands for any other")
        return given[0], given[1]

    def _token(self, text: Any, name: str) -> int:
        assert self.circuit.model.tokenizer is not None
        token = self.circuit.model.tokenizer.single_token(text) if isinstance(text, str) and text else None
        if token is None:
            raise InputError(f"the answer {text!r} ({name}) is not a single token of this model")
        return token


def _loss(logits: Tensor, examples: Examples) -> Number:
    return number(task_losses(logits, examples).mean())
