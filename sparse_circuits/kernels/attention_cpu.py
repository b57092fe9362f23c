"""Attention on the CPU: memory and jobs for `attention_loops` and `attention_few`."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sparse_circuits.errors import InputError
from sparse_circuits.kernels.jobs import at, job_type, start
from sparse_circuits.kernels.kept import Loops
from sparse_circuits.kernels.sizes import TILE

attention_few, attention_loops = Loops("attention_few"), Loops("attention_loops")

# Up to so many queries a row it is quicker to leave keys and values where they lie.
FEW = 4
# The most heads, and the least, that read a key at the same time.
MOST_HEADS, LEAST_HEADS = 32, 8
# Products of a query's and a key's channel; with fewer a second thread would come too late.
LITTLE = 1 << 18

Job = job_type(
    "bad q k v out sink first queries capacity heads d_head tiles q_batch q_row k_batch k_row v_batch v_row "
    "group statistics upstream upstream_batch upstream_row grad_q grad_k grad_v grad_sink"
)


def takes(*tensors: Tensor | None) -> bool:
    """Whether these kernels can read the tensors: fp32, plain memory, on the CPU."""
    return all(tensor is None or _takes(tensor) for tensor in tensors)


def _takes(x: Tensor) -> bool:
    # What `jobs.refuses` asks, in a fifth of its time, which is a part of that of decoding a token.
    return x.dtype == torch.float32 and x.is_cpu and type(x) in (Tensor, torch.nn.Parameter) and not x.is_neg()


def forward(
    q: Float[Tensor, "B T C"],
    k: Float[Tensor, "B S C"],
    v: Float[Tensor, "B S C"],
    n_head: int,
    sink: Float[Tensor, "H"] | None,
    first: Int64[Tensor, "B"] | None,
    with_statistics: bool,
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "tiles two queries"] | None]:
    """The output, and on request what `backward` needs: of each query the largest score and 1 / the sum of weights.

    Raises:
        InputError: `first` leaves a row fewer keys than it has queries.
    """
    q, k, v = _in_rows(q), _in_rows(k), _in_rows(v)
    rows, queries, _ = q.shape
    out = torch.empty(q.shape)
    job = _job(q, k, v, n_head, sink, first, out)
    threads = 1 if q.numel() * job.capacity < LITTLE else torch.get_num_threads()
    if queries <= FEW and not with_statistics:
        job.group = min(max(LEAST_HEADS, -(-rows * n_head // threads)), MOST_HEADS, n_head)
        job.total = rows * -(-n_head // job.group)
        job.claim = 1 if threads > 1 else job.total
        start(attention_few.few, job)
        statistics = None
    else:
        job.total = rows * n_head * job.tiles
        statistics = torch.empty(job.total, 2, TILE) if with_statistics else None
        job.statistics = at(statistics)
        # A thread that does all tiles of a head reads its keys but once.
        many = rows * n_head >= 4 * threads
        job.claim = job.total if threads == 1 else job.tiles if many else 1
        start(attention_loops.forward, job)
    if job.bad:
        assert first is not None
        raise InputError(
            f"attention: first is {first.tolist()}; expected 0 to {k.shape[1] - queries} for {queries} queries and "
            f"{k.shape[1]} keys a row: first counts the keys before the first query"
        )
    return out, statistics


def backward(
    upstream: Float[Tensor, "B T C"],
    q: Float[Tensor, "B T C"],
    k: Float[Tensor, "B S C"],
    v: Float[Tensor, "B S C"],
    n_head: int,
    sink: Float[Tensor, "H"] | None,
    first: Int64[Tensor, "B"] | None,
    out: Float[Tensor, "B T C"],
    statistics: Float[Tensor, "tiles two queries"],
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B S C"], Float[Tensor, "B S C"], Float[Tensor, "H"] | None]:
    """The gradients of q, k, v and the sink."""
    upstream, q, k, v = _in_rows(upstream), _in_rows(q), _in_rows(k), _in_rows(v)
    grad_q, grad_k, grad_v = (torch.empty(x.shape) for x in (q, k, v))
    grad_sink = None if sink is None else torch.empty(len(q), n_head)
    job = _job(q, k, v, n_head, sink, first, out)
    job.upstream, job.upstream_batch, job.upstream_row = at(upstream), upstream.stride(0), upstream.stride(1)
    job.statistics, job.grad_q, job.grad_k, job.grad_v = at(statistics), at(grad_q), at(grad_k), at(grad_v)
    job.grad_sink, job.total = at(grad_sink), len(q) * n_head
    job.claim = 1 if q.numel() * k.shape[1] >= LITTLE else job.total
    start(attention_loops.backward, job)
    return grad_q, grad_k, grad_v, None if grad_sink is None else grad_sink.sum(0)


def _in_rows(x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
    """With rows that lie in one piece each; anywhere otherwise."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _job(q: Tensor, k: Tensor, v: Tensor, n_head: int, sink: Tensor | None, first: Tensor | None, out: Tensor) -> Any:
    _, queries, channels = q.shape
    strides = (*q.stride()[:2], *k.stride()[:2], *v.stride()[:2])
    sizes = (queries, k.shape[1], n_head, channels // n_head, -(-queries // TILE), *strides)
    return Job(0, q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), at(sink), at(first), *sizes)
