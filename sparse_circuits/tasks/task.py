"""A task: many pairs from a few templates and word lists.

Source: arXiv 2511.13653, the binary tasks. A template is a pair of prompts with slots; a slot `$name`,
`$name2`, ... is filled with a word of the kind `name`. Drawing n pairs of a split:
1. share n evenly among the split's templates, as far as each has distinct fill-ins;
2. draw that many distinct fill-in numbers from each template;
3. write each number in mixed radix: every slot takes its word, no word is taken twice in a pair;
4. shuffle.
The draw depends on (name, split, n, seed) only, not on the process. For a tokenizer, words that a completion is
made of are left out where they would not make it a single token.
"""

import hashlib
import itertools
import json
import random
import string
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sparse_circuits.errors import InputError
from sparse_circuits.tasks.examples import Examples, Loss, collate
from sparse_circuits.tasks.pair import EncodedPair, Pair, encode_pair, settle
from sparse_circuits.tokenizer import Tokenizer

SPLITS = ("prune", "calibrate", "report", "ood")
"""Prune on the first, bisect and calibrate on the second, report on the third; `ood`: out of distribution."""


@dataclass(frozen=True)
class Template:
    """Two prompts and their completions, with slots; `$$` is a dollar sign.

    `right_b` None: a one-token question.
    """

    name: str
    a: str
    b: str
    right_a: str
    right_b: str | None = None

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The slots' names, in the order in which they first appear."""
        return tuple(string.Template(self.text).get_identifiers())

    @property
    def text(self) -> str:
        """Prompts and completions, a line end between them."""
        return "\n".join((self.a, self.b, self.right_a, self.right_b or ""))

    def capacity(self, words: Mapping[str, Sequence[str]]) -> int:
        """The number of distinct pairs this template gives with these words."""
        left = {kind: len(choices) for kind, choices in words.items()}
        capacity = 1
        for slot in self.slots:
            capacity *= left[_kind(slot)]
            left[_kind(slot)] -= 1
        return capacity

    def fill(self, words: Mapping[str, Sequence[str]], number: int) -> Pair:
        """The pair with this number, 0 to `capacity(words) - 1`; other numbers give other words."""
        left = {kind: list(choices) for kind, choices in words.items()}
        filling = {}
        for slot in self.slots:
            choices = left[_kind(slot)]
            number, choice = divmod(number, len(choices))
            filling[slot] = choices.pop(choice)
        texts = (self.a, self.b, self.right_a)
        prompt_a, prompt_b, right_a = (string.Template(text).substitute(filling) for text in texts)
        right_b = None if self.right_b is None else string.Template(self.right_b).substitute(filling)
        return Pair(prompt_a, prompt_b, right_a, right_b, self.name)


@dataclass(frozen=True)
class Task:
    """A behaviour posed as a choice between two next tokens.

    name: a word to ask for it by.
    description: one sentence, what decides.
    templates: the templates of each split. Splits share no template.
    words: the words of each kind, of each split. Splits share no word.
    version: part of a circuit's identity. Raise it whenever a change gives other pairs.

    Raises:
        InputError: on construction, when splits share a template or a word, or a template asks for words that
            are not there.
    """

    name: str
    description: str
    templates: Mapping[str, tuple[Template, ...]]
    words: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    version: int = 1

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_jsonl(cls, path: str | Path) -> "Task":
        """The task in a file of one pair a line; see `sparse_circuits.tasks.custom`."""
        from sparse_circuits.tasks.custom import task_from_jsonl

        return task_from_jsonl(path)

    @property
    def loss(self) -> Loss:
        """`two_token`: a choice between two completions; `one_token`: one completion or anything else."""
        first = self.templates[self.splits[0]][0]
        return "one_token" if first.right_b is None else "two_token"

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits this task has, in the order of `SPLITS`."""
        return tuple(split for split in SPLITS if self.templates.get(split))

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever a template or a word does."""
        templates = {
            split: [[t.name, t.a, t.b, t.right_a, t.right_b] for t in self.templates[split]] for split in self.splits
        }
        words = {split: {kind: list(w) for kind, w in kinds.items()} for split, kinds in self.words.items()}
        content = json.dumps([self.name, templates, words], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def size(self, split: str) -> int:
        """The number of distinct pairs of `split`.

        Raises:
            InputError: the task has no such split.
        """
        words = self.words.get(split, {})
        return sum(template.capacity(words) for template in self._templates(split))

    def draw(self, split: str = "report", n: int = 64, seed: int = 0) -> list[Pair]:
        """n distinct pairs as written, spread evenly over templates; all there are, with a warning, if fewer.

        Raises:
            InputError: no such split; n below 1.
        """
        return self._draw(split, n, seed, self.words.get(split, {}))

    def pairs(self, tokenizer: Tokenizer, split: str = "report", n: int = 64, seed: int = 0) -> list[Pair]:
        """The pairs of `draw`, with completions settled for the tokenizer (see `sparse_circuits.tasks.pair`).

        Where a slot stands in a completion (` $name1`), only words are drawn that make it a single token.

        Raises:
            InputError: no such split; n below 1; too few words that are single tokens; a pair that this
                tokenizer cannot ask (see `encode_pair`).
        """
        return [pair for pair, _ in self._encoded(tokenizer, split, n, seed)]

    def examples(
        self, tokenizer: Tokenizer, split: str = "report", n: int = 64, seed: int = 0, block_size: int = 256
    ) -> Examples:
        """The pairs of `pairs(tokenizer, split, n, seed)`, as tensors of at most `block_size - 1` positions.

        Raises:
            InputError: as `pairs`; or a block size too small for the evidence.
        """
        encoded = [tokens for _, tokens in self._encoded(tokenizer, split, n, seed)]
        with self._named_in_errors():
            return collate(encoded, tokenizer.end_of_text, block_size, self.loss)

    def _encoded(self, tokenizer: Tokenizer, split: str, n: int, seed: int) -> list[tuple[Pair, EncodedPair]]:
        """The drawn pairs, with settled completions, as text and as tokens."""
        words = self._words_of(tokenizer, split)
        settled = [settle(pair, tokenizer) for pair in self._draw(split, n, seed, words)]
        with self._named_in_errors():
            return [(pair, encode_pair(pair, tokenizer)) for pair in settled]

    def _draw(self, split: str, n: int, seed: int, words: Mapping[str, Sequence[str]]) -> list[Pair]:
        """`draw`, with slots filled from `words`."""
        if n < 1:
            raise InputError(f"{n} pairs asked: ask for at least 1")
        generator = random.Random(f"{self.name}/{split}/{n}/{seed}")
        templates = generator.sample(self._templates(split), len(self._templates(split)))
        capacities = [template.capacity(words) for template in templates]
        if n > sum(capacities):
            warnings.warn(
                f"task {self.name!r} has {sum(capacities)} distinct pairs in split {split!r}, {n} were"
                " asked: all of them are used",
                stacklevel=3,
            )
        pairs = [
            template.fill(words, number)
            for template, capacity, share in zip(templates, capacities, _shares(n, capacities), strict=True)
            for number in _distinct(generator, share, capacity)
        ]
        generator.shuffle(pairs)
        return pairs

    def _words_of(self, tokenizer: Tokenizer, split: str) -> Mapping[str, Sequence[str]]:
        """The words of `split`, without those that would make a completion more than one token."""
        given = self.words.get(split, {})
        words = dict(given)
        templates = self._templates(split)
        for text in sorted({text for template in templates for text in (template.right_a, template.right_b or "")}):
            shape = string.Template(text.removesuffix("\n"))
            slots = shape.get_identifiers()
            if len(slots) == 1:
                kind = _kind(slots[0])
                fits = [tokenizer.single_token(shape.substitute({slots[0]: word})) is not None for word in words[kind]]
                words[kind] = tuple(itertools.compress(words[kind], fits))
        for template in templates:
            if template.capacity(words) < 1:
                kind = next(kind for kind in words if len(words[kind]) < len(given[kind]))
                raise InputError(
                    f"task {self.name!r}, template {template.name!r}: as completions only {len(words[kind])} of the"
                    f" {len(given[kind])} words of kind {kind!r} are one token of this tokenizer, too few for a pair;"
                    " train the tokenizer on text that has such words, or on more tokens"
                )
        return words

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        """Put the task's name before what is wrong with one of its pairs."""
        try:
            yield
        except InputError as error:
            raise InputError(f"task {self.name!r}, {error}") from error

    def _templates(self, split: str) -> tuple[Template, ...]:
        """The templates of `split`, which must be there."""
        if split not in SPLITS:
            raise InputError(f"no split {split!r}: the splits are {', '.join(SPLITS)}")
        if split not in self.splits:
            raise InputError(
                f"task {self.name!r} has no {split!r} split, only {', '.join(self.splits)}; choose one of these, or"
                f' give the task some for {split!r} (in a .jsonl file a line with "split": "{split}")'
            )
        return self.templates[split]


def _kind(slot: str) -> str:
    """The kind of words a slot takes: `name` for `name`, `name1`, `name2`."""
    return slot.rstrip(string.digits)


def _shares(n: int, capacities: Sequence[int]) -> list[int]:
    """n split as evenly as the capacities allow, or the capacities where they are less."""
    shares = [0] * len(capacities)
    left = min(n, sum(capacities))
    while left:
        open_ones = [i for i, capacity in enumerate(capacities) if shares[i] < capacity]
        each = max(1, left // len(open_ones))
        for i in open_ones[:left]:
            added = min(each, capacities[i] - shares[i])
            shares[i] += added
            left -= added
    return shares


def _distinct(generator: random.Random, count: int, population: int) -> list[int]:
    """`count` different numbers below `population`."""
    if population < 2**31:
        return generator.sample(range(population), count)
    # `sample` refuses populations beyond 63 bits; repeats are rare here.
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[generator.randrange(population)] = None
    return list(chosen)


def _check(task: Task) -> None:
    """Refuse a task that could not keep its promises."""
    where = f"task {task.name!r}"
    unknown = sorted((set(task.templates) | set(task.words)) - set(SPLITS))
    if unknown:
        raise InputError(f"{where}: no split {unknown[0]!r}: the splits are {', '.join(SPLITS)}")
    if not task.splits:
        raise InputError(f"{where} has no templates; give at least one split some")
    losses = {template.right_b is None for split in task.splits for template in task.templates[split]}
    if len(losses) > 1:
        raise InputError(f"{where}: some templates have a completion for side B and some have none; settle for one")
    _check_words(task, where)
    _check_templates(task, where)


def _check_words(task: Task, where: str) -> None:
    """A word has one kind and one split."""
    home: dict[str, str] = {}
    for split, kinds in task.words.items():
        for kind, choices in kinds.items():
            for word in choices:
                place = f"{split}/{kind}"
                if word in home:
                    raise InputError(f"{where}: the word {word!r} is in {home[word]} and in {place}; keep it in one")
                home[word] = place


def _check_templates(task: Task, where: str) -> None:
    """A template has one split, and enough words for its slots."""
    homes: dict[tuple[str, ...], str] = {}
    for split in task.splits:
        words = task.words.get(split, {})
        for template in task.templates[split]:
            place = f"{where}, template {template.name!r}"
            if not string.Template(template.text).is_valid():
                raise InputError(f"{place}: a lone '$'; write '$$' for a dollar sign")
            missing = [slot for slot in template.slots if not words.get(_kind(slot))]
            if missing:
                raise InputError(f"{place}: {split!r} has no words for ${missing[0]}, of kind {_kind(missing[0])!r}")
            if template.capacity(words) < 1:
                raise InputError(f"{place}: {split!r} has too few words for the slots {' '.join(template.slots)}")
            for shared in ((template.name,), (template.a, template.b)):
                home = homes.setdefault(shared, split)
                if home != split:
                    raise InputError(f"{place}: {home!r} and {split!r} share {shared[0]!r}; splits must be disjoint")
