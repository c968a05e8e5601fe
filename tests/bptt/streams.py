"""Sequences whose steps can be told apart, and what a stream makes of them."""

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor

from elman.bptt import Chunk, Stream

several = st.lists(st.integers(0, 20), min_size=1, max_size=9).filter(any)
small = st.integers(1, 7)


def numbered(lengths: Sequence[int]) -> list[Tensor]:
    """Sequences (T,) whose steps can be told apart: 100, 101, ...; 200, 201, ..."""
    return [100 * (k + 1) + torch.arange(length) for k, length in enumerate(lengths)]


def told(chunks: Stream | list[Chunk]) -> list[tuple[Any, ...]]:
    """Chunks as plain numbers, to compare."""
    return [(chunk.values.tolist(), chunk.lengths.tolist(), chunk.fresh.tolist()) for chunk in chunks]


def walked(chunks: Stream) -> list[list[int]]:
    """The steps of each row, a list for each of the sequences that it begins."""
    found: list[list[list[int]]] = []
    for chunk in chunks:
        found = found or [[] for _ in chunk.lengths]
        assert torch.equal(chunk.mask.sum(0), chunk.lengths)
        for row, values, real, fresh in zip(found, chunk.values.T, chunk.mask.T, chunk.fresh, strict=True):
            assert bool((values[~real] == 0).all())
            if fresh:
                row.append([])
            if real.any():
                row[-1] += values[real].tolist()
    return [sequence for row in found for sequence in row]
