"""Labels that a layer gives its calls of the engine, for observers of the backward pass."""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from elman.cells._cell import Cell
from elman.layers._sequence_layout import SequenceLayout

if TYPE_CHECKING:
    from elman.layers._layer import Layer

LETTERS = "hcnm"  # of the states of the cells of the shelf


class CallNames(NamedTuple):
    """What belongs to a call is called in its layer.

    states: of the cell, as those of parameters: h_l0, c_l1_reverse.
    parameter: of the name that the engine has for a parameter of the cell, the one in the layer.
    suffix: what stands behind the name of anything of that cell.
    """

    states: tuple[str, ...]
    parameter: Callable[[str], str]
    suffix: str = ""


class LayerCall:
    """A call of the engine by a layer; names are worked out when somebody asks for them.

    Args:
        layer: that has called.
        of: what it needs to know to name what belongs to the call.
        layout: of the input.
        back: the sequences are read from their ends.
        depth: how many other calls of the layer, with the same layout, this one lies over: it reads the outputs of
            those one below, side by side, perhaps after dropout.
        step: the module that was run, which must live until the backward pass.
        number: of `new_number`, taken at the call, where the label is made later; later calls have greater ones.
    """

    _numbers = count()

    def __init__(
        self, layer: "Layer", of: Any, layout: SequenceLayout, step: nn.Module, back: bool = False, depth: int = 0,
        number: int | None = None,
    ) -> None:  # fmt: skip
        self.layer, self.of, self.layout, self.step, self.back, self.depth = layer, of, layout, step, back, depth
        self.number = self.new_number() if number is None else number

    @classmethod
    def new_number(cls) -> int:
        """The number of the next call."""
        return next(cls._numbers)

    @cached_property
    def names(self) -> CallNames:
        """Of the cell's states and parameters."""
        return self.layer._names_of(self.of)

    def padded(self, rows: Tensor) -> Tensor:
        """Values of all rows as (T, B, ...), in the order of the input, with zeros for steps that are none."""
        return self.layout.pad(self.layout.reverse(rows) if self.back else rows)


def state_names(cell: nn.Module, count: int) -> tuple[str, ...]:
    """What the states of a cell are called: as it says in `state_names`, or h, or h and c; of others, by number."""
    given: Sequence[str] | None = getattr(cell, "state_names", None)
    if given is not None and len(given) == count:
        return tuple(given)
    known = isinstance(cell, Cell | nn.LSTMCell) or count == 1
    return tuple(LETTERS[:count]) if known else tuple(f"state{i}" for i in range(count))
