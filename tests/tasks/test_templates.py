"""The registered templates are not taken from the generated programs that small models learn from."""

import keyword
import re
import string

from sparse_circuits.tasks import SPLITS, TASKS

LONG = 7
NAMES = re.compile(r"[A-Za-z_]\w*")


def shape(line: str) -> str:
    """A line with its strings, numbers and names blotted out, but not its keywords."""
    line = re.sub(r"#.*|\"[^\"]*\"|'[^']*'", "S", line)
    line = re.sub(r"\d+", "0", line)
    return NAMES.sub(lambda match: match[0] if keyword.iskeyword(match[0]) else "N", line)


def test_no_prompt_of_three_lines_is_in_the_programs(corpus: list[str]) -> None:
    text = "\n".join(["", *corpus])
    for task in TASKS.values():
        for split in SPLITS:
            for pair in task.draw(split, n=20):
                for prompt in (pair.prompt_a, pair.prompt_b):
                    assert prompt.count("\n") < 2 or "\n" + prompt not in text


def test_no_long_template_is_in_the_programs(corpus: list[str]) -> None:
    # The lines of a template before its last one, whatever its slots are filled with.
    programs = [[shape(line) for line in text.split("\n")] for text in corpus]
    passages = {
        tuple(lines[start : start + LONG]) for lines in programs for start in range(max(0, len(lines) - LONG + 1))
    }
    filled = {f"{kind}{number}": "x" for kind in ("name",) for number in range(9)}
    assert passages
    templates = [template for task in TASKS.values() for split in SPLITS for template in task.templates[split]]
    long = [
        [shape(line) for line in string.Template(side).safe_substitute(filled).split("\n")[:-1]]
        for template in templates
        for side in (template.a, template.b)
        if side.count("\n") >= LONG
    ]
    assert len(long) > len(templates) / 2
    for lines in long:
        assert tuple(lines[-LONG:]) not in passages
