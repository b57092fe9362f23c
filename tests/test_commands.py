"""The command line: results on standard output, one line for what is wrong, help at once."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from small_runs import Finished

from sparse_circuits import kernels, presets
from sparse_circuits.__main__ import VERBS, main
from sparse_circuits.config import GPTConfig, LoopConfig, PruneConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.config import CorpusConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged

REPOSITORY = Path(__file__).parents[1]


class Result(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def small_machine() -> Iterator[None]:
    """One thread and kernels that need no compiling."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with kernels.use("reference"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def model(finished: Finished, tmp_path: Path) -> Path:
    """The folder of a small trained model."""
    return Path(shutil.copytree(finished.config.out, tmp_path / "model"))


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    """A task of one's own."""
    path = tmp_path / "closing.jsonl"
    splits = ["prune"] * 4 + ["calibrate"] * 4 + ["report"] * 4
    pairs = [
        {"a": f"x{n} = [{n}", "b": f"x{n} = ({n}", "right_a": "]", "right_b": ")", "split": split}
        for n, split in enumerate(splits)
    ]
    path.write_text("\n".join(map(json.dumps, pairs)))
    return path


def one_line(result: Result, status: int = 2) -> str:
    """The message of a command that was refused, once it is known to be in good form."""
    assert result.status == status
    assert result.out == ""
    assert result.err.startswith("sparse-circuits: ")
    assert result.err.endswith("\n")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    assert "---" not in result.err
    assert "─" not in result.err
    return result.err.removeprefix("sparse-circuits: ").rstrip("\n")


def outside(*arguments: object, **changes: object) -> subprocess.CompletedProcess[bytes]:
    """Runs a command in a process of its own, whose output is buffered as usual."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    environment |= changes.pop("environment", {})  # type: ignore[arg-type, operator]
    command = [sys.executable, "-m", "sparse_circuits", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": REPOSITORY, "env": environment} | changes
    return subprocess.run(command, check=False, **settings)  # type: ignore[call-overload]


# Help


def test_the_overview_names_every_command(run: Run) -> None:
    for flag in ("--help", "-h"):
        result = run(flag)
        assert result.status == 0
        assert result.err == ""
        for verb, summary in VERBS.items():
            assert f"{verb:10s}{summary}" in result.out
    nothing = run()
    assert nothing == Result(2, "", result.out)
    assert run("--version").out.startswith("sparse-circuits ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(run: Run, verb: str) -> None:
    for flags in (["--help"], ["-h"]):
        result = run(verb, *flags)
        assert result.status == 0
        assert result.err == ""
        assert f"usage: sparse-circuits {verb}" in result.out
        assert "--json" in result.out
        assert "--config." not in result.out


def test_a_preset_is_what_help_shows_and_flags_change(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_circuits.commands import train

    assert "--preset NAME starts from one of: demo" in run("train", "--help").out
    shown = run("train", "--preset", "demo", "--help").out
    assert "(default: 128)" in shown
    given: list[train.Command] = []
    monkeypatch.setattr(train, "run", given.append)
    assert run("train", "--preset=demo", "--steps", 3, "--out", "x").status == 0
    preset = presets.demo_train()
    config = given[0].config
    assert config.loop.steps == 3
    assert config.out == Path("x")
    assert config.model == preset.model
    assert config.loop.learning_rate == preset.loop.learning_rate


def test_help_is_quick_and_loads_no_torch() -> None:
    program = (
        "import sys; from sparse_circuits.__main__ import VERBS, main;"
        "main(['--help']); [main([verb, '--help']) for verb in VERBS];"
        "sys.exit(bool({'torch', 'numba', 'matplotlib', 'transformers'} & set(sys.modules)))"
    )

    def processor_seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    processor_seconds("-c", program)
    start = processor_seconds("-c", "pass")
    # Half a second each, the slowest being the one with most flags.
    assert processor_seconds("-m", "sparse_circuits", "--help") - start < 0.5
    assert processor_seconds("-m", "sparse_circuits", "train", "--help") - start < 0.5


# What is wrong is said in one line

ARGUMENTS = {
    "trian": "unknown command 'trian'; did you mean 'train'? choose among demo, corpus, train, tasks, prune, generate",
    "--steps 3": "unknown command '--steps'; choose among demo,",
    "a\nb": "unknown command 'a\\nb'",
    "train --stepz 4": "Unrecognized options: --stepz, 4; perhaps you meant --steps INT",
    "train --steps four": "Error parsing --steps: invalid literal for int() with base 10: 'four'; expected --steps INT",
    "train --steps": "Missing value for argument '--steps'",
    "train --steps 0": "steps is 0; it must be at least 1; see `sparse-circuits train --help`",
    "train --density 0": "density is 0.0; it must be above 0 and at most 1 (1 is dense)",
    "train --preset demo --density 2": "density is 2.0; it must be above 0 and at most 1 (1 is dense)",
    "train --d-model 17 --n-head 4": "d_model 17 is not divisible by n_head 4; change one, or give d_head",
    "train --activation swish": "invalid choice 'swish' for argument '--activation'. Expected one of ('gelu', 'relu')",
    "train --abs-topk-sites nose": "unknown AbsTopK site 'nose'; choose among attn_in, attn_q,",
    "train --learning-rate nan": "learning_rate is nan; it must be above 0 and finite",
    "train --seed -1": "seed is -1; it must be from 0 to 2**32 - 1",
    "train --preset nope": "unknown preset 'nope'; choose among demo",
    "train --preset": "unknown preset ''; choose among demo",
    "train here": "Unrecognized options: here; see `sparse-circuits train --help`",
    "train --corpus nowhere --out x": "no corpus in nowhere: it has no manifest.json; make one with `sparse-circuits",
    "train --resume --out nowhere": "nowhere holds no run to resume: expected train.json",
    "corpus": "Missing from sparse-circuits corpus: --out PATH",
    "corpus --out x": "no text to read: name a source with --folder, --installed or --idioms",
    "corpus --out x --folder nowhere": "no folder nowhere; expected a folder of Python files",
    "corpus --out x --idioms 1 --vocab-size 9": "vocab_size is 9; expected 257 or more",
    "tasks --task single_duble_quote": "no task 'single_duble_quote': did you mean 'single_double_quote'?",
    "tasks --task nowhere.jsonl": "cannot read nowhere.jsonl: No such file or directory",
    "tasks --task for_while --n 0": "0 pairs asked: ask for at least 1",
    "tasks --task for_while --split test": "no split 'test': the splits are prune, calibrate, report, ood",
    "tasks --model nowhere": "no model at nowhere: expected a folder with config.json",
    "prune --task for_while": "Missing from sparse-circuits prune: --model PATH",
    "prune --model nowhere --task for_while": "no model at nowhere: expected a folder with config.json",
    "prune --model x --task y --target-loss 0": "target_loss is 0.0; it must be above 0",
    "prune --model x --task y --ablation half": "invalid choice 'half' for argument '--ablation'",
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


# Results


def test_generation_is_the_seeds(run: Run, model: Path) -> None:
    flags = ["generate", "--model", model, "--prompt", "x = ", "--max-new-tokens", 12]
    first = run(*flags, "--seed", 3)
    assert first.status == 0
    assert first.out.startswith("x = ")
    assert first.err == ""
    assert run(*flags, "--seed", 3) == first
    assert run(*flags, "--seed", 4).out != first.out
    likeliest = run(*flags, "--temperature", 0)
    assert likeliest.out == run(*flags, "--temperature", 0, "--seed", 9).out


def test_generation_as_json(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["generate", "--model", model, "--max-new-tokens", 5, "--samples", 3, "--json"]
    given = json.loads(run(*flags, "--prompt", "def é(\n").out)
    assert given["prompt"] == "def é(\n"
    assert len(given["continuations"]) == 3
    monkeypatch.setattr(sys, "stdin", StringIO("while x"))
    assert json.loads(run(*flags, "--prompt", "-").out)["prompt"] == "while x"
    # The model reads 32 positions: of a longer prompt the end.
    end = " 12345" * 40
    ends = [json.loads(run(*flags, "--prompt", start + end).out)["continuations"] for start in ("", "x = (")]
    assert ends[0] == ends[1]
    assert len(json.loads(run(*flags, "--prompt", "").out)["continuations"]) == 3


def test_tasks_as_json_and_for_reading(run: Run, model: Path, task_file: Path) -> None:
    everything = json.loads(run("tasks", "--json").out)
    assert "single_double_quote" in [row["name"] for row in everything]
    assert all(set(row) == {"name", "description", "splits"} for row in everything)
    for row in everything:
        assert f"{row['name']}: {row['description']}" in run("tasks").out
    one = json.loads(run("tasks", "--task", "for_while", "--n", 2, "--split", "prune", "--json").out)[0]
    assert len(one["pairs"]) == 2
    assert set(one["pairs"][0]) == {"prompt_a", "prompt_b", "completion_a", "completion_b", "template"}
    assert "losses" not in one
    shown = run("tasks", "--task", task_file, "--n", 4)
    assert "'x8 = [8' -> ']'" in shown.out
    assert "'x8 = (8' -> ')'" in shown.out


@pytest.mark.filterwarnings("default")
def test_tasks_of_a_model(run: Run, model: Path, task_file: Path) -> None:
    result = run("tasks", "--task", task_file, "--model", model, "--json")
    losses = json.loads(result.out)[0]["losses"]
    assert set(losses) == {"prune", "calibrate", "report"}
    assert all(0 < loss < 20 for loss in losses.values())
    # There are fewer pairs than are usually asked.
    assert result.err.splitlines()
    assert all(line.startswith("warning: task 'closing' has 4 distinct pairs") for line in result.err.splitlines())
    assert f"report {losses['report']:.3f}" in run("tasks", "--task", task_file, "--model", model).out


@pytest.mark.filterwarnings("default")
def test_corpus_as_json_and_for_reading(run: Run, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for number in range(30):
        (tmp_path / "code" / f"{number}.py").write_text(f"x = {number}\nprint(x)\n")
    (tmp_path / "code" / "latin.py").write_bytes(b"name = '\xe9'\n")
    flags = ["corpus", "--folder", tmp_path / "code", "--vocab-size", 260]
    result = run(*flags, "--out", tmp_path / "a", "--json")
    assert result.status == 0
    manifest = json.loads(result.out)
    assert manifest["sources"][0]["documents"] == 30
    assert manifest["sources"][0]["left_out"] == {"not in the declared encoding": 1}
    assert "warning: " in result.err
    shown = run(*flags, "--out", tmp_path / "b").out
    assert f"{tmp_path / 'b'}: {manifest['tokens']:,} tokens, vocabulary 260" in shown
    assert "30 documents" in shown
    assert "1 not in the declared encoding" in shown


def test_training_as_json(run: Run, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    shape = ["--n-layer", 1, "--d-model", 16, "--n-head", 2, "--block-size", 16, "--batch-size", 2, "--density", 0.5]
    flags = ["train", "--corpus", packed_corpus.folder, *shape, "--steps", 2, "--eval-tokens", 100]
    result = run(*flags, "--out", tmp_path / "m", "--json")
    assert result.status == 0
    assert json.loads(result.out) == json.loads((tmp_path / "m" / "train.json").read_text())
    assert "parameters, density" in result.err
    assert "already holds a" in one_line(run(*flags, "--out", tmp_path / "m"))
    again = run(*flags, "--out", tmp_path / "n")
    assert again.out.count("\n") == 1
    assert f"{tmp_path / 'n'}: validation loss" in again.out
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (tmp_path / "m" / "model.safetensors").read_bytes()


def test_resuming_keeps_the_settings(run: Run, model: Path) -> None:
    assert "is finished; nothing is left to resume" in one_line(run("train", "--resume", "--out", model))
    described = json.loads((model / "train.json").read_text())
    (model / "train.json").write_text(json.dumps({k: v for k, v in described.items() if k != "validation_loss"}))
    message = one_line(run("train", "--resume", "--out", model, "--batch-size", 9))
    assert f"--batch-size is 9, but the run in {model} was started with 8; a resumed run keeps its settings" in message
    assert "--n-layer is 3" in one_line(run("train", "--resume", "--out", model, "--n-layer", 3, "--batch-size", 8))


PRUNE = ["--target-loss", 5, "--steps", 2, "--batch-pairs", 4, "--eval-pairs", 4, "--mean-tokens", 1000]


def test_pruning_as_json_and_for_reading(run: Run, model: Path, task_file: Path, tmp_path: Path) -> None:
    result = run("prune", "--model", model, "--task", task_file, *PRUNE, "--json")
    assert result.status == 0
    circuit = json.loads(result.out)
    assert circuit == json.loads((model / "circuits" / "closing" / "circuit.json").read_text())
    assert circuit["task"]["name"] == "closing"
    assert circuit["found"]["losses"]["calibrate"]["circuit"] <= 5
    assert circuit["sizes"]["nodes"] == sum(map(len, circuit["nodes"].values()))
    elsewhere = run("prune", "--model", model, "--task", task_file, *PRUNE, "--out", tmp_path / "c", "--no-clean")
    assert "closing: loss in nats" in elsewhere.out
    assert f"saved to {tmp_path / 'c'}\n" in elsewhere.out
    assert "Traceback" not in elsewhere.err
    assert (tmp_path / "c" / "circuit.safetensors").exists()


def test_the_demo_goes_the_whole_way_once(run: Run, task_file: Path, tmp_path: Path, monkeypatch) -> None:
    def corpus(folder: Path) -> CorpusConfig:
        return CorpusConfig(out=folder, idioms=0.1, vocab_size=300)

    def train(corpus: Path, out: Path) -> TrainConfig:
        shape = GPTConfig(block_size=32, n_layer=1, d_model=16, n_head=2)
        loop = LoopConfig(steps=2, learning_rate=0.1)
        return TrainConfig(corpus, out, shape, SparsityConfig(density=0.5), loop, batch_size=2, eval_tokens=100)

    def prune() -> PruneConfig:
        loop = LoopConfig(steps=2)
        return PruneConfig(target_loss=5.0, batch_pairs=4, eval_pairs=4, mean_tokens=1000, loop=loop)

    monkeypatch.setattr(presets, "demo_corpus", corpus)
    monkeypatch.setattr(presets, "demo_train", train)
    monkeypatch.setattr(presets, "demo_prune", prune)
    first = run("demo", "--out", tmp_path / "demo", "--task", task_file)
    assert first.status == 0
    assert [line[:3] for line in first.err.splitlines() if line[1:3] == "/3"] == ["1/3", "2/3", "3/3"]
    folder = tmp_path / "demo" / "model" / "circuits" / "closing"
    assert f"the circuit is in {folder}" in first.out
    written = (folder / "circuit.json").stat().st_mtime_ns
    second = run("demo", "--out", tmp_path / "demo", "--task", task_file, "--json")
    assert second.err == ""
    assert json.loads(second.out) == json.loads((folder / "circuit.json").read_text())
    assert (folder / "circuit.json").stat().st_mtime_ns == written
    # A step whose result is gone is done again, the others are not.
    shutil.rmtree(folder)
    third = run("demo", "--out", tmp_path / "demo", "--task", task_file)
    assert [line[:3] for line in third.err.splitlines() if line[1:3] == "/3"] == ["3/3"]


# In a process of its own


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
