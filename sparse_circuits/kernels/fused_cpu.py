"""The fused kernels on the CPU: memory and jobs for `fused_loops` and `output_loops`."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int32, Int64, UInt8
from torch import Tensor

from sparse_circuits.kernels.cpu import FORMATS, PAST_CACHE
from sparse_circuits.kernels.jobs import UNITS, at, empty, empty_like, job_type, refuses, rows_of, start
from sparse_circuits.kernels.kept import Loops
from sparse_circuits.kernels.sizes import BLOCK_ROWS, GELU, NORM, PLAIN, RELU
from sparse_circuits.kernels.sizes import CACHE_LINE as LINE

fused_loops, output_loops = Loops("fused_loops"), Loops("output_loops")

DTYPES = (torch.float32, torch.bfloat16)
KINDS = {"plain": PLAIN, "norm": NORM, "gelu": GELU, "relu": RELU}
# Entries, and columns of sums, that a thread claims at a time.
CLAIM = 1 << 15
COLUMNS = 512

_FIELDS = (
    "x y g gx weight mask held beside kept roots bits step of_weight of_mask of_beside n width period k rows x_step "
    "kind magnitude ceiling stride past_cache"
)
_JOBS = {dtype: job_type(_FIELDS, "epsilon", unit=UNITS[dtype]) for dtype in DTYPES}
_SUMS = job_type("x y rows")
_OUTPUT = "x y table bias tokens order begin losses n x_step magnitude"
_OUTPUT_JOBS = {dtype: job_type(_OUTPUT, "part", unit=UNITS[dtype]) for dtype in DTYPES}


class Keep(NamedTuple):
    """What is done to each row: a norm or nonlinearity, AbsTopK, and holding what the mask leaves out."""

    kind: str
    k: int
    epsilon: float
    weight: Float[Tensor, "n"] | None
    mask: Float[Tensor, "all"] | None
    beside: Float[Tensor, "*last channels"] | None
    held: Float[Tensor, "all"] | None

    @property
    def by_bits(self) -> bool:
        """Whether the gradient needs to know no more of the result than which entries stay."""
        return self.mask is None and self.kind != "norm"


class Rows(NamedTuple):
    """What the forward pass learns of each row."""

    kept: Int32[Tensor, "rows two"]
    """Threshold and cut (`cpu`)."""
    roots: Float[Tensor, "rows"]
    """1 / RMS, for norms."""
    bits: UInt8[Tensor, "rows bytes"] | None
    """Which entries stay, or for ReLU pass a gradient; None where it is computed again."""


def takes(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether these kernels know the dtypes and can read the memory."""
    return refuses(x, DTYPES) is None and all(
        parameter is None or (parameter.dtype == torch.float32 and refuses(parameter) is None)
        for parameter in parameters
    )


def forward(x: Float[Tensor, "*rows n"], keep: Keep) -> tuple[Float[Tensor, "*rows all"], Rows]:
    """The result, in the dtype of x, and what `backward` or `by_bits` needs."""
    rows, beside = rows_of(x), None if keep.beside is None else keep.beside.to(x.dtype)
    y = empty((*x.shape[:-1], x.shape[-1] + (0 if beside is None else beside.shape[-1])), x.dtype)
    count, bits = len(rows), None
    if keep.by_bits:
        lines = -(-rows.shape[1] * x.element_size() // LINE)
        bits = torch.empty(count, lines * LINE // x.element_size() // 8, dtype=torch.uint8)
    found = Rows(torch.empty(count, 2, dtype=torch.int32), torch.empty(count), bits)
    job = _job(rows, keep, found, beside, y=at(y), past_cache=_past_cache(y))
    job.total, job.claim = count, max(1, CLAIM // job.n)
    start(fused_loops.forward, job)
    return y, found


def by_bits(
    gradient: Float[Tensor, "*rows n"], x: Float[Tensor, "*rows n"] | None, keep: Keep, found: Rows
) -> Float[Tensor, "*rows n"]:
    """The gradient of x where `keep.by_bits`; x itself is wanted for GELU only."""
    gradient = gradient.contiguous()
    result = empty_like(gradient)
    rows = rows_of(result if x is None else x)
    job = _job(rows, keep, found, None, g=at(gradient), gx=at(result), past_cache=_past_cache(result))
    job.total, job.claim = len(rows), max(1, CLAIM // rows.shape[1])
    start(fused_loops.by_bits, job)
    return result


def _past_cache(result: Tensor) -> bool:
    """Whether a result is so large that it had better not go through the cache, and lies as that takes."""
    aligned = at(result) % LINE == 0 and result.shape[-1] * result.element_size() % LINE == 0
    return aligned and result.nbytes >= PAST_CACHE


def backward(
    gradient: Float[Tensor, "*rows all"],
    x: Float[Tensor, "*rows n"],
    keep: Keep,
    found: Rows,
    wanted: tuple[bool, bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of x, weight, mask and beside, as far as they are wanted."""
    gradient, rows = gradient.contiguous(), rows_of(x)
    count, n = rows.shape
    beside, blocks = None if keep.beside is None else keep.beside.to(x.dtype), -(-count // BLOCK_ROWS)
    of_x = empty_like(x) if wanted[0] else None
    of_weight = torch.zeros(blocks, n) if wanted[1] else None
    of_mask = torch.zeros(blocks, gradient.shape[-1]) if wanted[2] else None
    of_beside = torch.empty(count, gradient.shape[-1] - n) if wanted[3] else None
    job = _job(rows, keep, found, beside, g=at(gradient), gx=at(of_x))
    job.of_weight, job.of_mask, job.of_beside = at(of_weight), at(of_mask), at(of_beside)
    job.total, job.claim = blocks, 1
    start(fused_loops.backward, job)
    if of_beside is not None and beside is not None:
        of_beside = _sum(of_beside.view(-1, beside.numel())).view(beside.shape)
    return of_x, None if of_weight is None else _sum(of_weight), None if of_mask is None else _sum(of_mask), of_beside


def _sum(partial: Float[Tensor, "blocks n"]) -> Float[Tensor, "n"]:
    result = torch.empty(partial.shape[1])
    start(fused_loops.combine, _SUMS(x=at(partial), y=at(result), rows=len(partial), total=len(result), claim=COLUMNS))
    return result


def _job(rows: Float[Tensor, "rows n"], keep: Keep, found: Rows, beside: Tensor | None, **fields: int) -> Any:
    form, width = FORMATS[rows.dtype], rows.shape[1]
    n = width if beside is None else width + beside.shape[-1]
    return _JOBS[rows.dtype](
        x=at(rows),
        weight=at(keep.weight),
        mask=at(keep.mask),
        held=at(keep.held),
        beside=at(beside),
        n=n,
        width=width,
        period=1 if beside is None else beside.shape[:-1].numel(),
        k=min(keep.k, n),
        rows=len(rows),
        x_step=rows.stride(0),
        kind=KINDS[keep.kind],
        epsilon=keep.epsilon,
        magnitude=form.magnitude,
        ceiling=form.infinity + 1,
        stride=form.stride,
        kept=at(found.kept),
        roots=at(found.roots),
        bits=at(found.bits),
        step=0 if found.bits is None else found.bits.shape[1],
        **fields,
    )


def add_rows(
    logits: Float[Tensor, "*rows n"],
    table: Float[Tensor, "tokens n"],
    tokens: Int64[Tensor, "*rows"],
    bias: Float[Tensor, "n"] | None,
) -> Float[Tensor, "*rows n"]:
    """logits + bias + table[tokens], fp32."""
    rows, y, tokens = rows_of(logits), empty_like(logits, torch.float32), tokens.contiguous()
    _output(output_loops.add_rows, rows, y=at(y), table=at(table), bias=at(bias), tokens=at(tokens))
    return y


def sum_rows(
    gradient: Float[Tensor, "*rows n"], tokens: Int64[Tensor, "*rows"], count: int
) -> Float[Tensor, "tokens n"]:
    """For each of `count` tokens the sum of its rows of the gradient (fp32), in their order."""
    rows, tokens = rows_of(gradient), tokens.flatten()
    order = torch.argsort(tokens, stable=True)
    begin = torch.zeros(count + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(tokens, minlength=count), 0, out=begin[1:])
    y = empty((count, rows.shape[1]), rows.dtype)
    job = _output_job(rows, y=at(y), order=at(order), begin=at(begin))
    job.total, job.claim = count, max(1, CLAIM // rows.shape[1])
    start(output_loops.sum_rows, job)
    return y


def cross_entropy(
    logits: Float[Tensor, "*rows n"], targets: Int64[Tensor, "*rows"], with_gradient: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "*rows n"] | None]:
    """The mean loss, and on request its gradient."""
    rows, targets = rows_of(logits), targets.contiguous()
    losses, gradient = torch.empty(len(rows)), empty_like(logits) if with_gradient else None
    _output(output_loops.cross_entropy, rows, y=at(gradient), tokens=at(targets), losses=at(losses), part=1 / len(rows))
    return losses.double().mean().float(), gradient


def _output(kernel: Any, rows: Float[Tensor, "rows n"], **fields: int | float) -> None:
    job = _output_job(rows, **fields)
    job.total, job.claim = len(rows), max(1, CLAIM // rows.shape[1])
    start(kernel, job)


def _output_job(rows: Float[Tensor, "rows n"], **fields: int | float) -> Any:
    magnitude = FORMATS[rows.dtype].magnitude
    return _OUTPUT_JOBS[rows.dtype](x=at(rows), n=rows.shape[1], x_step=rows.stride(0), magnitude=magnitude, **fields)
