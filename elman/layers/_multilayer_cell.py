"""All layers of a stack as one cell."""

from collections.abc import Mapping, Sequence
from itertools import chain

from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.engine import State, as_tuple


class MultilayerCell(nn.Module):
    """Stacked cells as one cell, whose states are those of all; each cell reads the first state of the one below.

    Args:
        cells: from the lowest layer up; the output of each is its first state.
        num_states: of each cell.
        dropout: probability, on the input of every cell but the lowest, in training.
        stack_cells: the cells of the stack, the same object for its modules of training and of evaluation.
    """

    def __init__(
        self, cells: Sequence[nn.Module], num_states: int, dropout: float, stack_cells: tuple[nn.Module, ...]
    ) -> None:
        super().__init__()
        self.cells, self.num_states, self.dropout = nn.ModuleList(cells), num_states, dropout
        self.stack_cells = stack_cells

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run one step from x (B, D) and the states of all layers, the lowest first; returns output and new states."""
        new: list[tuple[Tensor, ...]] = []
        for k, cell in enumerate(self.cells):
            if k:
                x = dropout(x, self.dropout, self.training)
            states = state[k * self.num_states : (k + 1) * self.num_states]
            cell_state: State = states[0] if self.num_states == 1 else states
            new.append(as_tuple(cell(x, cell_state)))
            x = new[-1][0]
        return x, tuple(chain.from_iterable(new))

    def _get_name(self) -> str:
        return str(self.cells[0]._get_name())


def joint_names(cells: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of all cells, by their names in a `MultilayerCell`."""
    return {f"cells.{k}.{name}": value for k, values in enumerate(cells) for name, value in values.items()}
