"""All layers of a stack as one cell."""

from collections.abc import Mapping, Sequence
from itertools import chain

from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.engine import State, as_tuple


class MultilayerCell(nn.Module):
    """Cells one above another, each reading the first state of the one below, as one cell whose states are all theirs.

    Args:
        cells: whose output is their first state, from the lowest up.
        states: how many each of them has.
        dropout: probability, on what a cell reads of the one below, in training.
        stack_cells: those of the stack, the same for its modules of training and of evaluation.
    """

    def __init__(
        self, cells: Sequence[nn.Module], states: int, dropout: float, stack_cells: tuple[nn.Module, ...]
    ) -> None:
        super().__init__()
        self.cells, self.states, self.dropout = nn.ModuleList(cells), states, dropout
        self.stack_cells = stack_cells

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step: x (B, D) and the states of all layers, those of the lowest first, to the output and these anew."""
        new: list[tuple[Tensor, ...]] = []
        for k, cell in enumerate(self.cells):
            if k:
                x = dropout(x, self.dropout, self.training)
            own = state[k * self.states : (k + 1) * self.states]
            given: State = own[0] if self.states == 1 else own
            new.append(as_tuple(cell(x, given)))
            x = new[-1][0]
        return x, tuple(chain.from_iterable(new))

    def _get_name(self) -> str:
        return str(self.cells[0]._get_name())


def joint_names(cells: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The parameters of all cells, by the names that they have in the joint one."""
    return {f"cells.{k}.{name}": value for k, values in enumerate(cells) for name, value in values.items()}
