"""The README and docs are true to the code: commands parse, examples compile, links and the file tree exist."""

import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from sparse_circuits.__main__ import VERBS, _parse, _take_preset

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def has(module: str, name: str) -> bool:
    """Whether `from module import name` works: a module that nothing has imported yet is no attribute."""
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None


COMMANDS = [
    (page.name, line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("sparse-circuits ")
]


def test_there_are_commands_of_every_verb() -> None:
    assert {shlex.split(line)[1] for _, line in COMMANDS} == set(VERBS)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_parse(page: str, line: str) -> None:
    verb, *rest = shlex.split(line, comments=True)[1:]
    if "--help" in rest:
        rest.remove("--help")
    module = importlib.import_module(f"sparse_circuits.commands.{verb}")
    presets = getattr(module, "PRESETS", {})
    preset, rest = _take_preset(rest, presets)
    assert isinstance(
        _parse(verb, module.Command, rest, presets[preset]() if preset else None, presets), module.Command
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile_and_import_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sparse_circuits"):
                assert all(has(node.module, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sc":
                assert hasattr(importlib.import_module("sparse_circuits"), node.attr)


def test_the_task_in_the_docs_has_pairs_in_every_split(tmp_path: Path) -> None:
    from sparse_circuits.tasks import SPLITS, get_task

    (example,) = blocks(ROOT / "docs" / "tasks.md", "json")
    path = tmp_path / "mine.jsonl"
    path.write_text(example)
    assert get_task(path).splits == SPLITS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            candidates = [page.parent / target, page.parent / f"{target}.md"]
            assert any(candidate.exists() for candidate in candidates), target


def test_file_tree_is_up_to_date() -> None:
    """Run `python docs/files.py` when this fails."""
    location = importlib.util.spec_from_file_location("files", ROOT / "docs" / "files.py")
    assert location is not None
    assert location.loader is not None
    files = importlib.util.module_from_spec(location)
    location.loader.exec_module(files)
    page = files.page()
    assert (ROOT / "docs" / "files.md").read_text() == page
    assert "|  |" not in page, "a file does not say what it is"
