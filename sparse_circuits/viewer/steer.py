"""Steering a bridged dense model live: one slider moves a node's difference between two prompts into it.

For every strength of a grid at once, so that the slider itself needs no answer from the server.
"""

import threading
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.steering import Edits, differences, directions, read_channels
from sparse_circuits.circuits.logits import last_logits
from sparse_circuits.errors import InputError
from sparse_circuits.tasks import task_losses
from sparse_circuits.tasks.examples import collate
from sparse_circuits.tasks.pair import EncodedPair
from sparse_circuits.viewer.prompts import answer

STRENGTHS = tuple(round(0.1 * step, 1) for step in range(16))
LONGEST = 20_000
"""Characters of a prompt."""


class Steered:
    """A bridge, ready to be asked; one question at a time."""

    def __init__(self, bridge: Bridge):
        self.bridge = bridge
        self._lock = threading.Lock()

    @torch.no_grad()
    def sweep(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What the dense model says after a prompt at each strength.

        Args:
            asked: `prompt` and `other` (texts): the node is moved towards what it is in the other; `nodes`, names such
                as "0.attn.act_in:17"; `answers`, two token ids, the prompt's and the other's.

        Raises:
            InputError: anything asked for that cannot be.
        """
        names = asked.get("nodes")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise InputError('nodes must be a list of names such as "0.attn.act_in:17"')
        nodes = read_channels(self.bridge, names)
        examples = self._examples(asked)
        with self._lock:
            sites = sorted({site for site, _ in nodes})
            moved = differences(self.bridge.sparse, examples, sites)
            deltas: dict[str, Tensor] = {}
            for site in sites:
                channels = [channel for where, channel in nodes if where == site]
                deltas[site] = moved[site][..., channels] @ directions(self.bridge, site, channels).float()
            rows = []
            for strength in STRENGTHS:
                logits = last_logits(self.bridge.dense, examples, Edits(deltas, strength))
                loss = float(task_losses(logits, examples)[0])
                told = answer(logits[0].cpu(), loss, int(examples.targets[0]), int(examples.others[0]))
                rows.append({"strength": strength, **told})
        return {"rows": rows}

    def _examples(self, asked: dict[str, Any]) -> Any:
        tokenizer = self.bridge.dense.tokenizer
        assert tokenizer is not None
        encoded = []
        for name in ("prompt", "other"):
            text = asked.get(name)
            if not isinstance(text, str) or not text or len(text) > LONGEST:
                raise InputError(f"{name} must be text of at most {LONGEST:,} characters")
            encoded.append(tokenizer.encode(text))
        known, answers = self.bridge.dense.config.vocab_size, asked.get("answers")
        if (
            not isinstance(answers, list)
            or len(answers) != 2
            or not all(isinstance(each, int) and 0 <= each < known for each in answers)
            or answers[0] == answers[1]
        ):
            raise InputError("answers must be two different tokens of the model")
        pair = EncodedPair(encoded[0], encoded[1], answers[0], answers[1])
        return collate([pair], tokenizer.end_of_text, self.bridge.dense.config.block_size, "two_token")
