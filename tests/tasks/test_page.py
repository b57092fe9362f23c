"""docs/tasks.md: its list is up to date and its examples run."""

import re
from pathlib import Path

import pytest

from sparse_circuits.errors import InputError
from sparse_circuits.tasks import SPLITS, get_task
from sparse_circuits.tasks.page import BEGIN, END, main, rewrite
from sparse_circuits.tokenizer import Tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_list_of_tasks_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert rewrite(page) == page, "run python -m sparse_circuits.tasks.page docs/tasks.md"


def test_rewriting_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main([str(page)]) == 0
    written = page.read_text()
    assert written.startswith(f"before\n{BEGIN}\n")
    assert written.endswith(f"{END}\nafter\n")
    assert "### `bracket_counting`" in written
    assert "old" not in written


def test_bad_pages_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.md")]) == 2
    assert "no file" in capsys.readouterr().err
    with pytest.raises(InputError, match="lacks the line"):
        rewrite(f"{BEGIN} and no end")


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python")[0], {})
    assert "→" in capsys.readouterr().out


def test_the_python_task_is_usable(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "while_assign.py"
    path.write_text(blocks("python")[1])
    task = get_task(path)
    assert task.name == "while_assign"
    for split in SPLITS:
        size = min(64, task.size(split))
        assert {pair.completion_a for pair in task.pairs(tokenizer, split, n=size)} == {":\n"}


def test_the_file_of_pairs_is_usable(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(blocks("json")[0])
    task = get_task(path)
    assert task.size("ood") == 1
    assert [pair.completion_b for pair in task.pairs(tokenizer, "ood", n=1)] == [" ="]
