"""Batches of examples, and batches that repeat in every epoch."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

POOL_BATCHES = 50  # batches sorted by length together: enough for similar lengths, few enough to shuffle


class Unused(NamedTuple):
    """A batch that does not count: that of a process for which a batch has no examples.

    Attributes:
        batch: a batch of which a process computes a loss and a gradient of zero, if it must when others compute theirs.
    """

    batch: Any


class ByLength:
    """Batches of examples of similar length, in a different order in every epoch.

    Args:
        lengths: length of each example.
        batch: batch size; the last batch of an epoch may be smaller.
        collate: builds a batch from the indices of its examples and the epoch, from 0.
        seed: random seed for the order; None always sorts by length, for validation.
        passes: how often an epoch has each example; each pass is shuffled for itself, so that copies are far apart.

    >>> batches = ByLength([5, 1, 4, 2], 2, lambda numbers, epoch: numbers, seed=None)
    >>> list(batches)
    [[1, 3], [2, 0]]
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.int64],
        batch: int,
        collate: Callable[[list[int], int], Any],
        seed: int | None,
        passes: int = 1,
    ) -> None:
        self._lengths, self._batch, self._collate, self._seed = np.asarray(lengths), batch, collate, seed
        self._passes = passes
        self._epoch, self._order = -1, list[NDArray[np.int64]]()
        self._rank, self._world_size = 0, 1

    def part(self, rank: int, world_size: int) -> "ByLength":
        """Return the same batches, but of every batch only the examples of one process, a fraction 1 / world_size.

        Examples go to processes in turn, so that those of all processes are similarly long.

        Args:
            rank: index of the process.
            world_size: number of processes.

        >>> batches = ByLength([5, 1, 4, 2, 3], 4, lambda numbers, epoch: numbers, seed=None)
        >>> [list(batches.part(rank, 2)) for rank in (0, 1)]
        [[[1, 4], [0]], [[3, 2], Unused(batch=[0])]]
        """
        part = copy(self)
        part._rank, part._world_size = rank, world_size
        return part

    def __len__(self) -> int:
        return -(-len(self._lengths) * self._passes // self._batch)

    def __getitem__(self, index: int) -> Any:
        epoch, position = divmod(index, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._ordered(epoch)
        numbers = self._order[position].tolist()
        of_process = numbers[self._rank :: self._world_size]
        return self._collate(of_process, epoch) if of_process else Unused(self._collate(numbers[:1], epoch))

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def _ordered(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the indices of the examples of each batch."""
        if self._seed is None:
            return self._cut(np.tile(np.argsort(self._lengths, kind="stable"), self._passes))
        rng = np.random.default_rng((self._seed, epoch))
        pool = self._batch * POOL_BATCHES
        order = list[NDArray[np.int64]]()
        for _ in range(self._passes):
            shuffled = rng.permutation(len(self._lengths))
            pools = [shuffled[begin : begin + pool] for begin in range(0, len(shuffled), pool)]
            order += [part[np.argsort(self._lengths[part], kind="stable")] for part in pools]
        batches = self._cut(np.concatenate(order))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _cut(self, numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [numbers[begin : begin + self._batch] for begin in range(0, len(numbers), self._batch)]


class RepeatedEpoch:
    """The same batches in the same order in every epoch.

    Args:
        epoch: the batches of one epoch: iterable, with a length, and indexed by batch.
    """

    def __init__(self, epoch: Any) -> None:
        self._batches, self._is_used = epoch, True

    def part(self, rank: int, world_size: int) -> "RepeatedEpoch":
        """Return the same batches, but of every batch only the rows of one process: rank, rank + world_size, ...

        Args:
            rank: index of the process.
            world_size: number of processes.

        Returns:
            Batches of an `elman.bptt.Stream`; if it has no row for this process, batches that are `Unused`.
        """
        is_used = rank < self._batches.rows
        part = RepeatedEpoch(self._batches.part(rank if is_used else 0, world_size))
        part._is_used = is_used
        return part

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        batch = self._batches[index % len(self._batches)]
        return batch if self._is_used else Unused(batch)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches) if self._is_used else map(Unused, self._batches)
