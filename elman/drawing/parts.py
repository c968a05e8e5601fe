"""What a model is made of, from its input up, with the names and shapes that it has in there."""

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

# The sizes of a cell, their letters in the equations, and numbers that shapes are known by when a cell has these sizes.
LETTERS = {"input_size": ("D", 1009), "hidden_size": ("H", 10007), "proj_size": ("P", 100003), "depth": ("L", 101)}
READS, GIVES = ("input_size", "in_features"), ("output_size", "out_features", "embedding_dim")


class Sized(NamedTuple):
    """A state or a parameter: its name, its shape, and that in letters, where they are known."""

    name: str
    shape: str
    letters: str = ""


@dataclass(frozen=True)
class DrawnPart:
    """What is one box: a cell in one direction, or a module without a memory.

    Args:
        title: what kind of thing it is: LSTM with zoneout.
        name: the same in short: LSTM.
        place: in the model: "recurrent, layer 0".
        symbols: of its states, in the equations: h, c.
        states: by their names in the layer: h_l0, c_l0.
        parameters: by their names in the layer.
        prefix: before names in the layer, to have those in the model.
        gates: their letters.
        back: it reads from the end to the beginning.
    """

    title: str
    name: str
    place: str
    parameters: tuple[Sized, ...]
    symbols: tuple[str, ...] = ()
    states: tuple[Sized, ...] = ()
    prefix: str = ""
    gates: str = ""
    back: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the states in the model."""
        return tuple(f"{self.prefix}{state.name}" for state in self.states)


@dataclass(frozen=True)
class Level:
    """What stands at one height: a module, or a layer in its directions.

    Args:
        parts: one, or the two directions of a layer.
        reads: how wide what comes in is; None where that is not known.
        gives: the same of what goes out.
    """

    parts: tuple[DrawnPart, ...]
    reads: int | None
    gives: int | None


def levels_of(model: nn.Module) -> list[Level]:
    """The layers of a model and its other modules with parameters, in the order in which it holds them.

    A module of several others, none of them a layer, is one: only it knows how they go together.

    Raises:
        BadInput: for a model without layers of elman's.
    """
    found: list[Level] = []
    within: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in within:
            continue
        if isinstance(module, Layer):
            within.update(module.modules())
            found += _of_stack(name, module) if isinstance(module, Stack) else [_of_recurrent(name, module)]
        else:
            whole = module is not model and _is_whole(module)
            own = tuple(_sized(key, value.shape) for key, value in module.named_parameters(recurse=whole))
            within.update(module.modules() if whole else ())
            if own:
                title = module._get_name()
                found.append(Level((DrawnPart(title, title, name, own),), _width(module, READS), _width(module, GIVES)))
    if not any(isinstance(module, Layer) for module in within):
        expected = "a model with layers of elman's, or what elman.convert makes of one with torch.nn's"
        raise BadInput(f"draw: {type(model).__name__}: expected {expected}, got none")
    return found


def _is_whole(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    several = sum(any(True for _ in child.parameters()) for child in module.children()) > 1
    return several and not any(isinstance(one, Layer) for one in module.modules())


def _of_stack(name: str, layer: Stack) -> Iterator[Level]:
    for k, cell in enumerate(layer._cells):
        directions = range(k * layer._directions, (k + 1) * layer._directions)
        yield Level(tuple(_of_direction(name, layer, i) for i in directions), cell.input_size, layer.output_size)


def _of_direction(name: str, layer: Stack, i: int) -> DrawnPart:
    k, back = divmod(i, layer._directions)
    cell, suffix, known = layer._cells[k], layer._suffix(i), _letters(layer._cells[k])
    symbols = state_names(cell, len(layer._widths))
    place = (name, f"layer {k}" if layer.num_layers > 1 else "", "reverse" if back else "")
    return DrawnPart(
        title=layer._steps[k]._get_name(),
        name=type(cell).__name__,
        place=", ".join(filter(None, place)),
        parameters=tuple(_sized(full, getattr(layer, full).shape, known[own]) for own, full in layer._names[i]),
        symbols=symbols,
        states=tuple(
            _sized(f"{symbol}{suffix}", (width,), known[f"state {s}"])
            for s, (symbol, width) in enumerate(zip(symbols, layer._widths, strict=True))
        ),
        prefix=_prefix(name),
        gates=" ".join(cell.gates) if len(cell.gates) > 1 else "",
        back=back == 1,
    )


def _of_recurrent(name: str, layer: Layer) -> Level:
    assert isinstance(layer, Recurrent)
    size, title = layer.state_size, layer.cell._get_name()
    widths = (None,) if size is None else tuple(tree_leaves(size))
    symbols, known = state_names(layer.cell, len(widths)), _letters(layer.cell)
    part = DrawnPart(
        title=title,
        name=title,
        place=name,
        parameters=tuple(
            _sized(full, value.shape, known.get(full.removeprefix("cell."), ""))
            for full, value in layer.named_parameters()
        ),
        symbols=symbols,
        states=tuple(
            Sized(symbol, "") if width is None else _sized(symbol, (width,), known.get(f"state {s}", ""))
            for s, (symbol, width) in enumerate(zip(symbols, widths, strict=True))
        ),
        prefix=_prefix(name),
    )
    return Level((part,), _width(layer.cell, READS), None)


def _letters(cell: nn.Module) -> dict[str, str]:
    """The shapes of the parameters and states of a cell of the shelf in letters.

    They are found as those of a cell whose sizes can be told from each other in its shapes.
    """
    if not isinstance(cell, Cell):
        return {}
    sizes = {name: prime for name, (_, prime) in LETTERS.items() if hasattr(cell, name)}
    other = copy(cell)
    vars(other).update(sizes)
    shapes: dict[str, tuple[int, ...]] = dict(other.shapes())
    width = other.state_size
    shapes |= {f"state {s}": (w,) for s, w in enumerate(width if isinstance(width, tuple) else (width,))}
    return {name: f"({', '.join(map(_letter, shape))})" for name, shape in shapes.items()}


def _letter(size: int) -> str:
    for letter, prime in LETTERS.values():
        times, rest = divmod(size, prime)
        if rest == 0:
            return f"{times if times > 1 else ''}{letter}"
    return str(size)


def _sized(name: str, shape: Sequence[int], letters: str = "") -> Sized:
    return Sized(name, f"({', '.join(map(str, shape))})", letters)


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _width(module: nn.Module, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(module, name, None), int)), None)
