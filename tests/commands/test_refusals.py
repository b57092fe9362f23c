"""What is wrong is said in one line on standard error, with status 2; a traceback is a defect."""

import json
import os
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from command_line import Result, Run, one_line, outside

from sparse_circuits.__main__ import main
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged

ARGUMENTS = {
    "trian": "unknown command 'trian'; did you mean 'train'? choose among demo, corpus, train, tasks, prune",
    "--steps 3": "unknown command '--steps'; choose among demo,",
    "a\nb": "unknown command 'a\\nb'",
    "train --stepz 4": "Unrecognized options: --stepz, 4; perhaps you meant --steps INT; see `",
    "train --steps four": "Error parsing --steps: invalid literal for int() with base 10: 'four'; expected --steps INT",
    "train --steps": "Missing value for argument '--steps'",
    "train --steps 0": "--steps is 0; it must be at least 1; see `sparse-circuits train --help`",
    "train --density 0": "density is 0.0; it must be above 0 and at most 1 (1 is dense)",
    "train --preset demo --density 2": "density is 2.0; it must be above 0 and at most 1 (1 is dense)",
    "train --d-model 17 --n-head 4": "d_model 17 is not divisible by n_head 4; change one, or give d_head",
    "train --activation swish": "invalid choice 'swish' for argument '--activation'. Expected one of ('gelu', 'relu',",
    "train --abs-topk-sites nose": "unknown AbsTopK site 'nose'; choose among attn_in, attn_q,",
    "train --learning-rate nan": "--learning-rate is nan; it must be above 0 and finite",
    "train --seed -1": "seed is -1; it must be from 0 to 2**32 - 1",
    "train --preset nope": "unknown preset 'nope'; choose among demo",
    "train --preset": "unknown preset ''; choose among demo",
    "train here": "Unrecognized options: here; see `sparse-circuits train --help`",
    "train --corpus nowhere --out x": "no corpus in nowhere: it has no manifest.json; make one with `sparse-circuits",
    "train --resume --out nowhere": "nowhere holds no run to resume: expected train.json",
    "corpus": "Missing from sparse-circuits corpus: --out PATH",
    "corpus --out x": "no text to read: name a source with --folder, --installed or --idioms",
    "corpus --out x --folder nowhere": "no folder nowhere; expected a folder of Python files",
    "corpus --out x --idioms 1 --vocab-size 9": "--vocab-size is 9; expected 257 or more",
    "tasks --task single_duble_quote": "no task 'single_duble_quote': did you mean 'single_double_quote'?",
    "tasks --task nowhere.jsonl": "cannot read nowhere.jsonl: No such file or directory",
    "tasks --task for_while --n 0": "0 pairs asked: ask for at least 1",
    "tasks --task for_while --split test": "no split 'test': the splits are prune, calibrate, report, ood",
    "tasks --model nowhere": "no model at nowhere: expected a folder with config.json",
    "prune --task for_while": "Missing from sparse-circuits prune: --model PATH",
    "prune --model nowhere --task for_while": "no model at nowhere: expected a folder with config.json",
    "prune --model x --task y --target-loss 0": "--target-loss is 0.0; it must be above 0",
    "prune --model x --task y --ablation half": "invalid choice 'half' for argument '--ablation'",
    "sweep --out x": "Missing from sparse-circuits sweep: --models",
    "sweep --out x --models nowhere": "no model at nowhere: expected a folder with config.json",
    "sweep --out x --models y --targets 0": "a target loss is 0.0; each must be above 0 and at most 10000",
    "sweep --out x --models y --methods guess": "invalid choice 'guess' for argument '--methods'",
    "sweep --out x --models y --target-loss 0.1": "a sweep's targets are given by --targets",
    "sweep --out x --models y --target-loss=0.15": "a sweep's targets are given by --targets",
    "sweep --out x --models y --workers 0": "workers is 0; it must be at least 1",
    "sweep --out x --models y --settings nowhere.json": "cannot read nowhere.json: No such file or directory",
    "tune --out x --models y": "Missing from sparse-circuits tune: --tasks",
    "tune --out x --models nowhere --tasks for_while": "no model at nowhere: expected a folder with config.json",
    "tune --out x --models y --tasks z --knobs prise": "no knob 'prise' to tune; did you mean 'price'? choose among",
    "tune --out x --models y --tasks z --trials 0": "--trials is 0; it must be at least 1",
    "generate --model nowhere": "no model at nowhere: expected a folder with config.json",
    "generate": "Missing from sparse-circuits generate: --model PATH",
    "demo --task quotes": "no task 'quotes': ",
}


@pytest.mark.parametrize(("arguments", "message"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_wrong_arguments(run: Run, tmp_path: Path, monkeypatch, arguments: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    words = [arguments] if "\n" in arguments else arguments.split(" ")
    assert message in one_line(run(*words))
    assert list(tmp_path.iterdir()) == []


def test_where_the_parser_cannot_draw_boxes_there_are_none_to_remove(monkeypatch) -> None:
    """On a terminal that is not UTF-8 the boxes are dashes."""
    out, err = StringIO(), StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    status = main(["train", "--steps", "four"])
    assert "Error parsing --steps" in one_line(Result(status, out.getvalue(), err.getvalue()))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-new-tokens", 0), "--max-new-tokens is 0; it must be at least 1"),
        (("--samples", 0), "--samples is 0; it must be at least 1"),
        (("--temperature", -1), "temperature is -1.0; it must be 0 or a finite number above"),
        (("--temperature", "nan"), "temperature is nan"),
        (("--top-k", 0), "top_k is 0; it must be at least 1"),
        (("--top-p", 1.5), "top_p is 1.5; it must be above 0 and at most 1"),
        (("--seed", 10**30), f"seed is {10**30}; it must be from 0"),
        (("--prompt", "\udcff"), "text has a lone surrogate"),
    ],
)
def test_wrong_sampling(run: Run, model: Path, flags: tuple[object, ...], message: str) -> None:
    assert message in one_line(run("generate", "--model", model, *flags))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("verb", ["generate", "prune", "tasks"])
def test_damaged_models(run: Run, model: Path, task_file: Path, verb: str, name: str) -> None:
    content = (model / name).read_bytes()
    flags = [] if verb == "generate" else ["--task", task_file]
    for size in (0, len(content) // 2, len(content.rstrip()) - 1):
        (model / name).write_bytes(content[:size])
        assert name in one_line(run(verb, "--model", model, *flags))
    (model / name).unlink()
    one_line(run(verb, "--model", model, *flags))


def test_a_damaged_corpus(run: Run, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(packed_corpus.folder, tmp_path / "corpus"))
    with open(corpus / "train.bin", "r+b") as file:
        file.truncate(1001)
    message = one_line(run("train", "--corpus", corpus, "--out", tmp_path / "m"))
    assert "train.bin has 1001 bytes, its manifest says" in message
    (corpus / "manifest.json").write_text("{")
    assert "manifest.json is not valid JSON" in one_line(run("train", "--corpus", corpus, "--out", tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_corpus_of_another_tokenizer(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    assert run("corpus", "--out", tmp_path / "other", "--idioms", 0.02, "--vocab-size", 280).status == 0
    prune = ["prune", "--model", model, "--task", task_file, "--target-loss", 5, "--eval-pairs", 4]
    assert "was packed with the tokenizer of hash" in one_line(run(*prune, "--corpus", tmp_path / "other"))
    assert "no corpus in" in one_line(run(*prune, "--corpus", tmp_path))


def test_where_nothing_can_be_written(run: Run, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    out = tmp_path / "file" / "m"
    assert "cannot make the folder" in one_line(run("train", "--corpus", packed_corpus.folder, "--out", out))
    assert "is a file" in one_line(run("corpus", "--out", tmp_path / "file", "--idioms", 0.01))
    assert "exists already" in one_line(run("corpus", "--out", packed_corpus.folder, "--idioms", 0.01))
    (tmp_path / "empty").mkdir()
    assert "holds no .py file" in one_line(run("corpus", "--out", tmp_path / "c", "--folder", tmp_path / "empty"))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "closing.jsonl is not UTF-8 (byte 0); save it as UTF-8"),
        (b"", "holds no pairs; write one JSON object a line"),
        (b'{"a": "x", "b": "y", "right_a": "1", "right_b": "2"}\n{"a": \n', "closing.jsonl:2: not JSON"),
        (b'{"a": "x", "b": "y", "rihgt_a": "1"}', "unknown key 'rihgt_a'; did you mean 'right_a'?"),
        (b'{"a": "x = (", "b": "x = [", "right_a": "1", "right_b": "2"}', "has no '"),
    ],
)
def test_wrong_task_files(run: Run, model: Path, task_file: Path, content: bytes, message: str) -> None:
    task_file.write_bytes(content)
    assert message in one_line(run("prune", "--task", task_file, "--model", model))


def test_completions_the_tokenizer_does_not_have(run: Run, model: Path, task_file: Path) -> None:
    task_file.write_text(task_file.read_text().replace('"right_a": "]"', '"right_a": "abstract"'))
    message = one_line(run("prune", "--task", task_file, "--model", model, "--eval-pairs", 4))
    assert "completion 'abstract' is not one token of this tokenizer, it splits into" in message


def test_a_task_file_that_fails(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("raise ValueError('first\\nsecond')\n")
    assert "mine.py raises ValueError: first second" in one_line(run("tasks", "--task", path))


def test_prompts_whose_evidence_does_not_fit_the_block(run: Run, model: Path, task_file: Path) -> None:
    long = [
        {"a": f"[{n}" + ", 12345" * 40, "b": f"({n}" + ", 12345" * 40, "right_a": "]", "right_b": ")", "split": split}
        for n, split in enumerate(["prune", "calibrate", "report"])
    ]
    task_file.write_text("\n".join(map(json.dumps, long)))
    message = one_line(run("prune", "--model", model, "--task", task_file, "--eval-pairs", 1))
    assert "cut to their last 31 tokens, both prompts are the same; the evidence lies further back" in message


def test_a_model_that_cannot_do_the_task(run: Run, model: Path, task_file: Path) -> None:
    message = one_line(run("prune", "--model", model, "--task", task_file, "--target-loss", 1e-4, "--eval-pairs", 4))
    assert "above the target 0.0001: no circuit can be found for what the model does not do" in message
    assert not list((model / "circuits").rglob("circuit*"))


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Diverged("the loss is nan at step 7;\nlower the learning rate"), 1, "the loss is nan at step 7; lower the"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "/x/y: Permission denied; free space, or choose"),
        (OSError(28, "No space left on device"), 2, "No space left on device; free space, or choose"),
    ],
)
def test_what_stops_a_run(run: Run, monkeypatch, error: BaseException, status: int, message: str) -> None:
    from sparse_circuits.commands import tasks

    def stop(command: object) -> None:
        raise error

    monkeypatch.setattr(tasks, "run", stop)
    assert one_line(run("tasks"), status).startswith(message)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["tasks", "--json"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_trouble(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = outside(*arguments, stdout=writing)
    os.close(writing)
    assert result.stderr == b""
    assert result.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        result = outside("--help", stdout=full)
    assert one_line(Result(result.returncode, "", result.stderr.decode())).startswith("No space left on device")


def test_text_in_another_encoding(model: Path) -> None:
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    result = outside("generate", "--model", model, "--prompt", "-", input=b"x = '\xe9'", environment=strict)
    message = one_line(Result(result.returncode, result.stdout.decode(), result.stderr.decode()))
    assert message == "standard input is not UTF-8 (byte 5); save it in that encoding"
    flags = ["--max-new-tokens", 1, "--temperature", 0]
    result = outside("generate", "--model", model, "--prompt", "é", *flags, environment={"PYTHONIOENCODING": "ascii"})
    assert result.stderr == b""
    assert result.stdout.startswith(b"\\xe9")
