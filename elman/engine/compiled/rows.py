"""Lays out the rows of a call: at which row each step begins, for whole and for ragged batches."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_CACHED_SHAPES = 1024


class StepRows:
    """The rows of a call: one for each sequence still active at a step, step after step.

    Args:
        sizes: the number of rows of each step, (T,), never increasing.
        B: the number of sequences; some may have no step at all.
        packed: the rows come as (N, D), not as (T, B, D).
    """

    def __init__(self, sizes: NDArray[np.int64], B: int, packed: bool) -> None:
        self.T, self.B, self.sizes, self.packed = len(sizes), B, sizes, packed
        # An entry more at either end: compiled code also reads where the next step, and the step before, begins.
        self._table = np.zeros(self.T + 2, np.int64)
        np.cumsum(sizes, out=self._table[2:])
        self.begins = self._table[1:]
        self.N = int(self.begins[-1])

    @property
    def address(self) -> int:
        """The address of `begins`, for compiled code."""
        return int(self.begins.ctypes.data)

    def chunks(self, max_rows: int) -> tuple[tuple[int, int], ...]:
        """Split the steps into chunks (begin, end) of at most `max_rows` rows, but at least one step."""
        if not self.packed:
            steps = max(1, min(self.T, max_rows // max(self.B, 1)))
            return tuple((t, min(t + steps, self.T)) for t in range(0, self.T, steps))
        chunks, t = [], 0
        while t < self.T:
            end = int(np.searchsorted(self.begins, self.begins[t] + max_rows, side="right")) - 1
            end = max(t + 1, min(end, self.T))
            chunks.append((t, end))
            t = end
        return tuple(chunks)

    @functools.cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The number of steps of each sequence, (B,)."""
        return np.searchsorted(-self.sizes, -np.arange(self.B), side="left")

    def last(self, states: Tensor, initial: Tensor) -> Tensor:
        """Return the final state of each sequence, (B, H), from those of all steps, or `initial` without a step."""
        if not self.packed:
            return states[-1].clone()
        nonempty = int(self.sizes[0])
        index = self.begins[self.lengths[:nonempty] - 1] + np.arange(nonempty)
        finals = states.index_select(0, torch.from_numpy(index).to(states.device))
        return finals if nonempty == self.B else torch.cat((finals, initial[nonempty:]))

    def last_of_halves(self, halves: Tensor) -> Tensor:
        """Return the final state of each sequence, (B, H), from `halves` (2, B, H) that the steps wrote in turn."""
        if not self.packed:
            return halves[self.T % 2].clone()
        index = self.lengths % 2 * self.B + np.arange(self.B)
        return halves.flatten(0, 1).index_select(0, torch.from_numpy(index).to(halves.device))

    def previous_states(self, begin: int, end: int, states: Tensor, initial: Tensor) -> Tensor:
        """Return the state before each row of steps begin..end, from the states of all steps and the initial ones."""
        rows = states if self.packed else states.flatten(0, 1)
        if begin and self.sizes[begin - 1] == self.sizes[end - 1]:
            return rows[int(self.begins[begin - 1]) :]
        if not self.packed:  # begin is 0
            return torch.cat((initial, rows[: int(self.begins[end - 1])]))
        first = initial[: int(self.sizes[0])] if begin == 0 else initial[:0]
        others = slice(int(self.begins[max(begin, 1)]), int(self.begins[end]))
        return torch.cat((first, rows.index_select(0, self._previous_row[others].to(rows.device))))

    @functools.cached_property
    def _previous_row(self) -> Tensor:
        """The index of the row before each row in its sequence; meaningless at the first step."""
        previous_sizes = np.concatenate(([0], self.sizes[:-1]))
        return torch.from_numpy(np.arange(self.N) - np.repeat(previous_sizes, self.sizes))


@functools.lru_cache(maxsize=MAX_CACHED_SHAPES)
def uniform_rows(T: int, B: int) -> StepRows:
    """Return the rows of B sequences of T steps each."""
    return StepRows(np.full(T, B, np.int64), B, packed=False)


def rows_of(x: Tensor, states: Sequence[Tensor], sizes: Tensor | None) -> StepRows:
    """Return the rows of x (T, B, D), or of packed x (N, D) with the number of rows of each step."""
    if sizes is None:
        return uniform_rows(x.shape[0], x.shape[1])
    return StepRows(sizes.numpy(), states[0].shape[0], packed=True)
