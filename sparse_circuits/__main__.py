"""The command line: one verb, one dataclass.

Results go to standard output (`--json` for scripts), progress and warnings to standard error. Bad input prints one line
and exits with 2, a run that cannot go on with 1, Ctrl-C with 130. Nothing heavy is imported to show help.
"""

import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

from sparse_circuits.errors import Diverged, FailedElsewhere, InputError
from sparse_circuits.process import is_first, tune

VERBS = {
    "demo": "prune the circuit of one task in a model that ships, or train a small one first",
    "corpus": "pack Python files, this installation's source or generated programs into token files",
    "train": "train a weight-sparse (or dense) transformer on a packed corpus",
    "tasks": "list the tasks, show the pairs of one, or how a model does on one or all",
    "prune": "find the circuit of a task in a model",
    "tune": "search for the settings of pruning with which circuits are smallest",
    "sweep": "measure circuit size against target loss, for many models and tasks",
    "report": "judge a circuit: is it the model's own way, and how far can it be trusted",
    "view": "see circuits in the browser, or as one HTML file",
    "generate": "continue a prompt",
    "experiment": "keep, remove, patch or binarise nodes and see what it does",
    "bridge": "tie a sparse model to a dense one, so that each can be read and run through the other",
    "steer": "move a dense model by nodes of the sparse one it is bridged to",
    "import": "take in a released checkpoint, a Hub folder or a released circuit",
    "export": "write a model or a circuit in another program's form",
    "convert": "turn a model folder of any kind into one of another kind",
    "models": "list the models that ship with the package",
    "card": "write the card of a model: how it was made, how good and how sparse it is, what it can do",
    "bench": "measure speed and memory beside dense PyTorch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    tune()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character gets its code
    try:
        status = _run(given)
        if sys.stdout is not None:  # it is None where the caller closed it
            sys.stdout.flush()  # while trouble with it can still be told
        return status
    except InputError as error:
        return _fail(str(error), 2)
    except Diverged as error:
        return _fail(str(error), 1)
    except FailedElsewhere:
        return 1  # where it was, it has been told
    except KeyboardInterrupt:
        return _fail("interrupted", 130) if is_first() else 130
    except BrokenPipeError:
        _drop_output()  # the reader of our output went away (`| head`)
        return 1
    except OSError as error:
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}; free space, or choose what can be read and written", 2)
    except (MemoryError, OverflowError, RuntimeError) as error:
        if not _is_too_large(error):
            raise
        detail = str(error)[:200] or type(error).__name__
        return _fail(f"more than this machine's memory holds ({detail}); choose smaller sizes", 2)


def _is_too_large(error: Exception) -> bool:
    """Whether a size was too large for memory, in the words of Python, NumPy or PyTorch."""
    return not isinstance(error, RuntimeError) or "allocate memory" in str(error) or "out of memory" in str(error)


def _drop_output() -> None:
    """Let what is left in the buffer of standard output vanish, so that Python does not fail on it at exit."""
    with contextlib.suppress(OSError):  # not where the output is captured
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(given: list[str]) -> int:
    if not given:
        print(_overview(), file=sys.stderr)
        return 2
    if given[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if given[0] == "--version":
        print(f"sparse-circuits {_version()}")
        return 0
    verb, rest = given[0], given[1:]
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"unknown command {verb!r}; {hint}choose among {', '.join(VERBS)}")
    module = importlib.import_module(f"sparse_circuits.commands.{verb}")
    for flag, instead in getattr(module, "REFUSED", {}).items():
        if any(argument.partition("=")[0] == flag for argument in rest):
            raise InputError(instead)
    presets = getattr(module, "PRESETS", {})
    preset, rest = _take_preset(rest, presets)
    kind = _with_settings(module.Command, rest)
    command = _parse(verb, kind, rest, presets[preset]() if preset else None, presets)
    if command is None:
        return 0
    _warned.clear()
    with warnings.catch_warnings():
        warnings.showwarning = _one_line_warning
        module.run(command)
    return 0


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sparse-circuits")
    except PackageNotFoundError:
        return "(not installed)"


def _overview() -> str:
    lines = ["usage: sparse-circuits COMMAND [--help] [flags]", "", "commands:"]
    width = shutil.get_terminal_size().columns
    for verb, summary in VERBS.items():
        lines += textwrap.wrap(summary, max(width, 40), initial_indent=f"  {verb:12s}", subsequent_indent=" " * 14)
    return "\n".join([*lines, "", "The whole path in one go: sparse-circuits demo"])


def _take_preset(rest: list[str], presets: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Split `--preset NAME` off the flags: it is what the other flags are relative to."""
    for position, argument in enumerate(rest if presets else []):
        if argument == "--preset" or argument.startswith("--preset="):
            inline = argument.partition("=")[2]
            name = inline or (rest[position + 1] if position + 1 < len(rest) else "")
            if name not in presets:
                raise InputError(f"unknown preset {name!r}; choose among {', '.join(presets)}")
            return name, rest[:position] + rest[position + (1 if inline else 2) :]
    return None, rest


def _with_settings(kind: type, rest: list[str]) -> type:
    """The command `kind`; if it is given `--settings FILE`, with what the file says as the defaults of its `config`."""
    if all(field.name != "settings" for field in dataclasses.fields(kind)):
        return kind
    inline = [argument.partition("=")[2] for argument in rest if argument.startswith("--settings=")]
    after = [rest[place + 1] for place, argument in enumerate(rest[:-1]) if argument == "--settings"]
    if not inline and not after:
        return kind
    from sparse_circuits.circuits.config import PruneConfig
    from sparse_circuits.settings import read_settings

    config = read_settings([*inline, *after][-1])
    changed = {"config": dataclasses.field(default_factory=lambda: config), "__annotations__": {"config": PruneConfig}}
    return dataclasses.dataclass(frozen=True)(type(kind.__name__, (kind,), changed | {"__doc__": kind.__doc__}))


def _parse(verb: str, kind: type, rest: list[str], default: Any, presets: dict[str, Any]) -> Any:
    """The command `rest` describes, or None where help was asked for and shown."""
    import tyro

    description = inspect.getdoc(kind) or ""
    if presets:
        description += f"\n\n--preset NAME starts from one of: {', '.join(presets)}."
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                kind,
                prog=f"sparse-circuits {verb}",
                description=description,
                args=rest,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.CascadeSubcommandArgs),
                **({} if default is None else {"default": default}),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise InputError(_one_line(captured.getvalue(), verb)) from None


def _one_line(text: str, verb: str) -> str:
    """The parser's boxed message, whose first line is a title, as one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    words = " ".join(re.sub(r"[│╰╯─]+|-{4,}", " ", line) for line in plain.splitlines()[1:])
    words = re.sub(r"For full helptext, .*|Error parsing (Command|config(\.\w+)?): ", "", " ".join(words.split()))
    words = words.replace(" Argument helptext:", "; expected").replace(" Perhaps you meant:", "; perhaps you meant")
    # The flag alone, without its help.
    words = re.sub(r"(; perhaps you meant --\S+( [A-Z{]\S*)?).*", r"\1", words.strip())
    words = re.sub(r"^[a-z]\w*(?= is )", lambda field: "--" + field[0].replace("_", "-"), words)
    return f"{words}; see `sparse-circuits {verb} --help`"


_warned: set[str] = set()


def _one_line_warning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    line = f"warning: {' '.join(str(message).split())}"
    if line not in _warned and is_first():
        _warned.add(line)
        print(line, file=sys.stderr)


def _fail(message: str, status: int) -> int:
    print(f"sparse-circuits: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
