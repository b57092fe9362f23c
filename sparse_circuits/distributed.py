"""Training in several processes, one for each GPU or share of the cores, as torchrun starts them.

Each process holds the whole model and takes its share of the rows of every batch. Gradients and what is logged are
averaged over all; then each makes the same update, to the last bit, so that no weight is ever sent. Process 0 alone
writes files and talks; all must see the same folders.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed

from sparse_circuits.errors import Diverged, FailedElsewhere, InputError

T = TypeVar("T")
LOST = "Connection closed by peer"
"""What Gloo says, in a plain RuntimeError, where another process has ended."""


@dataclass(frozen=True)
class Group:
    """The processes that train together; one by itself is a group too."""

    rank: int = 0
    """The number of this process, from 0."""
    size: int = 1
    device: str = "cpu"
    """Where this process computes."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch.

        Raises:
            InputError: the batch cannot be shared out evenly.
        """
        if batch_size % self.size:
            raise InputError(f"a batch of {batch_size} cannot be shared by {self.size} processes; make it a multiple")
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Set tensors, the same shapes in every process, to their means over all processes."""
        if self.size == 1 or not tensors:
            return
        # In one piece: a message costs more than its length.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def total(self, *numbers: float) -> list[float]:
        """The sums of numbers over all processes."""
        if self.size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(summed)
        found: list[float] = summed.tolist()
        return found

    def told(self, function: Callable[[], T]) -> T:
        """What `function` returns in process 0, in every process.

        Raises:
            FailedElsewhere: in the others, where it raised in process 0.
        """
        if self.size == 1:
            return function()
        held: list[object] = [False, None]
        try:
            if self.first:
                held = [True, function()]
        finally:
            distributed.broadcast_object_list(held, src=0)
        if not held[0]:
            raise FailedElsewhere
        return cast(T, held[1])

    def after_first(self, function: Callable[[], T]) -> T:
        """What `function` returns in this process, run where it went well in process 0.

        Raises:
            FailedElsewhere: in the others, where it raised in process 0.
        """
        held: list[T] = []
        self.told(lambda: held.append(function()))
        return held[0] if held else function()

    def wait(self) -> None:
        """Until all have come here."""
        self.total(0.0)

    def check_same(self, tensors: Sequence[Tensor]) -> None:
        """Raise Diverged unless the tensors are alike in all processes, as far as their sums tell."""
        if self.size == 1:
            return
        sums = torch.stack([tensor.detach().double().sum() for tensor in tensors])
        # A sum that is no number differs from itself.
        extremes = torch.cat([sums, -sums]).nan_to_num(nan=torch.inf)
        distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        highest, lowest = extremes.chunk(2)
        if not torch.equal(highest, -lowest):
            raise Diverged(
                "the processes no longer hold the same weights: machines or versions of PyTorch that differ cannot "
                "train together"
            )


ALONE = Group()


def _number(name: str, default: str = "") -> int:
    """An environment variable that is a whole number."""
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise InputError(
            f"{name} is {value!r}; it must be a whole number: start several processes with torchrun, or unset it"
        )
    return int(value)


@contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun has started this process in, or this process alone, on CUDA where there is any.

    Raises:
        InputError: there are more processes on this machine than GPUs, or the environment is not as torchrun makes it.
    """
    size = _number("WORLD_SIZE", "1")
    cuda = torch.cuda.is_available()
    if size <= 1:
        yield Group(device="cuda" if cuda else "cpu")
        return
    rank, place = _number("RANK"), _number("LOCAL_RANK", "0")
    if rank >= size:
        raise InputError(f"RANK is {rank}, of {size} processes; they are counted from 0")
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise InputError(f"WORLD_SIZE is {size} and {missing[0]} is not set: start the processes with torchrun")
    if cuda and place >= torch.cuda.device_count():
        raise InputError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', 'several')} processes were started on a machine with "
            f"{torch.cuda.device_count()} GPUs; start one for each (torchrun --nproc-per-node)"
        )
    device = f"cuda:{place}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    ours = not distributed.is_initialized()
    if ours:
        distributed.init_process_group("nccl" if cuda else "gloo")
    group = Group(distributed.get_rank(), distributed.get_world_size(), device)
    try:
        yield group
    except RuntimeError as error:
        if group.first or not (isinstance(error, Diverged | distributed.DistError) or LOST in str(error)):
            raise
        raise FailedElsewhere from error
    finally:
        if ours:
            distributed.destroy_process_group()
