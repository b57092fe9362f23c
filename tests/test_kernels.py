"""The CPU kernels mean what the reference says, bit for bit; the choice between them is open and can be forced."""

import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits import kernels
from sparse_circuits.errors import InputError
from sparse_circuits.kernels import cpu, jobs, kept, reference, threads
from sparse_circuits.kernels.image import Refused

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INTEGERS = {torch.float32: np.int32, torch.bfloat16: np.int16, torch.float16: np.int16}


def assert_same_bits(left: Tensor, right: Tensor) -> None:
    """Equal to the last bit: torch.equal would take -0.0 for 0.0 and find no NaN equal."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    unit = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[left.element_size()]
    assert torch.equal(left.contiguous().view(unit), right.contiguous().view(unit))


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Any bits at all (NaN of every kind, infinities, subnormals, both zeros), often few different ones (ties)."""
    dtype = draw(st.sampled_from(DTYPES))
    unit = np.dtype(INTEGERS[dtype])
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 80))
    size = rows * columns
    palette = np.frombuffer(draw(st.binary(min_size=4 * unit.itemsize, max_size=4 * unit.itemsize)), unit)
    special = torch.tensor([0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan")], dtype=dtype)
    special_bits = special.view(torch.int32 if unit.itemsize == 4 else torch.int16).numpy()
    if draw(st.booleans()):
        choices = np.concatenate([palette, special_bits])[: draw(st.integers(1, 11))]
        values = choices[np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8) % len(choices)]
    else:
        values = np.frombuffer(draw(st.binary(min_size=size * unit.itemsize, max_size=size * unit.itemsize)), unit)
    return torch.from_numpy(values.copy()).view(dtype).view(rows, columns)


def long_rows(dtype: torch.dtype, rows: int, n: int) -> list[Tensor]:
    """Normal numbers; the same with many ties; a ReLU of them (zeros tie); a constant; two scales in turn."""
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(rows * n))
    scaled = x * torch.tensor([1e-3, 1e3]).repeat(rows)[:rows, None]
    return [y.to(dtype) for y in (x, (2 * x).round(), x.relu(), torch.full_like(x, -0.5), scaled)]


def with_odd_ones(dtype: torch.dtype, rows: int, n: int) -> list[Tensor]:
    """Few values above the rest: too few for k, or with NaN and infinities; and a threshold at which many are equal."""
    x = torch.randn(rows, n, generator=torch.Generator().manual_seed(1)) / 10
    few, odd, equal = x.clone(), x.clone(), x.clone()
    few[::7, ::9] = 0.0
    odd.view(-1)[5::301] = torch.tensor([float("nan"), float("-inf"), float("inf"), 3.0]).repeat(8)[:31]
    equal.view(-1)[3::47] = torch.tensor([2.0, -2.0]).repeat(99)[:197]
    equal.view(-1)[1::61] = -1.5
    return [y.to(dtype) for y in (few * (few > 0.2), odd, equal)]


class TestAbsTopK:
    @settings(max_examples=150, deadline=None)
    @given(matrices(), st.data())
    def test_equals_the_reference(self, x: Tensor, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, x.shape[1]))
        kept, mask = cpu.abs_topk(x, k, True)
        expected, expected_mask = reference.abs_topk(x, k, True)
        assert mask is not None
        assert expected_mask is not None
        assert_same_bits(cpu.as_bools(mask, x.shape[1]), expected_mask)
        assert_same_bits(kept, expected)
        assert_same_bits(cpu.masked(x, mask), expected)
        assert cpu.abs_topk(x, k, False)[1] is None

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("rows", "n"), [(600, 64), (3, 9000)])
    def test_equals_the_reference_on_many_and_long_rows(self, dtype: torch.dtype, rows: int, n: int) -> None:
        for x in long_rows(dtype, rows, n):
            for k in (n // 4, n - 1):
                assert_same_bits(cpu.abs_topk(x, k, False)[0], reference.abs_topk(x, k, False)[0])

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("n", [64, 72])
    def test_equals_the_reference_around_the_cache(
        self, dtype: torch.dtype, n: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cpu, "PAST_CACHE", 0)
        for x in long_rows(dtype, 50, n):
            kept, mask = cpu.abs_topk(x, 20, True)
            expected, expected_mask = reference.abs_topk(x, 20, True)
            assert mask is not None
            assert expected_mask is not None
            assert_same_bits(kept, expected)
            assert_same_bits(cpu.masked(x + 1, mask), reference.masked(x + 1, expected_mask))

    def test_reads_rows_that_lie_apart_around_the_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "PAST_CACHE", 1)
        for part in torch.randn(30, 192).chunk(3, dim=1):
            assert_same_bits(cpu.abs_topk(part, 9, True)[0], reference.abs_topk(part, 9, True)[0])

    def test_masks_gradients_of_any_kind(self) -> None:
        x = torch.randn(5, 40)
        _, mask = cpu.abs_topk(x, 7, True)
        assert mask is not None
        gradient = torch.randn(5, 40, dtype=torch.complex64)
        for odd in (gradient.conj().imag, torch.randn(40, 5).T, torch.randn(1, 1).expand(5, 40)):
            assert_same_bits(cpu.masked(odd, mask), reference.masked(odd, reference.keep_mask(x, 7)))

    def test_reads_transposed_and_strided_rows(self) -> None:
        x = torch.randn(60, 40)
        for view in (x.T, x[::2, 1::3], x[::3, 5:38], x[1:2], x[:1].expand(5, 40)):
            assert_same_bits(cpu.abs_topk(view, 3, False)[0], reference.abs_topk(view, 3, False)[0])


class TestProjection:
    @settings(max_examples=150, deadline=None)
    @given(matrices(), st.data())
    def test_equals_the_reference(self, weight: Tensor, data: st.DataObject) -> None:
        rows, columns = weight.shape
        k = data.draw(st.integers(1, weight.numel()))
        per_row = data.draw(st.integers(0, min(columns, k // rows)))
        per_column = data.draw(st.integers(0, min(rows, (k - rows * per_row) // columns)))
        assert_same_bits(*both_projections(weight, k, per_row, per_column))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("minimums", [(0, 0), (2, 0), (0, 2), (1, 1)])
    def test_equals_the_reference_when_it_samples(
        self, dtype: torch.dtype, minimums: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 128)
        for weight in long_rows(dtype, 75, 120):
            for k in (390, 4000):
                assert_same_bits(*both_projections(weight, k, *minimums))

    def test_equals_the_reference_on_a_large_matrix(self) -> None:
        weight = torch.randn(300, 480)
        assert_same_bits(*both_projections(weight, 2500, 4, 1))

    def test_a_misleading_sample_costs_time_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 2048)
        weight = torch.randn(300, 480)
        weight.view(-1)[:: weight.numel() // cpu.SAMPLE | 1] = 0.0
        assert cpu._near_sample(weight.view(-1), 70_000, None) is None
        assert_same_bits(*both_projections(weight, 70_000, 0, 0))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("minimums", [(0, 0), (2, 0), (0, 1), (1, 1)])
    @pytest.mark.parametrize("past_cache", [0, 1 << 24])
    def test_equals_the_reference_when_it_reads_once(
        self, dtype: torch.dtype, minimums: tuple[int, int], past_cache: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 128)
        monkeypatch.setattr(cpu, "PAST_CACHE", past_cache)
        for weight in [*long_rows(dtype, 64, 144), *with_odd_ones(dtype, 64, 144)]:
            for k in (210, 288):
                assert_same_bits(*both_projections(weight, k, *minimums))

    def test_few_entries_are_normally_found_in_one_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 2048)
        weight = torch.randn(512, 480, generator=torch.Generator().manual_seed(0)).view(-1)
        for k in (100, 2_000, 7_000):
            kept = weight.clone()
            assert cpu._read_once(kept, k, None) is not None
            assert int((kept != 0).sum()) == k

    def test_a_matrix_is_left_alone_where_one_reading_does_not_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 2048)
        weight = torch.randn(512, 480).view(-1)
        sampled = weight.numel() // cpu.SAMPLE | 1
        for others, in_sample in ((1.0, 1e3), (1e3, 1.0)):  # the sample's bound is reached by too few, by too many
            misleading = others * weight
            misleading[::sampled] = in_sample * weight[::sampled]
            before = misleading.clone()
            assert cpu._read_once(misleading, 4_000, None) is None
            assert_same_bits(misleading, before)

    def test_the_sample_normally_suffices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "SAMPLE", 2048)
        weight = torch.randn(300, 480, generator=torch.Generator().manual_seed(0))
        for k in (100, 2_000, 20_000):
            assert cpu._near_sample(weight.view(-1), k, None) is not None

    def test_writes_through_strides_and_tells_autograd(self) -> None:
        weight = torch.randn(40, 60)
        expected = both_projections(weight.T, 200, 1, 0)[1]
        cpu.project_topk_(weight.T, 200, 1, 0)
        assert_same_bits(weight.T, expected)
        for matrix in (weight, weight.T):
            version = matrix._version
            cpu.project_topk_(matrix, 100, 0, 0)
            assert matrix._version > version


def both_projections(weight: Tensor, k: int, per_row: int, per_column: int) -> tuple[Tensor, Tensor]:
    fast, plain = weight.clone(), weight.clone()
    cpu.project_topk_(fast, k, per_row, per_column)
    reference.project_topk_(plain, k, per_row, per_column)
    return fast, plain


class TestThreads:
    @pytest.fixture(params=["openmp", "pool"])
    def team(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """PyTorch's own threads, and the pool that stands in where they cannot be reached."""
        if request.param == "pool":
            monkeypatch.setattr(threads, "_openmp", lambda: None)
        before = torch.get_num_threads()
        yield request.param
        torch.set_num_threads(before)

    def test_any_number_of_threads_gives_the_same(self, team: str) -> None:
        x = torch.randn(2000, 64)
        expected = reference.abs_topk(x, 16, False)[0]
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert_same_bits(cpu.abs_topk(x, 16, False)[0], expected)
            assert_same_bits(*both_projections(x, 5000, 1, 0))

    def test_several_python_threads_may_enter_at_once(self, team: str) -> None:
        torch.set_num_threads(2)
        inputs = [torch.randn(2000, 64) for _ in range(4)]
        expected = [reference.abs_topk(x, 16, False)[0] for x in inputs]
        results: list[list[Tensor]] = [[], [], [], []]

        def work(i: int) -> None:
            results[i].extend(cpu.abs_topk(inputs[i], 16, False)[0] for _ in range(10))

        team_of_python = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in team_of_python:
            thread.start()
        for thread in team_of_python:
            thread.join()
        for i in range(4):
            assert len(results[i]) == 10
            assert all(torch.equal(result, expected[i]) for result in results[i])

    def test_pytorch_lends_its_threads_here(self) -> None:
        if sys.platform != "linux":
            pytest.skip("other systems may fall back to the pool")
        assert threads._openmp() is not None


class TestChoice:
    def test_the_cpu_kernels_take_what_they_can(self) -> None:
        for dtype in DTYPES:
            assert kernels.choose(torch.zeros(1, dtype=dtype)).name == "cpu"
        assert kernels.choose(torch.zeros(1, dtype=torch.float64)).name == "reference"
        assert kernels.choose(torch.zeros(1, device="meta")).name == "reference"
        negated = torch.zeros(1, dtype=torch.complex64).conj().imag
        assert negated.is_neg()
        assert kernels.choose(negated).name == "reference"

    def test_use_forces_and_restores(self) -> None:
        x = torch.zeros(1)
        with kernels.use("reference"):
            assert kernels.choose(x).name == "reference"
            with kernels.use("auto"):
                assert kernels.choose(x).name == "cpu"
            assert kernels.choose(x).name == "reference"
        assert kernels.choose(x).name == "cpu"

    def test_the_environment_forces_and_use_overrides_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SPARSE_CIRCUITS_KERNELS", "reference")
        assert kernels.choose(torch.zeros(1)).name == "reference"
        with kernels.use("cpu"):
            assert kernels.choose(torch.zeros(1)).name == "cpu"

    def test_unknown_names_are_refused_with_the_choices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with (
            pytest.raises(InputError, match="no kernels called 'gpu2'; choose one of auto, gpu, cpu, reference"),
            kernels.use("gpu2"),
        ):
            pass
        monkeypatch.setenv("SPARSE_CIRCUITS_KERNELS", "fast")
        with pytest.raises(InputError, match="SPARSE_CIRCUITS_KERNELS: there are no kernels called 'fast'"):
            kernels.choose(torch.zeros(1))

    @pytest.mark.parametrize(
        ("tensor", "reason"),
        [
            (torch.zeros(1, dtype=torch.float64), "they know fp32, bf16 and fp16 and the tensor is torch.float64"),
            (torch.zeros(1, device="meta"), "they run on the CPU and the tensor is on meta"),
        ],
    )
    def test_forced_kernels_say_what_they_cannot_take(self, tensor: Tensor, reason: str) -> None:
        with kernels.use("cpu"), pytest.raises(InputError, match=reason):
            kernels.choose(tensor)

    def test_graphs_being_traced_get_the_reference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert kernels.choose(torch.zeros(1)).name == "reference"


class TestCompilation:
    def test_importing_does_not_load_numba(self) -> None:
        code = "import sys, sparse_circuits.sparsity; sys.exit('numba' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0

    def test_works_without_a_place_for_images(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setattr(kept, "_folders", lambda: [tmp_path / "file" / "not a folder"])
        self._works()

    def test_works_where_there_are_no_images_and_no_place_for_the_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cfunc: Callable = numba.cfunc

        def elsewhere() -> None:
            raise Refused("another system")

        def refuse(signature: object, cache: bool = False) -> object:
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return cfunc(signature)

        monkeypatch.setattr(kept, "check_machine", elsewhere)
        monkeypatch.setattr(numba, "cfunc", refuse)
        self._works()

    def _works(self) -> None:
        jobs._work.cache_clear()
        x = torch.randn(4, 8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_same_bits(cpu.abs_topk(x, 3, False)[0], reference.abs_topk(x, 3, False)[0])
        jobs._work.cache_clear()
