"""Sequences dealt to the rows of a stream, and rows to processes."""

from collections.abc import Sequence
from heapq import heapreplace
from typing import NamedTuple

from torch import distributed

from elman.numbers import whole


class Piece(NamedTuple):
    """A sequence, or a part of one, that a row walks from the chunk `at` on."""

    at: int
    sequence: int
    begin: int
    length: int


def cut(length: int, rows: int, steps: int, drop_last: bool) -> list[Piece]:
    """One sequence as contiguous pieces, as long as each other, but where it ends; or as what fills chunks of these."""
    width = length // rows if drop_last else -(-length // rows)
    real = width // steps * steps if drop_last else width
    return [
        Piece(0, 0, begin, min(real, length - begin)) for begin in range(0, rows * width, width or 1) if begin < length
    ]


def deal(pieces: Sequence[Piece], rows: int, steps: int, drop_last: bool) -> tuple[list[list[Piece]], int]:
    """The pieces of each row, which takes the next when its own has ended; and how many chunks that makes."""
    dealt: list[list[Piece]] = [[] for _ in range(rows)]
    free = [(0, row) for row in range(rows)]  # a heap: from which chunk on, the row that is free first in front
    for piece in pieces:
        at, row = free[0]
        dealt[row].append(piece._replace(at=at))
        heapreplace(free, (at + -(-piece.length // steps), row))
    return dealt, (min if drop_last else max)(free)[0]


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
