"""A trained model is as sparse as asked, learns, and says how it was made; what cannot be trained is refused."""

import dataclasses
import json
import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import randomised
from small_runs import STEPS, Finished, log_of, settings

from sparse_circuits.checkpoint import load, model_hash, read_tensors
from sparse_circuits.config import GPTConfig, LoopConfig, SparsityConfig, TrainConfig
from sparse_circuits.corpus.packed import PackedCorpus
from sparse_circuits.errors import Diverged, InputError
from sparse_circuits.fields import to_json
from sparse_circuits.files import locked
from sparse_circuits.kernels.products import SparseMatrix
from sparse_circuits.loop import Loop
from sparse_circuits.model import GPT, sinusoids
from sparse_circuits.pretraining import Pretraining, next_token_loss, project
from sparse_circuits.sparsity import density_at, learning_rate_at
from sparse_circuits.train import train

pytestmark = pytest.mark.usefixtures("one_thread")

# --- what comes out ---


def test_every_matrix_has_exactly_its_nonzeros(finished: Finished) -> None:
    model = load(finished.config.out)
    for name, parameter in model.named_parameters():
        nonzeros, size = int(parameter.count_nonzero()), parameter.numel()
        if name == "bigram_table" or parameter.ndim == 1:
            assert nonzeros == size, f"{name} is dense"
        elif name in ("wte.weight", "lm_head.weight"):
            assert nonzeros == round(0.25 * 16 / 256 * size), name
        else:
            assert nonzeros == size // 4, name
            of_each = parameter.count_nonzero(dim=0 if "c_proj" in name else 1)
            assert of_each.min() >= 4, f"{name}: at least four per neuron or channel"


@pytest.mark.parametrize(("every", "end"), [(100, 0.5), (8, 1.0)])
def test_amortised_training_reaches_its_density(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, end: float
) -> None:
    """Also where no `dw_every`-th step comes after the density has its final value."""
    monkeypatch.setattr("sparse_circuits.pretraining.worthwhile", lambda *sizes: True)
    sparsity = SparsityConfig(density=0.25, density_end=end)
    config = settings(packed_corpus, tmp_path / "run", steps=12, sparsity=sparsity, dw="amortized", dw_every=every)
    model = train(config, progress=False)
    for name, parameter in model.h.named_parameters():
        if parameter.ndim == 2:
            assert int(parameter.count_nonzero()) == parameter.numel() // 4, name


def test_each_matrix_of_an_amortised_run_gets_its_last_projection(packed_corpus: PackedCorpus) -> None:
    """Embedding and unembedding have a density of their own, and reach it in another step."""
    sparsity = SparsityConfig(density=1.0, embedding_density=0.05, density_start=0.0, density_end=1.0)
    shape = GPTConfig(vocab_size=40, block_size=16, n_layer=1, d_model=24, n_head=4)
    config = TrainConfig(model=shape, sparsity=sparsity, loop=LoopConfig(steps=100), dw="amortized")
    model = GPT(shape)
    objective = Pretraining(model, packed_corpus, config)
    for layer in (model.lm_head, model.h[0].mlp.c_fc):
        layer.matrix = SparseMatrix.from_dense(layer.weight.detach())
    assert objective.projections(99)["lm_head.weight"].k == 48
    assert list(objective.live(99)) == ["h.0.mlp.c_fc.weight"]
    assert "lm_head.weight" in objective.live(98)


def test_the_folder_holds_the_model_and_how_it_was_made(finished: Finished) -> None:
    out = finished.config.out
    visible = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    assert visible == ["config.json", "model.safetensors", "progress.jsonl", "tokenizer.json", "train.json"]
    described = json.loads((out / "train.json").read_text())
    assert described["config"]["loop"] == to_json(finished.config.loop)
    assert described["config"]["model"]["vocab_size"] == 300
    assert described["tokens"] == STEPS * 8 * 32
    assert described["seconds"] > 0
    model = load(out)
    assert model.tokenizer is not None
    assert model.tokenizer.hash == PackedCorpus.load(finished.config.corpus).tokenizer.hash


def test_the_validation_loss_is_the_mean_over_the_validation_split(finished: Finished) -> None:
    model, corpus = load(finished.config.out), PackedCorpus.load(finished.config.corpus)
    windows = torch.from_numpy(corpus.validation_windows(32, 8 * 500))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(windows[:, :-1]).float()
    right = logits.log_softmax(-1).gather(-1, windows[:, 1:, None])
    described = json.loads((finished.config.out / "train.json").read_text())
    assert described["validation_loss"] == pytest.approx(-right.mean().item(), rel=1e-4)


def test_the_loss_falls(finished: Finished) -> None:
    losses = [line["loss"] for line in log_of(finished.config.out) if "loss" in line]
    assert losses[0] == pytest.approx(math.log(300), abs=0.2), "it starts at chance"
    described = json.loads((finished.config.out / "train.json").read_text())
    assert described["validation_loss"] < losses[0] - 0.4


def test_the_log_follows_the_schedules(finished: Finished) -> None:
    lines = log_of(finished.config.out)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 10, 20, 30]
    assert [line["step"] for line in lines if "validation_loss" in line] == [20]
    for line in steps:
        density = density_at(line["step"] / STEPS, 0.25)
        assert line["density"] == pytest.approx(density)
        assert line["tokens"] == line["step"] * 8 * 32
        factor = learning_rate_at((line["step"] - 0.5) / STEPS, 0.01, density, 0.25)
        assert line["learning_rate"] == pytest.approx(0.1 * factor)
    assert steps[-1]["density"] == 0.25


def test_a_seed_makes_the_run(finished: Finished, packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    short = {"steps": 4}
    runs = [
        train(settings(packed_corpus, tmp_path / str(number), **short, loop={"seed": seed}), progress=False)
        for number, seed in enumerate((0, 0, 1))
    ]
    hashes = [model_hash(model) for model in runs]
    assert hashes[0] == hashes[1] != hashes[2]
    assert (tmp_path / "0" / "model.safetensors").read_bytes() == (tmp_path / "1" / "model.safetensors").read_bytes()
    assert model_hash(load(tmp_path / "0")) == hashes[0], "what is returned is what is stored"


LINEAR = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def projected(sparsity: SparsityConfig, progress: float = 1.0, **model: Any) -> GPT:
    made = randomised(GPTConfig(vocab_size=300, block_size=32, n_layer=1, d_model=32, n_head=2, **model))
    project(made, sparsity, progress)
    return made


def nonzeros(model: GPT) -> dict[str, int]:
    return {name: int(parameter.count_nonzero()) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("given", "of_embeddings"),
    [({}, 1 / 64), ({"embedding_density": 0.5}, 0.5), ({"embedding_density": 1.0}, 1.0)],
)
def test_embeddings_have_a_density_of_their_own(given: dict[str, float], of_embeddings: float) -> None:
    """Not given it is density * d_model / 256: 1/8 * 32/256."""
    found = nonzeros(projected(SparsityConfig(density=1 / 8, **given), positions="learned"))
    assert found["wte.weight"] == found["lm_head.weight"] == 300 * 32 * of_embeddings
    assert found["wpe.weight"] == 32 * 32 * of_embeddings
    assert found["h.0.mlp.c_fc.weight"] == 128 * 32 / 8
    assert found["bigram_table"] == 300 * 300


def test_tied_embeddings_are_one_matrix() -> None:
    model = projected(SparsityConfig(density=1 / 8), tied_embeddings=True)
    assert model.lm_head.weight is model.wte.weight
    assert nonzeros(model)["wte.weight"] == 300 * 32 / 64


def test_fixed_positions_are_not_projected() -> None:
    model = projected(SparsityConfig(density=1 / 8), positions="sinusoidal_concat", d_position=4)
    assert torch.equal(model.wpe.weight, sinusoids(32, 4).double())
    assert nonzeros(model)["h.0.attn.c_attn.weight"] == 96 * 36 / 8


@pytest.mark.parametrize("sparse", [False, True])
def test_biases_are_dense_unless_asked_and_norms_and_sinks_always(sparse: bool) -> None:
    model = projected(SparsityConfig(density=1 / 8, sparse_biases=sparse), norm="layer", norm_bias=True)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for name, count in nonzeros(model).items():
        if name.removesuffix(".bias") in [f"h.0.{linear}" for linear in LINEAR]:
            assert count == sizes[name] // (8 if sparse else 1), name
        elif sizes[name] <= 32:
            assert count == sizes[name], name


@pytest.mark.parametrize(
    ("progress", "density"), [(0.0, 1.0), (0.1, 1.0), (0.2, 0.75 + 0.25 / 16), (0.5, 1 / 16), (1.0, 1 / 16)]
)
def test_the_density_falls_on_schedule(progress: float, density: float) -> None:
    """Linear from 1 at 10% to 1/16 at 50%: a quarter of the way at 20% is 1 - 15/64."""
    sparsity = SparsityConfig(density=1 / 16, min_nonzeros=0, density_start=0.1, density_shape="linear")
    found = nonzeros(projected(sparsity, progress))
    assert found["h.0.mlp.c_fc.weight"] == 128 * 32 * density


def test_where_the_least_per_neuron_does_not_fit_it_gives_way_and_the_density_does_not() -> None:
    """At 1/32 a neuron of 32 inputs has one nonzero on average, so four cannot be had."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model = projected(SparsityConfig(density=1 / 32, embedding_density=1.0), d_mlp=100)
    told = "a 100 x 32 matrix with 100 nonzeros has no room for min_per_row=4 and min_per_column=0: using 1 and 0"
    assert told in [str(warning.message) for warning in warned]
    assert model.blocks[0].mlp.c_fc.weight.count_nonzero(dim=1).tolist() == [1] * 100
    assert model.blocks[0].mlp.c_proj.weight.count_nonzero(dim=0).tolist() == [1] * 100


def test_projection_keeps_the_largest_weights() -> None:
    sparsity = SparsityConfig(density=1 / 8, min_nonzeros=0)
    before, after = (projected(sparsity, progress).blocks[0].attn.c_proj.weight for progress in (0.0, 1.0))
    kept = after != 0
    assert torch.equal(after[kept], before[kept])
    assert before[kept].abs().min() >= before[~kept].abs().max()


def test_next_token_loss_by_hand() -> None:
    """Uniform over four is ln 4; odds of 3 to 1 for the right one of two give ln(4/3)."""
    uniform = torch.zeros(1, 2, 4, dtype=torch.bfloat16)
    assert next_token_loss(uniform, torch.tensor([[0, 3]])).item() == pytest.approx(math.log(4))
    odds = torch.tensor([[[math.log(3), 0.0]]])
    assert next_token_loss(odds, torch.tensor([[0]])).item() == pytest.approx(math.log(4 / 3))
    assert next_token_loss(uniform, torch.tensor([[0, 3]])).dtype == torch.float32


def test_matrices_decay_and_nothing_else(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    model = train(settings(packed_corpus, tmp_path / "run", steps=1), progress=False)
    objective = Pretraining(model, packed_corpus, settings(packed_corpus, tmp_path))
    decayed = {name for name in objective.parameters() if objective.decays(name)}
    matrices = {f"h.{layer}.{name}.weight" for layer in (0, 1) for name in LINEAR}
    assert decayed == matrices | {"wte.weight", "lm_head.weight"}


def test_a_table_from_counts_starts_at_the_bigram_baseline(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = settings(packed_corpus, tmp_path / "run", steps=1, bigram_start="counts", model={"bigram_table": "fixed"})
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, learning_rate=1e-9), eval_tokens=10**6)
    train(config, progress=False)
    described = json.loads((config.out / "train.json").read_text())
    assert described["validation_loss"] == pytest.approx(described["bigram_loss"], abs=2e-3)


def test_a_dense_model_is_trained_without_projection(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = settings(
        packed_corpus, tmp_path / "run", steps=3, sparsity=SparsityConfig(density=1.0, embedding_density=1.0)
    )
    model = train(config, progress=False)
    assert all(parameter.count_nonzero() == parameter.numel() for parameter in model.parameters())


# --- divergence ---


def test_divergence_names_step_cause_and_the_last_good_checkpoint(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = settings(packed_corpus, tmp_path / "run", loop={"learning_rate": 1e4}, checkpoint_seconds=0.0)
    with pytest.raises(
        Diverged, match=r"the loss is .* at step \d+, above the limit 20\.11; lower the learning rate"
    ) as stopped:
        train(config, progress=False)
    saved = int(read_tensors(config.out / "checkpoint.safetensors")[0]["step"])
    assert saved >= 1
    assert f"the last good checkpoint is step {saved} in {config.out / 'checkpoint.safetensors'}" in str(stopped.value)


def test_a_poisoned_parameter_is_named_and_never_saved(
    packed_corpus: PackedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Pretraining.after_step

    def poison(objective: Pretraining, step: int) -> None:
        whole(objective, step)
        if step == 2:
            objective.parameters()["h.1.mlp.c_fc.bias"].data[0] = math.nan

    monkeypatch.setattr(Pretraining, "after_step", poison)
    config = settings(packed_corpus, tmp_path / "run", steps=6, checkpoint_seconds=0.0)
    with pytest.raises(Diverged, match=r"at step 4: h\.1\.mlp\.c_fc\.bias holds NaN.*last good checkpoint is step 2"):
        train(config, progress=False)
    state = read_tensors(config.out / "checkpoint.safetensors")[0]
    assert all(tensor.isfinite().all() for tensor in state.values())
    watched = settings(packed_corpus, tmp_path / "watched", steps=6, eval_every=1)
    with pytest.raises(Diverged, match=r"at step 4: h\.1\.mlp\.c_fc\.bias holds NaN"):
        train(watched, progress=False)
    assert log_of(watched.out)[-1] == {"step": 3, "validation_loss": None}
    assert "NaN" not in (watched.out / "progress.jsonl").read_text()
    patient = settings(packed_corpus, tmp_path / "last", steps=3)
    with pytest.raises(Diverged, match=r"nan after the last step; .*there is no earlier checkpoint"):
        train(patient, progress=False)
    assert not (patient.out / "model.safetensors").exists()


def test_a_run_that_stops_early_follows_the_whole_schedule_until_then(
    finished: Finished, packed_corpus: PackedCorpus, tmp_path: Path
) -> None:
    stop = STEPS - 7
    model = train(settings(packed_corpus, tmp_path, stop_after=stop), progress=False)
    whole = [line for line in log_of(finished.config.out) if "loss" in line]
    early = [line for line in log_of(tmp_path) if "loss" in line]
    assert early[:-1] == whole[: len(early) - 1]
    assert early[-1]["step"] == stop
    described = json.loads((tmp_path / "train.json").read_text())
    assert described["tokens"] == stop * 8 * 32
    weight = model.get_parameter("h.0.mlp.c_fc.weight")
    assert int(weight.count_nonzero()) == weight.numel() // 4
    assert not torch.equal(weight, load(finished.config.out).get_parameter("h.0.mlp.c_fc.weight"))


@pytest.mark.parametrize(("stop", "words"), [(0, "from 1 to"), (STEPS + 1, "from 1 to"), (2, "before the density")])
def test_a_run_cannot_stop_beyond_its_schedule_or_before_it_is_sparse(
    packed_corpus: PackedCorpus, tmp_path: Path, stop: int, words: str
) -> None:
    with pytest.raises(InputError, match=f"stop_after is {stop}.*{words}"):
        settings(packed_corpus, tmp_path, stop_after=stop)


# --- refusals ---


def test_a_folder_with_a_run_or_a_model_is_left_alone(finished: Finished, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a finished model"):
        train(finished.config, progress=False)
    shutil.copytree(finished.config.out, tmp_path / "model")
    (tmp_path / "model" / "train.json").unlink()
    with pytest.raises(InputError, match="already holds a model; choose another --out"):
        train(dataclasses.replace(finished.config, out=tmp_path / "model"), progress=False)


def test_a_run_that_failed_before_its_first_checkpoint_can_start_over(finished: Finished, tmp_path: Path) -> None:
    shutil.copy(finished.config.out / "train.json", tmp_path / "train.json")
    train(dataclasses.replace(finished.config, out=tmp_path), progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == finished.model_bytes


def test_a_finished_run_has_nothing_to_resume(finished: Finished) -> None:
    before = finished.model_bytes
    with pytest.raises(InputError, match="is finished; nothing is left to resume"):
        train(finished.config, resume=True, progress=False)
    assert finished.model_bytes == before


def test_there_must_be_a_run_to_resume(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no run to resume: expected train\.json"):
        train(settings(packed_corpus, tmp_path / "absent"), resume=True, progress=False)
    assert not (tmp_path / "absent").exists()


def test_a_folder_held_by_someone_else_is_refused(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match="another process is writing to"):
        train(settings(packed_corpus, tmp_path), progress=False)


def test_a_bad_corpus_leaves_nothing_behind(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = settings(packed_corpus, tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="no corpus in"):
        train(dataclasses.replace(config, corpus=tmp_path), progress=False)
    assert not config.out.exists()
    too_long = dataclasses.replace(config.model, block_size=10**6)
    with pytest.raises(InputError, match="too few for one window of 1000001"):
        train(dataclasses.replace(config, model=too_long), progress=False)
    train(config, progress=False)  # the folder is not spoilt for a second try


def test_batches_are_drawn_by_step_and_seed(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    """The loss of a step is that of the corpus's batch of the step: inputs, and targets one token on."""
    config = settings(packed_corpus, tmp_path / "run", steps=1)
    model = train(config, progress=False)
    objective = Pretraining(model, packed_corpus, config)
    batch = packed_corpus.batch("train", 7, 8, 32, config.loop.seed)
    expected = next_token_loss(model(torch.from_numpy(batch[:, :-1])), torch.from_numpy(batch[:, 1:]))
    assert objective.loss(7)[0].item() == expected.item()
    assert objective.loss(8)[0].item() != expected.item()


def test_a_step_in_the_form_for_gpus_is_the_same_step(packed_corpus: PackedCorpus, tmp_path: Path) -> None:
    config = settings(packed_corpus, tmp_path / "run", steps=4)
    steps = []
    for recordable in (False, True):
        model = GPT(dataclasses.replace(config.model, vocab_size=packed_corpus.tokenizer.vocab_size), seed=2)
        objective = Pretraining(model, packed_corpus, config)
        loop = Loop(objective, config.loop)
        form = objective.recordable(0)
        step = loop._replay(form) if recordable else loop._differentiate()
        steps.append((*step, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}))
    (loss, figures, rms, gradients), (other_loss, other_figures, other_rms, others) = steps
    assert (loss, figures) == (other_loss, other_figures)
    assert other_rms == pytest.approx(rms, rel=1e-6)
    torch.testing.assert_close(gradients, others, rtol=0, atol=0)
