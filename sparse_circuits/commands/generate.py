"""`sparse-circuits generate`: continue a prompt."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from sparse_circuits.errors import InputError


@dataclass(frozen=True)
class Command:
    """Continue a prompt by sampling."""

    model: Path
    """Model folder."""
    prompt: str = "def "
    """Text to continue; - reads standard input."""
    max_new_tokens: int = 64
    """Tokens to add."""
    temperature: float = 0.8
    """Softmax temperature; 0 takes the likeliest token."""
    top_k: int | None = None
    """Sample among the k likeliest tokens only."""
    top_p: float | None = 0.95
    """Sample among the likeliest tokens that hold this much probability only."""
    samples: int = 1
    """How many continuations."""
    seed: int = 0
    """Seeds the sampling."""
    json: bool = False
    """Print prompt and continuations as JSON."""


def run(command: Command) -> None:
    """Print the prompt with each continuation."""
    import torch

    from sparse_circuits import checkpoint
    from sparse_circuits.config import check_seed, require

    require(command.max_new_tokens >= 1, f"--max-new-tokens is {command.max_new_tokens}; it must be at least 1")
    require(command.samples >= 1, f"--samples is {command.samples}; it must be at least 1")
    check_seed(command.seed)
    model = checkpoint.load(command.model)
    tokenizer = model.tokenizer
    require(tokenizer is not None, f"{command.model} has no tokenizer.json, so a prompt cannot be read")
    assert tokenizer is not None
    prompt = _standard_input() if command.prompt == "-" else command.prompt
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    tokens = model.generate(
        torch.tensor([ids] * command.samples),
        command.max_new_tokens,
        command.temperature,
        command.top_k,
        command.top_p,
        command.seed,
    )
    continuations = [tokenizer.decode(_until_end(row[len(ids) :], tokenizer.end_of_text)) for row in tokens.tolist()]
    if command.json:
        print(json.dumps({"prompt": prompt, "continuations": continuations}, indent=2))
        return
    print("\n\n".join(prompt + text for text in continuations))


def _standard_input() -> str:
    if sys.stdin is None:
        raise InputError("--prompt - reads standard input, which is closed; pipe the prompt in")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input is not {error.encoding.upper()} (byte {error.start}); save it in that encoding"
        ) from error


def _until_end(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids
