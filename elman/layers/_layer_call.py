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

LETTERS = "hcnm"  # names of the states of the cells in `elman.cells`


class CallNames(NamedTuple):
    """The names that a layer has for what belongs to a call of the engine.

    Attributes:
        states: of the cell, named like parameters: h_l0, c_l1_reverse.
        parameter: maps the name of a parameter in the engine to that in the layer.
        suffix: of all names of that cell.
    """

    states: tuple[str, ...]
    parameter: Callable[[str], str]
    suffix: str = ""


class LayerCall:
    """A call of the engine by a layer, for observers. Names are computed when they are asked for.

    Args:
        layer: the caller.
        key: identifies the call to the layer's `_names_of`.
        layout: of the input.
        step: the module that was run, which must live until the backward pass.
        is_reverse: the sequences are read from their ends.
        depth: how many calls of the layer, with the same layout, lie below this one, which reads the concatenated
            outputs of those directly below, perhaps after dropout.
        number: from `new_number`, if the label is made later than the call; later calls have greater numbers.
    """

    _numbers = count()

    def __init__(
        self, layer: "Layer", key: Any, layout: SequenceLayout, step: nn.Module, is_reverse: bool = False,
        depth: int = 0, number: int | None = None,
    ) -> None:  # fmt: skip
        self.layer, self.key, self.layout, self.step = layer, key, layout, step
        self.is_reverse, self.depth = is_reverse, depth
        self.number = self.new_number() if number is None else number

    @classmethod
    def new_number(cls) -> int:
        """Return the number of the next call."""
        return next(cls._numbers)

    @cached_property
    def names(self) -> CallNames:
        """The names of the cell's states and parameters."""
        return self.layer._names_of(self.key)

    def padded(self, rows: Tensor) -> Tensor:
        """Return values of all rows as (T, B, ...), in the order of the input, with zeros behind ends of sequences."""
        return self.layout.pad(self.layout.reverse(rows) if self.is_reverse else rows)


def state_names(cell: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of a cell's states: its `state_names`, or h, or h and c; else state0, state1, ..."""
    names: Sequence[str] | None = getattr(cell, "state_names", None)
    if names is not None and len(names) == count:
        return tuple(names)
    has_letters = isinstance(cell, Cell | nn.LSTMCell) or count == 1
    return tuple(LETTERS[:count]) if has_letters else tuple(f"state{i}" for i in range(count))
