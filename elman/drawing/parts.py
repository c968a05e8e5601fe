"""What a model is made of, from its input up, with the names and shapes that it has in there."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from elman.cells._cell import Cell
from elman.errors import BadInput
from elman.layers import Recurrent, Stack
from elman.layers._label import state_names
from elman.layers._layer import Layer

# The sizes of a cell, their letters in the equations, and numbers that shapes are known by when a cell has these sizes.
LETTERS = {"input_size": ("D", 1009), "hidden_size": ("H", 10007), "proj_size": ("P", 100003), "depth": ("L", 101)}
READS, GIVES = ("input_size", "in_features"), ("output_size", "out_features", "embedding_dim")


class Sized(NamedTuple):
    """A state or a parameter: its name, its shape, and that in letters, where they are known."""

    name: str
    shape: str
    letters: str = ""


@dataclass(frozen=True)
class Part:
    """What is one box: a cell in one direction, or a module without a memory.

    Args:
        title: what kind of thing it is: LSTM.
        place: in the model: "recurrent, layer 0".
        symbols: of its states, in the equations: h, c.
        states: by their names in the layer: h_l0, c_l0.
        parameters: by their names in the layer.
        prefix: before names in the layer, to have those in the model.
        gates: their letters.
        back: it reads from the end to the beginning.
    """

    title: str
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

    parts: tuple[Part, ...]
    reads: int | None
    gives: int | None


def levels_of(model: nn.Module) -> list[Level]:
    """The layers of a model and its other modules with parameters, in the order in which it holds them.

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
        elif own := tuple(_sized(key, value) for key, value in module.named_parameters(recurse=False)):
            found.append(Level((Part(module._get_name(), name, own),), _width(module, READS), _width(module, GIVES)))
    if not within:
        expected = "a model with layers of elman's, or what elman.convert makes of one with torch.nn's"
        raise BadInput(f"draw: {type(model).__name__}: expected {expected}, got none")
    return found


def _of_stack(name: str, layer: Stack) -> Iterator[Level]:
    for k, cell in enumerate(layer._cells):
        known = _letters(cell)
        parts = []
        for i in range(k * layer._directions, (k + 1) * layer._directions):
            back, suffix = i % layer._directions == 1, layer._suffix(i)
            symbols = state_names(cell, len(layer._widths))
            place = [name, f"layer {k}" if layer.num_layers > 1 else "", "reverse" if back else ""]
            parameters = (
                Sized(full, _shape(getattr(layer, full).shape), known[short]) for short, full in layer._names[i]
            )
            states = (
                Sized(f"{symbol}{suffix}", _shape([width]), known[f"state {s}"])
                for s, (symbol, width) in enumerate(zip(symbols, layer._widths, strict=True))
            )
            parts.append(
                Part(
                    layer._steps[k]._get_name(),
                    ", ".join(filter(None, place)),
                    tuple(parameters),
                    symbols,
                    tuple(states),
                    _prefix(name),
                    " ".join(cell.order) if len(cell.order) > 1 else "",
                    back,
                )  # fmt: skip
            )
        yield Level(tuple(parts), cell.input_size, layer.output_size)


def _of_recurrent(name: str, layer: Layer) -> Level:
    assert isinstance(layer, Recurrent)
    sizes = layer.state_size
    widths = () if sizes is None else (sizes,) if isinstance(sizes, int) else tuple(sizes)
    symbols = state_names(layer.cell, len(widths) or 1)
    shapes = [_shape([width]) for width in widths] or [""]
    states = tuple(Sized(symbol, shape) for symbol, shape in zip(symbols, shapes, strict=True))
    known = {f"cell.{key}": value for key, value in _letters(layer.cell).items()}
    parameters = tuple(_sized(key, value, known.get(key, "")) for key, value in layer.named_parameters())
    part = Part(layer.cell._get_name(), name, parameters, symbols, states, _prefix(name))
    return Level((part,), _width(layer.cell, READS), None)


def _letters(cell: nn.Module) -> dict[str, str]:
    """The shapes of the parameters and states of a cell of the shelf in letters: those of a cell of sizes that are known
    again in its shapes.
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


def _sized(name: str, value: nn.Parameter, letters: str = "") -> Sized:
    return Sized(name, _shape(value.shape), letters)


def _shape(sizes: "list[int] | tuple[int, ...]") -> str:
    return f"({', '.join(map(str, sizes))})"


def _prefix(name: str) -> str:
    return f"{name}." if name else ""


def _width(module: nn.Module, names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(module, name, None), int)), None)
