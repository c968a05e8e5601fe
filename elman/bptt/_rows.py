"""Assigns sequences to the rows of a stream, and rows to processes."""

from collections.abc import Sequence
from heapq import heapreplace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import distributed

from elman.io.validate import whole

Span = tuple[int, int, int]  # what a row reads in one chunk: index of the sequence, first step, number of steps


class Segment(NamedTuple):
    """A sequence, or a part of one, that a row reads from the chunk `first_chunk` on."""

    first_chunk: int
    sequence: int
    begin: int
    length: int


def cut(length: int, rows: int, steps: int, drop_last: bool) -> list[Segment]:
    """Cut one sequence into contiguous segments of equal length, at most one for each row; the last may be shorter.

    With `drop_last` all are equally long, and the steps of each that fill no chunk are dropped.
    """
    width = length // rows if drop_last else -(-length // rows)
    segment_length = width // steps * steps if drop_last else width
    return [
        Segment(0, 0, begin, min(segment_length, length - begin))
        for begin in range(0, rows * width, width or 1)
        if begin < length
    ]


def assign(segments: Sequence[Segment], rows: int, steps: int, drop_last: bool) -> tuple[list[list[Segment]], int]:
    """Return the segments of each row, each assigned to the row that is free first, and the number of chunks."""
    assigned: list[list[Segment]] = [[] for _ in range(rows)]
    free = [(0, row) for row in range(rows)]  # a heap of (first free chunk, row)
    for segment in segments:
        first_chunk, row = free[0]
        assigned[row].append(segment._replace(first_chunk=first_chunk))
        heapreplace(free, (first_chunk + -(-segment.length // steps), row))
    return assigned, (min if drop_last else max)(free)[0]


class RowWalk:
    """Finds what each row of a stream reads in a chunk.

    Args:
        rows: the segments of each row, in order.
        steps: T, of a chunk.
        length: number of chunks.
    """

    def __init__(self, rows: Sequence[Sequence[Segment]], steps: int, length: int) -> None:
        empty = Segment(0, 0, 0, 0)
        segments = [[segment for segment in row if segment.first_chunk < length] or [empty] for row in rows]
        self._steps = steps
        self._segments = np.array(list(chain.from_iterable(segments)), np.int64)
        # Offset by row, first chunks ascend over all segments, so that one search finds the segment of every row.
        self._row_offsets = length * np.arange(len(rows))
        self._order = self._row_offsets.repeat([len(row) for row in segments]) + self._segments[:, 0]

    def spans(self, index: int) -> tuple[list[Span], NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each row its span in a chunk, the number of steps, and whether a sequence begins.

        A row whose segments have ended has a span of length 0.
        """
        last = self._order.searchsorted(self._row_offsets + index, side="right") - 1
        first_chunk, sequence, begin, length = self._segments[last].T
        done = (index - first_chunk) * self._steps
        lengths = np.minimum(np.maximum(length - done, 0), self._steps)
        spans = list(zip(sequence.tolist(), (begin + done).tolist(), lengths.tolist(), strict=True))
        return spans, lengths, (first_chunk == index) & (lengths > 0)


def detect_rank() -> tuple[int, int]:
    """Return the rank of this process and the world size, from torch.distributed; (0, 1) if it is not initialized."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def check_rank(rank: object, world_size: object) -> tuple[int, int]:
    """Return rank and world size as integers.

    Raises:
        ValueError: unless 0 <= rank < world_size.
    """
    index, count = whole(rank), whole(world_size)
    if index is None or count is None or not 0 <= index < count:
        raise ValueError(f"stream: rank and world_size: expected 0 <= rank < world_size, got {rank} and {world_size}")
    return index, count


def check_world_size(detected: int | None) -> None:
    """Check that torch.distributed still has the world size that was detected when a stream was made.

    Raises:
        RuntimeError: if it has another one, so that each process would read all of the data. This cannot be noticed in
            the workers of a DataLoader: torch.distributed is not initialized there.
    """
    world_size = detect_rank()[1]
    if detected is not None and world_size not in (1, detected):
        raise RuntimeError(
            f"stream: created before torch.distributed was initialized for {world_size} processes; create it "
            "afterwards (with Lightning, in train_dataloader), or pass rank and world_size"
        )
