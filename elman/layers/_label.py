"""What a layer says of its calls of the engine, for those who look at their backward passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from torch import Tensor, nn

from elman.cells._cell import Cell
from elman.layers._layout import Layout

LETTERS = "hcnm"  # of the states of the cells of the shelf


@dataclass(frozen=True, eq=False)
class Label:
    """A call of the engine by a layer.

    Args:
        layer: that has called.
        states: the names of the cell's states in it, as those of parameters: h_l0, c_l1_reverse.
        parameter: of the name that the engine has for a parameter of the cell, the one it has in the layer.
        layout: of the input.
        suffix: what stands behind the name of a state of one cell.
        back: the sequences are read from their ends.
        number: later calls have greater ones.
    """

    layer: nn.Module
    states: tuple[str, ...]
    parameter: Callable[[str], str]
    layout: Layout
    suffix: str = ""
    back: bool = False
    number: int = field(default_factory=count().__next__)

    def padded(self, rows: Tensor) -> Tensor:
        """Values of all rows as (T, B, ...), in the order of the input, with zeros for steps that are none."""
        return self.layout.padded(self.layout.reversed(rows) if self.back else rows)


def state_names(cell: nn.Module, count: int) -> tuple[str, ...]:
    """What the states of a cell are called: as it says in `state_names`, or h, or h and c; of others, by number."""
    given: Sequence[str] | None = getattr(cell, "state_names", None)
    if given is not None and len(given) == count:
        return tuple(given)
    known = isinstance(cell, Cell | nn.LSTMCell) or count == 1
    return tuple(LETTERS[:count]) if known else tuple(f"state{i}" for i in range(count))
