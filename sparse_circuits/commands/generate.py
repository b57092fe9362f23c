"""`sparse-circuits generate`: continue prompts, showing tokens as they come."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_circuits.errors import InputError

if TYPE_CHECKING:
    from sparse_circuits.tokenizer import Tokenizer


@dataclass(frozen=True)
class Command:
    """Continue a prompt, or several, by sampling."""

    model: Path
    """Model folder, or the name of a model that ships (`sparse-circuits models`)."""
    prompt: str | None = None
    """Text to continue, "def " if not given; - reads standard input."""
    prompts: Path | None = None
    """A file of prompts to continue: one a line, or in a .jsonl file a JSON string or {"prompt": ...} a line."""
    max_new_tokens: int = 64
    """Tokens to add."""
    temperature: float = 0.8
    """Softmax temperature; 0 takes the likeliest token."""
    top_k: int | None = None
    """Sample among the k likeliest tokens only."""
    top_p: float | None = 0.95
    """Sample among the likeliest tokens that hold this much probability only."""
    stop: tuple[str, ...] = ()
    """Texts after which a continuation ends, beside the end of the document."""
    samples: int = 1
    """How many continuations of each prompt."""
    seed: int = 0
    """Seeds the sampling."""
    json: bool = False
    """Print prompt and continuations as JSON at the end; with --prompts, a list of such objects."""


def run(command: Command) -> None:
    """Print each prompt with its continuations."""
    from sparse_circuits import checkpoint
    from sparse_circuits.config import check_seed
    from sparse_circuits.fields import require
    from sparse_circuits.generation import Sampling

    require(command.max_new_tokens >= 1, f"--max-new-tokens is {command.max_new_tokens}; it must be at least 1")
    require(command.samples >= 1, f"--samples is {command.samples}; it must be at least 1")
    require("" not in command.stop, "--stop holds an empty text, which is everywhere; give it a character or more")
    check_seed(command.seed)
    prompts = _prompts(command)
    Sampling(command.temperature, command.top_k, command.top_p)  # refuses before the model is read
    model = checkpoint.load(command.model, sparse="auto")
    tokenizer = model.tokenizer
    require(tokenizer is not None, f"{command.model} has no tokenizer.json, so a prompt cannot be read")
    assert tokenizer is not None
    ids = [tokenizer.encode(prompt) or [tokenizer.end_of_text] for prompt in prompts for _ in range(command.samples)]
    rows = [_Row(tokenizer, command.stop) for _ in ids]
    page = None if command.json else _Page(prompts, command.samples, rows)
    if page is not None:
        page.update()  # the prompt at once: the first use of a kernel compiles it

    def stream(row: int, token: int) -> bool:
        ended = rows[row].push(token)
        if page is not None:
            page.update()
        return ended

    settings = (command.max_new_tokens, command.temperature, command.top_k, command.top_p, command.seed)
    try:
        model.generate(ids, *settings, stream=stream)
    except KeyboardInterrupt:
        if page is not None:
            page.close()
        raise
    if page is not None:
        page.close()
        return
    texts = iter([row.finish() for row in rows])
    results = [{"prompt": p, "continuations": [next(texts) for _ in range(command.samples)]} for p in prompts]
    print(json.dumps(results if command.prompts else results[0], indent=2))


class _Row:
    """The text of one continuation as its tokens come."""

    def __init__(self, tokenizer: "Tokenizer", stops: tuple[str, ...]):
        from sparse_circuits.generation import TextStream

        self._stream, self._end_of_text, self._stops = TextStream(tokenizer), tokenizer.end_of_text, stops
        self.text = ""
        self.ended = False

    def push(self, token: int) -> bool:
        """Add a token; returns whether the continuation has ended."""
        before = len(self.text)
        if token == self._end_of_text:
            self.finish()
        else:
            self.text += self._stream.push(token)
        starts = [(self.text.find(stop, max(0, before - len(stop) + 1)), stop) for stop in self._stops]
        ends = [start + len(stop) for start, stop in starts if start >= 0]
        if ends:
            self.text, self.ended = self.text[: min(ends)], True
        return self.ended

    def finish(self) -> str:
        """The whole text, once no token follows."""
        if not self.ended:
            self.text, self.ended = self.text + self._stream.finish(), True
        return self.text


class _Page:
    """Prints rows in order: one as it grows, the next when that has ended."""

    def __init__(self, prompts: list[str], samples: int, rows: list[_Row]):
        self._prompts, self._samples, self._rows = prompts, samples, rows
        self._row, self._begun, self._printed = 0, False, 0

    def update(self) -> None:
        """Print what is new."""
        while self._row < len(self._rows):
            row = self._rows[self._row]
            text = ("" if self._begun else self._heading()) + row.text[self._printed :] + "\n" * row.ended
            if text:
                print(text, end="", flush=True)
            self._begun, self._printed = True, len(row.text)
            if not row.ended:
                return
            self._row, self._begun, self._printed = self._row + 1, False, 0

    def close(self) -> None:
        """Print the rest."""
        for row in self._rows:
            row.finish()
        self.update()

    def _heading(self) -> str:
        """Which row it is, where there are several, and its prompt."""
        prompt, sample = divmod(self._row, self._samples)
        place = [f"prompt {prompt + 1}"] if len(self._prompts) > 1 else []
        place += [f"sample {sample + 1}"] if self._samples > 1 else []
        return (f"=== {', '.join(place)} ===\n" if place else "") + self._prompts[prompt]


def _prompts(command: Command) -> list[str]:
    if command.prompts is not None:
        if command.prompt is not None:
            raise InputError("--prompt and --prompts are both given; choose one")
        return _from_file(command.prompts)
    return [_standard_input() if command.prompt == "-" else "def " if command.prompt is None else command.prompt]


def _from_file(path: Path) -> list[str]:
    """The prompts of a file, one a line; blank lines are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InputError(f"{path} holds no prompts; write one a line")
    if path.suffix != ".jsonl":
        return [line for _, line in numbered]
    prompts = []
    for number, line in numbered:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not JSON ({error})") from error
        prompt = content.get("prompt") if isinstance(content, dict) else content
        if not isinstance(prompt, str):
            raise InputError(f'{path}:{number}: expected a JSON string or an object {{"prompt": ...}}')
        prompts.append(prompt)
    return prompts


def _standard_input() -> str:
    if sys.stdin is None:
        raise InputError("--prompt - reads standard input, which is closed; pipe the prompt in")
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input is not {error.encoding.upper()} (byte {error.start}); save it in that encoding"
        ) from error
