"""docs/twenty_tasks.md is up to date, and the examples of docs/tasks.md run."""

import re
from pathlib import Path

import pytest

from sparse_circuits.tasks import SPLITS, TASKS, get_task
from sparse_circuits.tasks.page import main, page
from sparse_circuits.tokenizer import Tokenizer

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "tasks.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_the_page_of_tasks_is_up_to_date() -> None:
    written = (DOCS / "twenty_tasks.md").read_text()
    assert written == page(), "run python -m sparse_circuits.tasks.page docs/twenty_tasks.md"


def test_the_page_shows_three_pairs_of_every_task() -> None:
    sections = page().split("\n### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [f"`{name}`" for name in TASKS]
    for section, task in zip(sections, TASKS.values(), strict=True):
        assert task.description in section
        assert section.count("  →  ") == 6
        for pair in task.draw("report", n=3):
            last = pair.prompt_b.rpartition("\n")[2]
            right = f"not {pair.completion_a!r}" if pair.completion_b is None else repr(pair.completion_b)
            assert f"{last}  →  {right}\n" in section


def test_writing_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == page()
    assert main([]) == 2
    assert "name one page" in capsys.readouterr().err
    assert main([str(tmp_path / "none" / "page.md")]) == 2
    assert "no folder" in capsys.readouterr().err


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
