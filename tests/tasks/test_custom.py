"""Tasks from files: what is read, what is refused, with file and line."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import Task, get_task
from sparse_circuits.tokenizer import Tokenizer


def line(number: int = 0, **changes: object) -> dict[str, object]:
    fields = {"a": f"while x{number}", "b": f"for x{number}", "right_a": ":\n", "right_b": " in"} | changes
    return {key: value for key, value in fields.items() if value != "absent"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(text if isinstance(text, str) else json.dumps(text) for text in lines) + "\n")
    return path


def test_a_file_of_forty_pairs_is_usable(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write(tmp_path / "mine.jsonl", *(line(number) for number in range(40)))
    task = get_task(str(path))
    assert task.name == "mine"
    assert task.splits == ("prune", "calibrate", "report")
    assert sum(task.size(split) for split in task.splits) == 40
    for split in task.splits:
        with pytest.warns(UserWarning, match="64 were asked"):
            assert len(task.examples(tokenizer, split, n=64)) == task.size(split)


def test_hashing_halves_and_quarters_and_moves_no_pair(tmp_path: Path) -> None:
    lines = [line(number) for number in range(400)]
    task = Task.from_jsonl(write(tmp_path / "t.jsonl", *lines))
    counts = Counter({split: task.size(split) for split in task.splits})
    assert counts["prune"] == pytest.approx(200, abs=40)
    assert counts["calibrate"] == pytest.approx(100, abs=35)
    assert counts["report"] == pytest.approx(100, abs=35)
    fewer = Task.from_jsonl(write(tmp_path / "t.jsonl", *lines[100:]))
    for split in fewer.splits:
        assert {t.a for t in fewer.templates[split]} <= {t.a for t in task.templates[split]}


def test_splits_and_templates_are_kept(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = write(
        tmp_path / "t.jsonl",
        line(0, split="ood", template="plain"),
        "",
        line(1, split="ood", template="plain"),
        line(2, split="report"),
        *(line(number, template="many") for number in range(3, 20)),
    )
    task = get_task(path)
    assert {pair.template for pair in task.pairs(tokenizer, "ood", n=2)} == {"plain"}
    assert [pair.template for pair in task.draw("report", n=task.size("report")) if pair.template != "many"] == [
        "line 4"
    ]
    # Pairs of one template stay together.
    assert sorted(task.size(split) for split in task.splits)[-1] >= 17


def test_text_is_taken_literally(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", line(a="cost $x $$", b="é $", right_a="$", right_b="$$", split="report"))
    (pair,) = get_task(path).draw(n=1)
    assert (pair.prompt_a, pair.prompt_b, pair.completion_a, pair.completion_b) == (
        "cost $x $$",
        "é $",
        "$",
        "$$",
    )


def test_a_mark_at_the_start_of_the_file_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    plain = get_task(write(path, line(0), line(1))).version
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert get_task(path).version == plain


@pytest.mark.parametrize("right_b", ["absent", None])
def test_without_right_b_the_question_is_one_token(tmp_path: Path, right_b: str | None) -> None:
    assert get_task(write(tmp_path / "t.jsonl", line(right_b=right_b))).loss == "one_token"


def test_version_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    one = get_task(write(path, line(0))).version
    assert get_task(write(path, line(0))).version == one
    assert get_task(write(path, line(1))).version != one


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "t.jsonl:1: not JSON"),
        ([line(), "[1]"], "t.jsonl:2: expected an object with the keys a, b, right_a, right_b,"),
        ([line(rigth_b="x")], "t.jsonl:1: unknown key 'rigth_b'; did you mean 'right_b'? the keys are"),
        ([line(a="absent")], "t.jsonl:1: 'a' is missing"),
        ([line(a=3)], "t.jsonl:1: 'a' is 3; expected text"),
        ([line(a=None)], "t.jsonl:1: 'a' is null; expected text"),
        ([line(a=float("nan"))], "t.jsonl:1: 'a' is NaN; expected text"),
        ([line(a="")], "t.jsonl:1: 'a' is \"\"; expected text"),
        ([line(b="\ud800")], "t.jsonl:1: 'b' holds a lone surrogate"),
        ([line(split="train")], "t.jsonl:1: no split 'train': the splits are prune, calibrate, report, ood"),
        ([line(b="while x0")], "t.jsonl:1: a and b are the same prompt"),
        ([line(right_b=":\n")], "t.jsonl:1: right_a and right_b are both ':\\n'"),
        ([line(), line(1), line()], "t.jsonl:3: the same pair as at "),
        ([line(split="prune"), line(split="ood")], "t.jsonl:2: the same pair as at "),
        (
            [line(split="prune", template="t"), line(1, split="ood", template="t")],
            "t.jsonl:2: template 't' is in split 'ood' here and in 'prune' at ",
        ),
        ([line(), line(1, right_b=None)], "t.jsonl:2: right_b is absent here but given at "),
        ([""], "t.jsonl holds no pairs"),
    ],
)  # fmt: skip
def test_bad_lines_are_refused(tmp_path: Path, lines: list[object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        get_task(write(tmp_path / "t.jsonl", *lines))
    assert "\n" not in str(refusal.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none\.jsonl: No such file"):
        get_task(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match=r"cannot read .*none\.py: No such file"):
        get_task(tmp_path / "none.py")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(InputError, match=r"latin\.jsonl is not UTF-8 \(byte 0\)"):
        get_task(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "defines no TASK; write TASK = Task("),
        ("TASK = 1", "defines a TASK that is a int; write TASK = Task("),
        ("1 / 0", "raises ZeroDivisionError: division by zero"),
        ("def", "raises SyntaxError: "),
        (
            "from sparse_circuits.tasks import Task\nTASK = Task('t', 'd', {})",
            "t.py: task 't' has no templates",
        ),
    ],
)
def test_bad_python_files_are_refused(tmp_path: Path, code: str, message: str) -> None:
    path = write(tmp_path / "t.py", code)
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        get_task(path)
    assert "\n" not in str(refusal.value)


def test_a_line_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.jsonl:1: not JSON"):
        get_task(write(tmp_path / "mine.jsonl", "[" * 100_000))


@pytest.mark.parametrize("code", ["import sys\nsys.exit(3)", "raise SystemExit"])
def test_a_python_file_that_exits_is_refused(tmp_path: Path, code: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(InputError, match=r"mine\.py raises SystemExit"):
        get_task(path)
