"""What Python text is like, in numbers: sizes, nesting, names, and how often each construct occurs.

A line of code is one that is not blank and does not go on with a string that began above.

1. Python's own tokenizer and parser read every program; what they refuse is counted and left out.
2. Lines, tokens and indentation are counted from the tokens, names and constructs from the tree.
"""

import ast
import io
import keyword
import math
import statistics
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable

SPACE = frozenset(
    (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER)
)
INDENT = 4
CONSTRUCTS: dict[str, tuple[type[ast.AST], ...]] = {
    "`def`": (ast.FunctionDef, ast.AsyncFunctionDef),
    "`class`": (ast.ClassDef,),
    "`for`": (ast.For,),
    "`while`": (ast.While,),
    "`if` and `elif`": (ast.If,),
    "`match`": (ast.Match,),
    "`with`": (ast.With,),
    "`try`": (ast.Try,),
    "`assert`": (ast.Assert,),
    "`return`": (ast.Return,),
    "`raise`": (ast.Raise,),
    "`yield`": (ast.Yield, ast.YieldFrom),
    "`import`": (ast.Import, ast.ImportFrom),
    "assignment": (ast.Assign, ast.AnnAssign),
    "swap": (),
    "`+=` and its like": (ast.AugAssign,),
    "call": (ast.Call,),
    "keyword argument": (ast.keyword,),
    "annotated argument": (),
    "`lambda`": (ast.Lambda,),
    "conditional expression": (ast.IfExp,),
    "comprehension": (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    "comparison": (ast.Compare,),
    "subscript": (ast.Subscript,),
    "string": (),
    "f-string": (ast.JoinedStr,),
    "number": (),
    "list": (),
    "tuple": (),
    "dictionary": (ast.Dict,),
}
"""What is counted for each 1000 lines of code, and the nodes it is; `_more_of` knows those that no type tells."""
NAMED = {kind: name for name, kinds in CONSTRUCTS.items() for kind in kinds}


def _more_of(node: ast.AST) -> str | None:
    """The construct a node is, where its type alone does not say it."""
    if isinstance(node, ast.Constant):
        return "string" if isinstance(node.value, str) else "number" if type(node.value) in (int, float) else None
    if isinstance(node, ast.List | ast.Tuple):
        return type(node).__name__.lower() if isinstance(node.ctx, ast.Load) else None
    if isinstance(node, ast.arg):
        return "annotated argument" if node.annotation is not None else None
    return "swap" if _is_swap(node) else None


def _is_swap(node: ast.AST) -> bool:
    """Whether a statement gives the same names back in another order."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return False
    left, right = node.targets[0], node.value
    if not isinstance(left, ast.Tuple) or not isinstance(right, ast.Tuple):
        return False
    names, values = [ast.unparse(part) for part in left.elts], [ast.unparse(part) for part in right.elts]
    return names != values and sorted(names) == sorted(values)


class _Sums:
    """What has been counted so far."""

    def __init__(self) -> None:
        self.programs = self.refused = self.lines = self.text_lines = self.blank = self.comments = self.tokens = 0
        self.program_lines: list[int] = []
        self.widths: list[int] = []
        self.depths: Counter[int] = Counter()
        self.brackets: Counter[int] = Counter()
        self.names: Counter[str] = Counter()
        self.constructs: Counter[str] = Counter()
        self.documented = self.defaulted = self.arguments = self.set_names = self.read_names = 0

    def add(self, text: str) -> None:
        """Count one program."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        except (SyntaxError, ValueError, tokenize.TokenError):
            self.refused += 1
            return
        self.programs += 1
        inside = {
            line for token in tokens if token.type == tokenize.STRING for line in range(token.start[0], token.end[0])
        }
        self._lines(text.rstrip("\n").split("\n"), inside)
        self._tokens(tokens)
        self._tree(tree)

    def _lines(self, lines: list[str], inside: set[int]) -> None:
        """Count lines; those numbered in `inside` (from 0) go on with a string that began above."""
        self.program_lines.append(len(lines))
        for number, line in enumerate(lines):
            bare = line.strip()
            if number in inside:
                self.text_lines += 1
                continue
            if not bare:
                self.blank += 1
                continue
            self.lines += 1
            self.widths.append(len(line.expandtabs()))
            self.depths[(len(line.expandtabs()) - len(bare)) // INDENT] += 1
            self.comments += bare.startswith("#")

    def _tokens(self, tokens: list[tokenize.TokenInfo]) -> None:
        depth = 0
        for token in tokens:
            if token.type in SPACE:
                continue
            self.tokens += 1
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                self.names[token.string] += 1
            elif token.type == tokenize.OP and token.string in "([{":
                depth += 1
                self.brackets[depth] += 1
            elif token.type == tokenize.OP and token.string in ")]}":
                depth -= 1

    def _tree(self, tree: ast.AST) -> None:
        stored: set[str] = set()
        loaded: set[str] = set()
        for node in ast.walk(tree):
            for name in (NAMED.get(type(node)), _more_of(node)):
                if name is not None:
                    self.constructs[name] += 1
            if isinstance(node, ast.Name):
                (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
            elif isinstance(node, ast.arguments):
                self.defaulted += len(node.defaults) + sum(default is not None for default in node.kw_defaults)
                self.arguments += len(node.posonlyargs) + len(node.args) + len(node.kwonlyargs)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.documented += ast.get_docstring(node, clean=False) is not None
        stored.discard("_")
        self.set_names += len(stored)
        self.read_names += len(stored & loaded)


def describe(texts: Iterable[str]) -> dict[str, float]:
    """Measures of some programs, by what a table calls them; constructs are for each 1000 lines of code.

    Raises:
        ValueError: there is no program that parses.
    """
    sums = _Sums()
    for text in texts:
        sums.add(text)
    if not sums.lines:
        raise ValueError("no program that parses")
    lines, named = sums.lines, sums.names.total()
    entropy = -sum(count / named * math.log2(count / named) for count in sums.names.values()) if named else 0.0
    everything = lines + sums.blank + sums.text_lines
    defined = sums.constructs["`def`"] + sums.constructs["`class`"]
    measures = {
        "programs": float(sums.programs),
        "programs that do not parse": float(sums.refused),
        "lines a program (median)": statistics.median(sums.program_lines),
        "characters a line (mean)": statistics.fmean(sums.widths),
        "characters a line (95th percentile)": float(sorted(sums.widths)[int(0.95 * len(sums.widths))]),
        "tokens a line": sums.tokens / lines,
        "blank lines (%)": 100 * sums.blank / everything,
        "lines inside a string (%)": 100 * sums.text_lines / everything,
        "comment lines (%)": 100 * sums.comments / lines,
        "indentation (mean level)": sum(depth * count for depth, count in sums.depths.items()) / lines,
        "lines at level 3 or deeper (%)": 100 * sum(count for depth, count in sums.depths.items() if depth > 2) / lines,
        "brackets inside two others (%)": 100
        * sum(count for depth, count in sums.brackets.items() if depth > 2)
        / max(1, sums.brackets.total()),
        "entropy of names (bits)": entropy,
        "different names in 1000": 1000 * len(sums.names) / max(1, named),
        "characters a name": sum(len(name) * count for name, count in sums.names.items()) / max(1, named),
        "variables that are read somewhere (%)": 100 * sums.read_names / max(1, sums.set_names),
        "arguments with a default (%)": 100 * sums.defaulted / max(1, sums.arguments),
        "definitions with a docstring (%)": 100 * sums.documented / max(1, defined),
    }
    return {**measures, **{name: 1000 * sums.constructs[name] / lines for name in CONSTRUCTS}}
