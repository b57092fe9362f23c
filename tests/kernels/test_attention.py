"""Attention with a sink means exp(score) / (exp(sink) + sum of exp(score)): values, gradients, dtypes, odd shapes."""

import math
import threading
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import attention_cpu
from sparse_circuits.kernels.attention import attention, attention_fused, attention_reference
from sparse_circuits.kernels.attention_loops import TILE

pytestmark = pytest.mark.usefixtures("one_thread")

Function = Callable[..., Tensor]


def by_the_formula(q: Tensor, k: Tensor, v: Tensor, n_head: int, sink: Tensor | None, first: list[int]) -> Tensor:
    """One query of one head at a time, straight from the definition."""
    y = torch.zeros_like(q)
    width = q.shape[2] // n_head
    for b, before in enumerate(first):
        for h in range(n_head):
            head = slice(h * width, (h + 1) * width)
            for t in range(q.shape[1]):
                seen = range(before + t + 1)
                scores = torch.stack([(q[b, t, head] * k[b, s, head]).sum() / math.sqrt(width) for s in seen])
                total = scores.exp().sum() + (0 if sink is None else sink[h].exp())
                y[b, t, head] = sum(scores[s].exp() / total * v[b, s, head] for s in seen)
    return y


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inputs(
    rows: int, queries: int, keys: int, n_head: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """q, k, v and the sink."""
    q = random(rows, queries, n_head * width, seed=seed, dtype=dtype)
    k, v = (random(rows, keys, n_head * width, seed=seed + place, dtype=dtype) for place in (1, 2))
    return [q, k, v, random(n_head, seed=seed + 3, dtype=dtype)]


def value_and_gradients(
    function: Function, tensors: list[Tensor], n_head: int, with_sink: bool, first: Tensor | None = None
) -> list[Tensor]:
    """The output and the gradients of q, k, v (and the sink), for a random gradient of the output."""
    used = [tensor.detach().requires_grad_() for tensor in (tensors if with_sink else tensors[:3])]
    y = function(*used[:3], n_head, used[3] if with_sink else None, first)
    upstream = random(*y.shape, seed=9, dtype=y.dtype)
    return [y.detach(), *torch.autograd.grad(y, used, upstream)]


def assert_close(found: list[Tensor], wanted: list[Tensor], tolerance: float = 2e-5) -> None:
    for mine, right in zip(found, wanted, strict=True):
        scale = max(1.0, right.abs().max().item()) if right.numel() else 1.0
        torch.testing.assert_close(mine.double(), right.double(), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("with_sink", [True, False])
@pytest.mark.parametrize(("rows", "queries", "first"), [(1, 1, [0]), (2, 5, [0, 0]), (3, 4, [0, 3, 2])])
def test_all_are_the_formula(rows: int, queries: int, first: list[int], with_sink: bool) -> None:
    keys = queries + max(first)
    tensors = inputs(rows, queries, keys, 2, 8, dtype=torch.float64)
    before = torch.tensor(first)

    def formula(q: Tensor, k: Tensor, v: Tensor, n_head: int, sink: Tensor | None, first: Tensor) -> Tensor:
        return by_the_formula(q, k, v, n_head, sink, first.tolist())

    wanted = value_and_gradients(formula, tensors, 2, with_sink, before)
    assert_close(value_and_gradients(attention_reference, tensors, 2, with_sink, before), wanted, 1e-12)
    assert_close(value_and_gradients(attention, tensors, 2, with_sink, before), wanted, 1e-12)
    assert_close(value_and_gradients(attention_fused, tensors, 2, with_sink, before), wanted, 1e-6)
    single = [tensor.float() for tensor in tensors]
    assert_close(value_and_gradients(attention, single, 2, with_sink, before), wanted, 1e-6)


shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 3),
        "queries": st.one_of(st.integers(1, 9), st.integers(10, 2 * TILE + 20)),
        "n_head": st.integers(1, 3),
        "width": st.sampled_from([1, 2, 5, 8, 12, 16, 24, 32, 64]),
        "seed": st.integers(0, 1000),
    }
)


@given(shape=shapes, scale=st.sampled_from([0.0, 1.0, 5.0, 30.0]), sparse=st.booleans(), with_sink=st.booleans())
@settings(max_examples=40, deadline=None)
def test_training_agrees_with_the_reference(shape: dict, scale: float, sparse: bool, with_sink: bool) -> None:
    tensors = [tensor * scale for tensor in inputs(keys=shape["queries"], **shape)]
    if sparse:
        tensors[:3] = [tensor * (random(*tensor.shape, seed=5) > 0.7) for tensor in tensors[:3]]
    found = value_and_gradients(attention, tensors, shape["n_head"], with_sink)
    exact = [tensor.double() for tensor in tensors]
    wanted = value_and_gradients(attention_reference, exact, shape["n_head"], with_sink)
    # Scores are rounded before exp makes errors of their size out of them. A score is a sum of `width` products of size
    # scale ** 2, over the root of the width.
    assert_close(found, wanted, 2e-6 * max(20.0, scale**2 * max(1.0, math.sqrt(shape["width"] / 16))))


@given(shape=shapes, behind=st.integers(0, 150), with_sink=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_queries_see_what_comes_before_them_and_no_garbage(
    shape: dict, behind: int, with_sink: bool, data: st.DataObject
) -> None:
    """The queries continue rows of any length in a buffer that is larger still, without and with gradients."""
    keys, n_head = shape["queries"] + behind, shape["n_head"]
    first = torch.tensor([data.draw(st.integers(0, behind)) for _ in range(shape["rows"])])
    tensors = inputs(keys=keys, **shape)
    wanted = value_and_gradients(attention_reference, [t.double() for t in tensors], n_head, with_sink, first)
    for row, before in enumerate(first.tolist()):
        for tensor in tensors[1:3]:
            tensor[row, before + shape["queries"] :] = math.nan
    found = value_and_gradients(attention, tensors, n_head, with_sink, first)
    assert_close(found, wanted)
    for row, before in enumerate(first.tolist()):
        for gradient in found[2:4]:
            assert not gradient[row, before + shape["queries"] :].any()
    y = attention(*tensors[:3], n_head, tensors[3] if with_sink else None, first)
    assert_close([y], wanted[:1])


def test_decoding_continues_as_the_whole_row() -> None:
    """Token by token from a buffer, after a prefill in two chunks, is what one pass gives."""
    rows, length, n_head = 2, 40, 3
    q, k, v, sink = inputs(rows, length, length, n_head, 16)
    whole = attention(q, k, v, n_head, sink)
    keys, values = torch.full((rows, 64, 48), math.nan), torch.full((rows, 64, 48), math.nan)
    at, parts = 0, []
    for count in (17, 8, *[1] * 15):
        keys[:, at : at + count], values[:, at : at + count] = k[:, at : at + count], v[:, at : at + count]
        first = torch.full((rows,), at)
        parts.append(attention(q[:, at : at + count], keys, values, n_head, sink, first))
        at += count
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=2e-6)


@given(
    queries=st.sampled_from([1, 3, 30]), n_head=st.sampled_from([1, 3, 9, 33, 70]), width=st.sampled_from([5, 8, 20])
)
@settings(max_examples=20, deadline=None)
def test_many_heads(queries: int, n_head: int, width: int) -> None:
    first = torch.tensor([7, 0])
    tensors = inputs(2, queries, queries + 7, n_head, width)
    wanted = attention_reference(*tensors[:3], n_head, tensors[3], first)
    torch.testing.assert_close(attention(*tensors[:3], n_head, tensors[3], first), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("queries", [2, 50])
def test_strides_are_taken_as_they_are(queries: int) -> None:
    """Slices of one [B, T, 3C] tensor, a buffer's view, every other row, broadcast rows, channels with gaps."""
    n_head, first = 2, torch.tensor([3, 1, 0])
    joint = random(6, queries + 3, 3 * 48)[::2]
    q, k, v = joint[:, :queries, :48], joint[..., 48:96], joint[..., 96:]
    for views in (
        (q, k, v),
        (q, k[:1].expand(3, -1, -1), v),
        (q, k, random(3, queries + 3, 96, seed=4)[..., ::2]),
        (q, k, random(3, 48, queries + 3, seed=4).transpose(1, 2)),
        (q.transpose(0, 2).contiguous().transpose(0, 2), k, v),
    ):
        plain = [view.contiguous() for view in views]
        for tensors in (list(views), plain):
            tensors.append(torch.zeros(n_head))
        found = value_and_gradients(attention, [*views, torch.zeros(n_head)], n_head, True, first)
        for mine, same in zip(found, value_and_gradients(attention, plain, n_head, True, first), strict=True):
            assert torch.equal(mine, same)
        assert torch.equal(attention(*views, n_head, None, first), attention(*plain[:3], n_head, None, first))


def test_a_gradient_with_any_strides() -> None:
    tensors = [tensor.requires_grad_() for tensor in inputs(2, 9, 9, 2, 8)]
    y = attention(*tensors[:3], 2, tensors[3])
    upstream = random(9, 2, 16, seed=5).transpose(0, 1)
    found = torch.autograd.grad(y, tensors, upstream, retain_graph=True)
    for mine, same in zip(
        found, torch.autograd.grad(y, tensors, upstream.contiguous(), retain_graph=True), strict=True
    ):
        assert torch.equal(mine, same)
    ones = torch.autograd.grad(y.sum(), tensors, retain_graph=True)
    for mine, same in zip(ones, torch.autograd.grad(y, tensors, torch.ones_like(y)), strict=True):
        assert torch.equal(mine, same)


@pytest.mark.parametrize("with_sink", [False, True])
def test_a_gradient_whose_memory_is_not_plain(with_sink: bool) -> None:
    class Own(Tensor):
        pass

    tensors = [tensor.requires_grad_() for tensor in inputs(2, 9, 9, 2, 8)[: 3 + with_sink]]
    y = attention(*tensors[:3], 2, *tensors[3:])
    upstream = random(2, 9, 16, seed=5)
    wanted = torch.autograd.grad(y, tensors, upstream, retain_graph=True)
    for other in (torch._neg_view(-upstream), upstream.as_subclass(Own), upstream.double()):
        found = torch.autograd.grad(y, tensors, other, retain_graph=True)
        assert_close(list(found), list(wanted))


def test_one_position_by_hand() -> None:
    """Score 2 * 3 / 1, sink ln 2: the value's weight is e^6 / (e^6 + 2)."""
    q, k, v = (torch.full((1, 1, 1), value) for value in (2.0, 3.0, 5.0))
    sink = torch.tensor([math.log(2)])
    for function in (attention, attention_fused, attention_reference):
        assert function(q, k, v, 1, sink).item() == pytest.approx(5 * math.exp(6) / (math.exp(6) + 2), rel=1e-6)
        assert function(q, k, v, 1).item() == pytest.approx(5)


@pytest.mark.parametrize("queries", [1, 6])
def test_a_very_low_sink_is_none_and_a_very_high_one_takes_all(queries: int) -> None:
    q, k, v, _ = inputs(2, queries, queries, 3, 4)
    for low in (-1e4, -math.inf):
        torch.testing.assert_close(attention(q, k, v, 3, torch.full((3,), low)), attention(q, k, v, 3))
    assert torch.equal(attention(q, k, v, 3, torch.full((3,), 1e4)), torch.zeros_like(v))
    each = attention(q, k, v, 3, torch.tensor([-1e4, 1e4, -1e4]))
    torch.testing.assert_close(each[..., :4], attention(q, k, v, 3)[..., :4])
    assert not each[..., 4:8].any()


def test_large_scores_stay_finite_and_right() -> None:
    tensors = [tensor * 1e4 for tensor in inputs(1, 40, 40, 2, 4)]
    found = value_and_gradients(attention, tensors, 2, True)
    assert all(tensor.isfinite().all() for tensor in found)
    wanted = attention_reference(*(t.double() for t in tensors[:3]), 2, tensors[3].double())
    torch.testing.assert_close(found[0].double(), wanted, rtol=1e-3, atol=1.0)


@given(
    queries=st.sampled_from([3, 20, 70]),
    spoiled=st.lists(
        st.tuples(
            st.sampled_from("qk"),
            st.integers(0, 69),
            st.integers(0, 15),
            st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30]),
        ),
        min_size=1,
        max_size=3,
    ),
    with_sink=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_scores_that_are_not_finite_are_what_softmax_makes_of_them(
    queries: int, spoiled: list[tuple[str, int, int, float]], with_sink: bool
) -> None:
    tensors = inputs(1, queries, queries, 2, 8)
    for name, position, channel, value in spoiled:
        tensors["qk".index(name)][0, position % queries, channel] = value
    sink = tensors[3] if with_sink else None
    wanted = attention_reference(*tensors[:3], 2, sink)
    with torch.no_grad():
        few_or_many = attention(*tensors[:3], 2, sink)
    found = value_and_gradients(attention, tensors, 2, with_sink)[0]
    for y in (few_or_many, found):
        assert torch.equal(y.isnan(), wanted.isnan())
        torch.testing.assert_close(y.nan_to_num(), wanted.nan_to_num(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("queries", [2, 40])
def test_a_sink_that_is_not_finite(queries: int, value: float) -> None:
    q, k, v, _ = inputs(1, queries, queries, 2, 8)
    sink = torch.tensor([value, 0.0])
    wanted = attention_reference(q, k, v, 2, sink)
    found = attention(q, k, v, 2, sink)
    assert torch.equal(found.isnan(), wanted.isnan())
    torch.testing.assert_close(found.nan_to_num(), wanted.nan_to_num(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("queries", [2, 40])
def test_values_that_are_not_finite_reach_those_that_see_them(queries: int) -> None:
    q, k, v, _ = inputs(1, queries, queries, 1, 8)
    v[0, 1, 3] = math.nan
    y = attention(q, k, v, 1)
    assert y[0, 1:, 3].isnan().all()
    assert not y[0, :, [0, 1, 2, 4, 5, 6, 7]].isnan().any()


@pytest.mark.parametrize("function", [attention, attention_fused])
@pytest.mark.parametrize("with_sink", [True, False])
def test_bfloat16_comes_back_as_bfloat16_and_loses_only_rounding(function: Function, with_sink: bool) -> None:
    low = inputs(2, 9, 9, 2, 8, dtype=torch.bfloat16)
    found = value_and_gradients(function, low, 2, with_sink)
    wanted = value_and_gradients(attention_reference, [tensor.double() for tensor in low], 2, with_sink)
    for mine, right in zip(found, wanted, strict=True):
        assert mine.dtype == torch.bfloat16
        torch.testing.assert_close(mine.double(), right, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("wide", [0, 1, 2, 3])
def test_one_input_may_be_wider_than_the_others(wide: int) -> None:
    tensors = inputs(1, 5, 5, 2, 4, dtype=torch.bfloat16)
    mixed = [tensor.float() if place == wide else tensor for place, tensor in enumerate(tensors)]
    y = attention(*mixed[:3], 2, mixed[3])
    assert y.dtype == mixed[2].dtype
    exact = attention_reference(*(t.double() for t in tensors[:3]), 2, tensors[3].double())
    torch.testing.assert_close(y.double(), exact, rtol=2**-6, atol=2**-6)


def test_float64_keeps_its_precision_and_passes_the_numerical_check() -> None:
    q, k, v, sink = (tensor.requires_grad_() for tensor in inputs(1, 4, 4, 2, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda q, k, v, sink: attention(q, k, v, 2, sink), (q, k, v, sink))


def test_nothing_in_gives_nothing_out() -> None:
    sink = torch.zeros(2)
    assert attention(*[torch.zeros(0, 4, 6)] * 3, 2, sink).shape == (0, 4, 6)
    assert attention(*[torch.zeros(3, 0, 6)] * 3, 2, sink).shape == (3, 0, 6)
    cached = torch.zeros(0, 9, 6)
    assert attention(cached[:, :1], cached, cached, 2, sink, torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 6)


def test_a_frozen_sink_or_frozen_values_need_no_gradient() -> None:
    q, k, v, sink = inputs(1, 5, 5, 2, 4)
    expected = value_and_gradients(attention, [q, k, v, sink], 2, True)
    q, k = q.requires_grad_(), k.requires_grad_()
    y = attention(q, k, v, 2, sink)
    found = torch.autograd.grad(y, [q, k], random(*y.shape, seed=9))
    assert all(torch.equal(mine, right) for mine, right in zip(found, expected[1:3], strict=True))


def test_a_gradient_of_a_gradient_is_refused() -> None:
    q, k, v, _ = (tensor.requires_grad_() for tensor in inputs(1, 5, 5, 2, 4))
    (gradient,) = torch.autograd.grad(attention(q, k, v, 2).sum(), q, create_graph=True)
    with pytest.raises(InputError, match="cannot be differentiated again"):
        gradient.sum().backward()


@pytest.mark.parametrize("with_first", [True, False])
def test_threads_change_nothing(with_first: bool) -> None:
    """Neither PyTorch's own, of which each gets its share, nor several Python threads that enter at once."""
    n_head, first = 3, torch.tensor([60, 2, 33]) if with_first else None
    tensors = inputs(3, 140, 200 if with_first else 140, n_head, 16)

    def all_results() -> list[Tensor]:
        results = value_and_gradients(attention, tensors, n_head, True, first)
        one = [tensor[:, :1].contiguous() for tensor in tensors[:1]] + tensors[1:3]
        return [*results, attention(*one, n_head, tensors[3], torch.tensor([60, 2, 33]))]

    expected = all_results()
    torch.set_num_threads(2)
    entered = [[] for _ in range(4)]
    pythons = [threading.Thread(target=lambda into=into: into.extend(all_results())) for into in entered]
    for python in pythons:
        python.start()
    for python in pythons:
        python.join()
    torch.set_num_threads(1)
    for found in entered:
        assert all(torch.equal(mine, right) for mine, right in zip(found, expected, strict=True))


def test_other_kernels_can_be_asked_for() -> None:
    tensors = inputs(2, 30, 30, 2, 8)
    with kernels.use("reference"):
        found = attention(*tensors[:3], 2, tensors[3])
    assert torch.equal(found, attention_reference(*tensors[:3], 2, tensors[3]))
    assert not torch.equal(found, attention(*tensors[:3], 2, tensors[3]))


def test_what_compiled_loops_cannot_read_goes_to_the_reference() -> None:
    class Named(Tensor):
        pass

    tensors = inputs(2, 5, 5, 2, 8)
    named = [tensor.as_subclass(Named) for tensor in tensors]
    torch.testing.assert_close(
        attention(*named[:3], 2, named[3]).as_subclass(Tensor), attention(*tensors[:3], 2, tensors[3])
    )


@given(shape=shapes, behind=st.integers(0, 20), with_sink=st.booleans(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_pytorchs_own_attention_with_the_sink_as_a_key(
    shape: dict, behind: int, with_sink: bool, data: st.DataObject
) -> None:
    """The way of GPUs and of torch.compile, here on the CPU."""
    shape["queries"] = min(shape["queries"], 40)
    keys, n_head = shape["queries"] + behind, shape["n_head"]
    first = torch.tensor([data.draw(st.integers(0, behind)) for _ in range(shape["rows"])]) if behind else None
    tensors = inputs(keys=keys, **shape)
    found = value_and_gradients(attention_fused, tensors, n_head, with_sink, first)
    exact = [tensor.double() for tensor in tensors]
    assert_close(found, value_and_gradients(attention_reference, exact, n_head, with_sink, first))
    if first is not None:
        for row, before in enumerate(first.tolist()):
            tensors[1][row, before + shape["queries"] :] = tensors[2][row, before + shape["queries"] :] = math.nan
        for mine, same in zip(
            value_and_gradients(attention_fused, tensors, n_head, with_sink, first), found, strict=True
        ):
            assert torch.equal(mine, same)


def test_a_sink_in_bfloat16_keeps_the_digits_that_its_keys_leave() -> None:
    """With scores of zero the output is 1 / (1 + exp(sink)), to more digits than the sink has as one bfloat16."""
    q, k, v = torch.zeros(1, 1, 8), torch.zeros(1, 1, 8), torch.ones(1, 1, 8)
    sink = torch.tensor([5.03])
    y = attention_fused(q.bfloat16(), k.bfloat16(), v.bfloat16() * 128, 1, sink)
    assert y[0, 0, 0].item() == pytest.approx(128 / (1 + math.exp(5.03)), rel=2**-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("unannotated")
def test_it_can_be_traced() -> None:
    tensors = inputs(2, 6, 6, 2, 8)
    compiled = torch.compile(lambda q, k, v, sink: attention(q, k, v, 2, sink), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), attention(*tensors[:3], 2, tensors[3]), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("unannotated")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.zeros(2, 4)}, r"q is \(2, 4\)"),
        ({"v": torch.zeros(2, 4, 8)}, r"v \(2, 4, 8\); expected"),
        ({"k": torch.zeros(2, 4, 8), "v": torch.zeros(2, 4, 8)}, r"expected \[rows, queries, channels\]"),
        ({"n_head": 5}, "12 channels cannot be shared by 5 heads"),
        ({"sink": torch.zeros(2)}, r"sink has shape \(2,\); expected \(3,\)"),
        ({"q": torch.zeros(2, 3, 12)}, "3 queries and 4 keys; give `first`"),
        ({"first": torch.zeros(2)}, r"expected int64 \(2,\)"),
        ({"first": torch.zeros(1, dtype=torch.int64)}, r"expected int64 \(2,\)"),
        ({"first": torch.tensor([0, 1])}, r"first is \[0, 1\]; expected 0 to 0 for 4 queries and 4 keys"),
        ({"first": torch.tensor([0, -1]), "q": torch.zeros(2, 1, 12)}, r"expected 0 to 3 for 1 queries"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    arguments = {"q": torch.zeros(2, 4, 12), "k": torch.zeros(2, 4, 12), "v": torch.zeros(2, 4, 12), "n_head": 3}
    with pytest.raises(InputError, match=message):
        attention(**(arguments | change))


def test_little_work_stays_on_one_thread_and_much_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    monkeypatch.setattr(attention_cpu, "start", lambda kernel, job: jobs.append(-(-job.total // job.claim)))
    torch.set_num_threads(2)
    for queries, keys in ((1, 8), (8, 8), (1, 600), (600, 600)):
        q, k, v, sink = inputs(1, queries, keys, 64, 8)
        attention_cpu.forward(q, k, v, 64, sink, torch.tensor([keys - queries]), False)
    torch.set_num_threads(1)
    assert jobs[:2] == [1, 1]
    assert min(jobs[2:]) >= 2
