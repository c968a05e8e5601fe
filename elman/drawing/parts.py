"""The parts of a model that are drawn as boxes, with the names and shapes of their parameters and states."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from elman.cells._cell import Cell
from elman.engine.torch_private import tree_leaves
from elman.errors import BadInput
from elman.layers import Recurrent, Stack
from elman.layers._layer import Layer
from elman.layers._layer_call import state_names

# The letter of each cell size in the equations, and a prime number. A copy of the cell with these primes as sizes has
# shapes in which every size can be identified.
LETTERS = {"input_size": ("D", 1009), "hidden_size": ("H", 10007), "proj_size": ("P", 100003), "depth": ("L", 101)}
INPUT_WIDTHS, OUTPUT_WIDTHS = ("input_size", "in_features"), ("output_size", "out_features", "embedding_dim")


class Sized(NamedTuple):
    """Name and shape of a state or parameter.

    Attributes:
        name: its name in the layer.
        shape: its shape as text, such as "(4, 8)".
        letters: the symbolic shape, such as "(H, D)"; "" if it is not known.
    """

    name: str
    shape: str
    letters: str = ""


@dataclass(frozen=True)
class DrawnPart:
    """One box of the diagram: a cell in one direction, or a module without states.

    Args:
        title: full name, such as "LSTM with zoneout".
        name: short name, such as "LSTM".
        place: position in the model, such as "recurrent, layer 0".
        parameters: the parameters, with their names in the layer.
        symbols: symbols of the states in the equations, such as "h" and "c".
        states: the states, with their names in the layer, such as "h_l0" and "c_l0".
        prefix: prefix that turns names in the layer into names in the model.
        gates: the letters of the gates, separated by spaces.
        is_reverse: whether it reads the sequence from the end to the beginning.
    """

    title: str
    name: str
    place: str
    parameters: tuple[Sized, ...]
    symbols: tuple[str, ...] = ()
    states: tuple[Sized, ...] = ()
    prefix: str = ""
    gates: str = ""
    is_reverse: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the states in the model."""
        return tuple(f"{self.prefix}{state.name}" for state in self.states)


@dataclass(frozen=True)
class Level:
    """The parts at one height: a module, or one or both directions of a layer.

    Args:
        parts: one part, or the two directions of a bidirectional layer.
        input_width: number of input features; None if it is not known.
        output_width: number of output features; None if it is not known.
    """

    parts: tuple[DrawnPart, ...]
    input_width: int | None
    output_width: int | None


def levels_of(model: nn.Module) -> list[Level]:
    """Return the levels of a model from the input upward, in the order in which it registers its modules.

    A module with several submodules, none of them an elman layer, is one level, because its data flow is not known.

    Raises:
        BadInput: if the model has no elman layer.
    """
    levels: list[Level] = []
    visited: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in visited:
            continue
        if isinstance(module, Layer):
            visited.update(module.modules())
            levels += _of_stack(name, module) if isinstance(module, Stack) else [_of_recurrent(name, module)]
        else:
            is_opaque = module is not model and _is_opaque(module)
            parameters = tuple(_sized(key, value.shape) for key, value in module.named_parameters(recurse=is_opaque))
            visited.update(module.modules() if is_opaque else ())
            if parameters:
                title = module._get_name()
                part = DrawnPart(title, title, name, parameters)
                levels.append(Level((part,), _width(module, INPUT_WIDTHS), _width(module, OUTPUT_WIDTHS)))
    if not any(isinstance(module, Layer) for module in visited):
        expected = "a model with elman layers (elman.convert replaces those of torch.nn)"
        raise BadInput(f"draw: {type(model).__name__}: expected {expected}, got none")
    return levels


def _is_opaque(module: nn.Module) -> bool:
    """Return whether a module is drawn as one box although it has submodules."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    has_several = sum(any(True for _ in child.parameters()) for child in module.children()) > 1
    return has_several and not any(isinstance(submodule, Layer) for submodule in module.modules())


def _of_stack(name: str, layer: Stack) -> Iterator[Level]:
    for k, cell in enumerate(layer._cells):
        directions = range(k * layer._directions, (k + 1) * layer._directions)
        yield Level(tuple(_of_direction(name, layer, i) for i in directions), cell.input_size, layer.output_size)


def _of_direction(name: str, layer: Stack, i: int) -> DrawnPart:
    k, back = divmod(i, layer._directions)
    cell, suffix, letters = layer._cells[k], layer._suffix(i), _letters(layer._cells[k])
    symbols = state_names(cell, len(layer._widths))
    place = (name, f"layer {k}" if layer.num_layers > 1 else "", "reverse" if back else "")
    return DrawnPart(
        title=layer._steps[k]._get_name(),
        name=type(cell).__name__,
        place=", ".join(filter(None, place)),
        parameters=tuple(_sized(full, getattr(layer, full).shape, letters[short]) for short, full in layer._names[i]),
        symbols=symbols,
        states=tuple(
            _sized(f"{symbol}{suffix}", (width,), letters[f"state {s}"])
            for s, (symbol, width) in enumerate(zip(symbols, layer._widths, strict=True))
        ),
        prefix=_prefix(name),
        gates=" ".join(cell.gates) if len(cell.gates) > 1 else "",
        is_reverse=back == 1,
    )


def _of_recurrent(name: str, layer: Layer) -> Level:
    assert isinstance(layer, Recurrent)
    size, title = layer.state_size, layer.cell._get_name()
    widths = (None,) if size is None else tuple(tree_leaves(size))
    symbols, letters = state_names(layer.cell, len(widths)), _letters(layer.cell)
    part = DrawnPart(
        title=title,
        name=title,
        place=name,
        parameters=tuple(
            _sized(full, value.shape, letters.get(full.removeprefix("cell."), ""))
            for full, value in layer.named_parameters()
        ),
        symbols=symbols,
        states=tuple(
            Sized(symbol, "") if width is None else _sized(symbol, (width,), letters.get(f"state {s}", ""))
            for s, (symbol, width) in enumerate(zip(symbols, widths, strict=True))
        ),
        prefix=_prefix(name),
    )
    return Level((part,), _width(layer.cell, INPUT_WIDTHS), None)


def _letters(cell: nn.Module) -> dict[str, str]:
    """Return the symbolic shapes of a built-in cell's parameters and states, by name.

    They are read from the shapes of a copy of the cell whose sizes are the primes in `LETTERS`.
    """
    if not isinstance(cell, Cell):
        return {}
    sizes = {name: prime for name, (_, prime) in LETTERS.items() if hasattr(cell, name)}
    sized_cell = copy(cell)
    vars(sized_cell).update(sizes)
    shapes: dict[str, tuple[int, ...]] = dict(sized_cell.shapes())
    width = sized_cell.state_size
    shapes |= {f"state {s}": (w,) for s, w in enumerate(width if isinstance(width, tuple) else (width,))}
    return {name: f"({', '.join(map(_letter, shape))})" for name, shape in shapes.items()}


def _letter(size: int) -> str:
    for letter, prime in LETTERS.values():
        factor, remainder = divmod(size, prime)
        if remainder == 0:
            return f"{factor if factor > 1 else ''}{letter}"
    return str(size)


def _sized(name: str, shape: Sequence[int], letters: str = "") -> Sized:
    return Sized(name, f"({', '.join(map(str, shape))})", letters)


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _width(module: nn.Module, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(module, name, None), int)), None)
