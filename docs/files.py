"""Writes docs/files.md, the file tree with one line a file, from the first lines of the files themselves.

python docs/files.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("sparse_circuits", "benchmarks", "scripts", "docs")
HEAD = """# The file tree

One line a file, taken from the file itself by `python docs/files.py`. Tests mirror the package.

Imports point one way: `fields, config, sites, kernels, sparsity, tokenizer` ← `model, corpus, tasks` ← `checkpoint` ←
`loop, train` ← `circuits` ← `bridges`, `card` ← `viewer` ← `commands` ← `__main__`, `benchmarks`. In `formats` those of
models stand beside `checkpoint`, which finds them through `formats.registry`, those of circuits above `circuits`.
"""


def summary(path: Path) -> str:
    """The first sentence-like line of a file: of its docstring, its comment, or its title."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        line = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    elif path.suffix == ".md":
        line = text.split("\n")[0].lstrip("# ")
    elif path.suffix == ".js":
        line = text.split("\n")[0].removeprefix("// ")
    else:
        line = next((line for line in text.split("\n") if line.startswith("# ")), "# ").lstrip("# ")
    return line.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for folder in FOLDERS:
        lines += [f"## {folder}", "", "| file | what it is |", "|---|---|"]
        for path in sorted((ROOT / folder).rglob("*")):
            readable = path.suffix in (".py", ".md", ".js", "") and path.name != "files.md"
            if path.is_file() and readable and "__pycache__" not in path.parts:
                lines.append(f"| `{path.relative_to(ROOT)}` | {summary(path)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (ROOT / "docs" / "files.md").write_text(page(), encoding="utf-8")
