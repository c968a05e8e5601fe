"""The row at which each step begins: of whole batches, or of sequences still active at the step."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

REMEMBERED = 1024  # of shapes


class StepRows:
    """The rows of a call, those of a step side by side, step after step.

    Args:
        sizes: how many rows each step has, (T,), no step more than the one before.
        B: how many sequences there are, some without a step perhaps.
        packed: they come as (N, D) and not as (T, B, D).
    """

    def __init__(self, sizes: NDArray[np.int64], B: int, packed: bool) -> None:
        self.T, self.B, self.sizes, self.packed = len(sizes), B, sizes, packed
        # One number more at either end: compiled code reads where the step before begins, even of the first.
        self._table = np.zeros(self.T + 2, np.int64)
        np.cumsum(sizes, out=self._table[2:])
        self.begins = self._table[1:]
        self.N = int(self.begins[-1])

    @property
    def address(self) -> int:
        """Of the numbers at which the steps begin, for compiled code."""
        return int(self.begins.ctypes.data)

    def chunks(self, most: int) -> tuple[tuple[int, int], ...]:
        """Steps that are worked on together, with this many rows at most, but one step at least."""
        if not self.packed:
            steps = max(1, min(self.T, most // max(self.B, 1)))
            return tuple((t, min(t + steps, self.T)) for t in range(0, self.T, steps))
        found, t = [], 0
        while t < self.T:
            end = int(np.searchsorted(self.begins, self.begins[t] + most, side="right")) - 1
            end = max(t + 1, min(end, self.T))
            found.append((t, end))
            t = end
        return tuple(found)

    @functools.cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many steps each sequence has, (B,)."""
        return np.searchsorted(-self.sizes, -np.arange(self.B), side="left")

    def last(self, sequence: Tensor, initial: Tensor) -> Tensor:
        """The last of each sequence's rows, (B, H), of a `sequence` of them; `initial` where it has none."""
        if not self.packed:
            return sequence[-1].clone()
        some = int(self.sizes[0])
        index = self.begins[self.lengths[:some] - 1] + np.arange(some)
        found = sequence.index_select(0, torch.from_numpy(index))
        return found if some == self.B else torch.cat((found, initial[some:]))

    def half(self, both: Tensor) -> Tensor:
        """The last state of each sequence, of `both` halves (2, B, H) that its states have taken turns in."""
        if not self.packed:
            return both[self.T % 2].clone()
        index = self.lengths % 2 * self.B + np.arange(self.B)
        return both.flatten(0, 1).index_select(0, torch.from_numpy(index))

    def earlier(self, begin: int, end: int, sequence: Tensor, before: Tensor) -> Tensor:
        """The state before each row of some steps, of all states in their `sequence` and those `before` the first."""
        rows = sequence if self.packed else sequence.flatten(0, 1)
        if begin and self.sizes[begin - 1] == self.sizes[end - 1]:
            return rows[int(self.begins[begin - 1]) :]
        first = before[: int(self.sizes[0])] if begin == 0 else before[:0]
        here = slice(int(self.begins[max(begin, 1)]), int(self.begins[end]))
        return torch.cat((first, rows.index_select(0, self._earlier[here])))

    @functools.cached_property
    def _earlier(self) -> Tensor:
        """Of each row, the number of the one before it in its sequence, of those that have one."""
        steps = np.concatenate(([0], self.sizes[:-1]))
        return torch.from_numpy(np.arange(self.N) - np.repeat(steps, self.sizes))


@functools.lru_cache(maxsize=REMEMBERED)
def even(T: int, B: int) -> StepRows:
    """The rows of B sequences of T steps each."""
    return StepRows(np.full(T, B, np.int64), B, packed=False)


def rows_of(x: Tensor, states: Sequence[Tensor], sizes: Tensor | None) -> StepRows:
    """The rows of x (T, B, D), or of packed ones (N, D) with their `sizes`."""
    if sizes is None:
        return even(x.shape[0], x.shape[1])
    return StepRows(sizes.numpy(), states[0].shape[0], packed=True)
