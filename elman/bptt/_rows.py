"""Assigns sequences to the rows of a stream, and rows to processes."""

from collections.abc import Sequence
from heapq import heapreplace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import distributed

from elman.numbers import whole

Span = tuple[int, int, int]  # what a row walks in one chunk: of which sequence, from where on, how many steps


class Segment(NamedTuple):
    """A sequence, or a part of one, that a row walks from the chunk `at` on."""

    at: int
    sequence: int
    begin: int
    length: int


def cut(length: int, rows: int, steps: int, drop_last: bool) -> list[Segment]:
    """One sequence as contiguous pieces, as long as each other, but where it ends; or as what fills chunks of these."""
    width = length // rows if drop_last else -(-length // rows)
    real = width // steps * steps if drop_last else width
    return [
        Segment(0, 0, begin, min(real, length - begin))
        for begin in range(0, rows * width, width or 1)
        if begin < length
    ]


def deal(pieces: Sequence[Segment], rows: int, steps: int, drop_last: bool) -> tuple[list[list[Segment]], int]:
    """The pieces of each row, which takes the next when its own has ended; and how many chunks that makes."""
    dealt: list[list[Segment]] = [[] for _ in range(rows)]
    free = [(0, row) for row in range(rows)]  # a heap: from which chunk on, the row that is free first in front
    for piece in pieces:
        at, row = free[0]
        dealt[row].append(piece._replace(at=at))
        heapreplace(free, (at + -(-piece.length // steps), row))
    return dealt, (min if drop_last else max)(free)[0]


class RowWalk:
    """Where each row of a stream is in each chunk.

    Args:
        rows: the pieces of each row, in order.
        steps: T, of a chunk.
        length: how many chunks.
    """

    def __init__(self, rows: Sequence[Sequence[Segment]], steps: int, length: int) -> None:
        nothing = Segment(0, 0, 0, 0)
        walked = [[piece for piece in row if piece.at < length] or [nothing] for row in rows]
        self._steps = steps
        self._pieces = np.array(list(chain.from_iterable(walked)), np.int64)
        # All pieces in one ascending order, row after row, so that one search finds the piece of every row.
        self._starts = length * np.arange(len(rows))
        self._order = self._starts.repeat([len(row) for row in walked]) + self._pieces[:, 0]

    def spans(self, index: int) -> tuple[list[Span], NDArray[np.int64], NDArray[np.bool_]]:
        """What each row walks in a chunk, how many steps that is, and whether it begins a sequence.

        A row that has come to its end walks a span of length 0.
        """
        last = self._order.searchsorted(self._starts + index, side="right") - 1
        at, sequence, begin, length = self._pieces[last].T
        done = (index - at) * self._steps
        lengths = np.minimum(np.maximum(length - done, 0), self._steps)
        spans = list(zip(sequence.tolist(), (begin + done).tolist(), lengths.tolist(), strict=True))
        return spans, lengths, (at == index) & (lengths > 0)


def processes() -> tuple[int, int]:
    """Which process this is, and of how many, as torch.distributed has it."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def given_processes(rank: object, world_size: object) -> tuple[int, int]:
    """The same, as the caller has it.

    Raises:
        ValueError: if that cannot be.
    """
    this, of = whole(rank), whole(world_size)
    if this is None or of is None or not 0 <= this < of:
        raise ValueError(f"stream: rank and world_size: expected 0 <= rank < world_size, got {rank} and {world_size}")
    return this, of


def check_processes(made_for: int | None) -> None:
    """Whether a stream that was made for so many processes, as torch.distributed then had it, is still right.

    Raises:
        RuntimeError: if each process would walk all of the data. In the workers of a DataLoader nothing can be told:
            torch.distributed is not initialised there.
    """
    now = processes()[1]
    if made_for is not None and now not in (1, made_for):
        raise RuntimeError(
            f"stream: made before torch.distributed was initialised for {now} processes; make it after that (with "
            "Lightning, in train_dataloader), or give rank and world_size"
        )
