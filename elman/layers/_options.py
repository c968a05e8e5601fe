"""Validates the options of a stack."""

import warnings
from collections.abc import Mapping, Sequence
from math import isfinite

from elman import cells
from elman.cells._cell import Cell
from elman.layers._init import INIT_SCHEMES

LAYER_NORMED: dict[type[Cell], type[Cell]] = {cells.LSTM: cells.LayerNormLSTM, cells.GRU: cells.LayerNormGRU}
PROJECTED: dict[type[Cell], type[Cell]] = {cells.LSTM: cells.ProjectedLSTM, cells.ProjectedLSTM: cells.ProjectedLSTM}


def check_flags(flags: Mapping[str, object]) -> None:
    """Check that each flag is a bool, with torch.nn's error message."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")


def check_sizes(sizes: Mapping[str, object]) -> None:
    """Check that each size is an integer of at least 1, with torch.nn's error messages."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} should be of type int, got: {type(value).__name__}")
        if value < 1:
            raise ValueError(f"{name} must be greater than zero, got {value}")


def check_dropout(dropout: object, num_layers: int, level: int) -> None:
    """Check that dropout is a probability, and warn if it has no effect; `level` is the stacklevel of the warning."""
    check_probability("dropout", dropout)
    if dropout and num_layers == 1:
        warnings.warn(f"dropout={dropout} has no effect: it acts between layers and num_layers is 1", stacklevel=level)


def with_projection(cell_type: type[Cell], proj_size: object, hidden_size: int) -> type[Cell]:
    """Return the variant of a cell type that projects its state, after a check of `proj_size`."""
    if cell_type not in PROJECTED:
        raise ValueError(f"proj_size argument is only supported for LSTM, got {cell_type.__name__}")
    if isinstance(proj_size, bool) or not isinstance(proj_size, int) or not 1 <= proj_size < hidden_size:
        raise ValueError(f"proj_size: expected an integer below hidden_size={hidden_size}, or 0, got {proj_size!r}")
    return PROJECTED[cell_type]


def check_probability(name: str, value: object) -> float:
    """Return the value as a float if it is a probability."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value!r}")
    return float(value)


def check_init(init: str) -> str:
    """Return `init` if it is the name of an initialization scheme."""
    if init not in INIT_SCHEMES:
        raise ValueError(f"init: expected one of {', '.join(INIT_SCHEMES)}, got {init!r}")
    return init


def check_cell_type(layer: str, fixed: type[Cell] | None, requested: object) -> type[Cell]:
    """Return the cell type of a layer: the one that its class fixes (`LSTM`), or else the one that was requested."""
    if fixed is not None and requested is not None and requested is not fixed:
        raise TypeError(
            f"{layer}: cell_type: expected none, since its cells are {fixed.__name__}; use elman.Stack for other cells"
        )
    cell_type = fixed if requested is None else requested
    if not (isinstance(cell_type, type) and issubclass(cell_type, Cell)):
        got = "none" if cell_type is None else getattr(cell_type, "__name__", repr(cell_type)[:40])
        raise TypeError(
            f"{layer}: cell_type: expected a class of elman.cells, got {got}; use elman.Recurrent for your own cell"
        )
    return cell_type


def check_forget_bias(value: object, bias: bool) -> float | None:
    """Return the forget bias as a float, or None; it must be a finite number, and needs a layer with biases."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"forget_bias: expected a number, got {value!r}")
    if not bias:
        raise ValueError(f"forget_bias={value}: expected bias=True, got bias=False")
    return float(value)


def with_layer_norm(cell_type: type[Cell]) -> type[Cell]:
    """Return the variant of a cell type that has layer normalization."""
    if cell_type not in LAYER_NORMED:
        known = " or ".join(cell.__name__ for cell in LAYER_NORMED)
        raise ValueError(f"layer_norm: expected the cell {known}, got {cell_type.__name__}")
    return LAYER_NORMED[cell_type]


def broadcast_zoneout(zoneout: float | Sequence[float], num_states: int) -> tuple[float, ...]:
    """Return the zoneout probability of each state of a cell, from one for all states or one for each."""
    probabilities = tuple(zoneout) if isinstance(zoneout, tuple | list) else (zoneout,) * num_states
    if len(probabilities) != num_states:
        raise ValueError(f"zoneout: expected one probability, or one for each of {num_states} states, got {zoneout!r}")
    return tuple(check_probability("zoneout", probability) for probability in probabilities)
