"""Deciding lines in contexts: which suit, how they are indented, and where the evidence stands."""

from sparse_circuits.tasks import SPLITS
from sparse_circuits.tasks.contexts import CONTEXTS, FURTHER, deciding, in_contexts

LINES = dict.fromkeys(SPLITS, ("print(@$name1)\n@$name1",))


def test_every_context_stands_before_every_line() -> None:
    templates = in_contexts("report", [("x", "y"), ("z", "w")], ":\n", None)
    assert len(templates) == 2 * len(CONTEXTS["report"])
    assert len({template.name for template in templates}) == len(templates)
    for template in templates[: len(CONTEXTS["report"])]:
        assert template.a.removesuffix("x") == template.b.removesuffix("y")
        assert template.a.removesuffix("x") in CONTEXTS["report"]
        assert (template.right_a, template.right_b) == (":\n", None)


def test_lines_are_indented_as_the_context_demands() -> None:
    deep = in_contexts("ood", [("if x:\n    y", "z")], " =", ":")[2]
    assert deep.a.endswith("        if x:\n            y")
    assert deep.b.endswith("\n        z")


def test_at_the_margin_no_block_is_open() -> None:
    everywhere, margin = (in_contexts("prune", [("x", "y")], "=", ":", where) for where in ("anywhere", "margin"))
    assert len(margin) < len(everywhere)
    assert {template.name for template in margin} < {template.name for template in everywhere}
    assert all(template.a.endswith("\nx") or template.a == "x" for template in margin)


def test_two_blank_lines_stand_before_a_definition() -> None:
    for lines, where in (([("x", "y")], "definition"), ([("def x", "def y")], "anywhere")):
        for template in in_contexts("report", lines, "=", ":", where):
            assert template.a.endswith(f"\n\n\n{lines[0][0]}")
            assert not template.a.endswith(f"\n\n\n\n{lines[0][0]}")


def test_further_contexts_are_of_other_lengths() -> None:
    for split in SPLITS:
        few, many = (in_contexts(split, [("x", "y")], "=", ":", further=further) for further in (False, True))
        assert len(many) == len(few) + len(FURTHER[split])
        assert many[: len(few)] == few
        assert len({template.a for template in many}) == len(many)
    longest = max(len(context) for context in CONTEXTS["prune"])
    assert max(len(context) for context in FURTHER["prune"]) > longest
    # Imports come first.
    assert not any("import" in context[1:] for context in FURTHER["report"])


def test_the_evidence_stands_at_every_mark() -> None:
    templates = deciding(LINES, ("f", " {"), ("", None), group="one ")
    assert set(templates) == set(SPLITS)
    first = templates["prune"][0]
    assert (first.a, first.b) == ("print(f$name1)\nf$name1", "print($name1)\n$name1")
    assert (first.right_a, first.right_b) == (" {", None)
    assert first.name.startswith("prune/one ")
