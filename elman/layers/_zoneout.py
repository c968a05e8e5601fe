"""States that stay as they are, by chance."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from elman.cells._cell import Cell
from elman.through_time import State


class Zoneout(nn.Module):
    """A cell each of whose units keeps its state with a probability; in evaluation, all take the mean of both.

    Krueger et al., arXiv:1606.01305.

    Args:
        cell: whose states are all new at every step.
        probabilities: for each of its states.
    """

    def __init__(self, cell: Cell, probabilities: Sequence[float]) -> None:
        super().__init__()
        self.cell, self.probabilities = cell, tuple(probabilities)
        self.input_size, self.state_size = cell.input_size, cell.state_size

    def forward(self, x: Tensor, state: State) -> State:
        """One step."""
        new = self.cell(x, state)
        if isinstance(new, Tensor):
            assert isinstance(state, Tensor)
            return self._mixed(state, new, self.probabilities[0])
        return tuple(self._mixed(*each) for each in zip(state, new, self.probabilities, strict=True))

    def _mixed(self, old: Tensor, new: Tensor, p: float) -> Tensor:
        if p == 0:
            return new
        if self.training:
            return torch.where(torch.rand_like(old) < p, old, new)
        return p * old + (1 - p) * new

    def _get_name(self) -> str:
        return f"{type(self.cell).__name__} with zoneout"
