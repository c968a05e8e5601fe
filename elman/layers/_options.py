"""Checks the options of a stack."""

import warnings
from collections.abc import Mapping, Sequence
from math import isfinite

from elman import cells
from elman.cells._cell import Cell
from elman.layers._init import STARTS

LAYER_NORMED: dict[type[Cell], type[Cell]] = {cells.LSTM: cells.LayerNormLSTM, cells.GRU: cells.LayerNormGRU}
PROJECTED: dict[type[Cell], type[Cell]] = {cells.LSTM: cells.ProjectedLSTM, cells.ProjectedLSTM: cells.ProjectedLSTM}


def check_flags(flags: Mapping[str, object]) -> None:
    """Whether each is True or False, in torch.nn's words."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")


def check_sizes(sizes: Mapping[str, object]) -> None:
    """Whether each is a whole number of at least 1, in torch.nn's words."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} should be of type int, got: {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name} must be greater than zero, got {value}")


def check_dropout(dropout: object, num_layers: int, level: int) -> None:
    """Whether it is a probability; `level` is how far above this call the line of a warning is."""
    check_probability("dropout", dropout)
    if dropout and num_layers == 1:
        warnings.warn(f"dropout={dropout} has no effect: it acts between layers and num_layers is 1", stacklevel=level)


def projected(cell_type: type[Cell], proj_size: object, hidden_size: int) -> type[Cell]:
    """The cell with a projection of its state that stands for one without."""
    if cell_type not in PROJECTED:
        raise ValueError(f"proj_size argument is only supported for LSTM, got {cell_type.__name__}")
    if isinstance(proj_size, bool) or not isinstance(proj_size, int) or not 1 <= proj_size < hidden_size:
        raise ValueError(f"proj_size: expected a whole number below hidden_size={hidden_size}, or 0, got {proj_size!r}")
    return PROJECTED[cell_type]


def check_probability(name: str, value: object) -> float:
    """A probability, if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return float(value)


def check_start(init: str) -> str:
    """The name of a way to begin, if it is one."""
    if init not in STARTS:
        raise ValueError(f"init: expected one of {', '.join(STARTS)}, got {init!r}")
    return init


def check_cell_type(layer: str, own: type[Cell] | None, given: object) -> type[Cell]:
    """The cells that a layer is made of: its own kind, or those that are asked for."""
    if own is not None and given is not None and given is not own:
        raise TypeError(f"{layer}: cell_type: expected none, for its cells are {own.__name__}; elman.Stack takes any")
    found = own if given is None else given
    if not (isinstance(found, type) and issubclass(found, Cell)):
        came = "none" if found is None else getattr(found, "__name__", repr(found)[:40])
        raise TypeError(
            f"{layer}: cell_type: expected a class of elman.cells, got {came}; elman.Recurrent runs a cell of your own"
        )
    return found


def check_forget_bias(value: object, bias: bool) -> float | None:
    """A number, where there are biases, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"forget_bias: expected a number, got {value!r}")
    if not bias:
        raise ValueError(f"forget_bias={value}: expected biases, got bias=False")
    return float(value)


def layer_normed(cell_type: type[Cell]) -> type[Cell]:
    """The cell with layer normalization that stands for one without."""
    if cell_type not in LAYER_NORMED:
        known = " or ".join(cell.__name__ for cell in LAYER_NORMED)
        raise ValueError(f"layer_norm: expected the cell {known}, got {cell_type.__name__}")
    return LAYER_NORMED[cell_type]


def of_each_state(zoneout: float | Sequence[float], states: int) -> tuple[float, ...]:
    """A probability for each state, from one for all or one for each."""
    given = tuple(zoneout) if isinstance(zoneout, tuple | list) else (zoneout,) * states
    if len(given) != states:
        raise ValueError(f"zoneout: expected one probability, or one for each of {states} states, got {zoneout!r}")
    return tuple(check_probability("zoneout", value) for value in given)
