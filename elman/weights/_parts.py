"""The parameters of a layer, one direction of one layer at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.layers import Stack
from elman.weights._computed import Weight

Array = NDArray[np.floating]
TORCHS: dict[type[nn.RNNBase], type[Cell]] = {nn.RNN: cells.RNN, nn.GRU: cells.GRU, nn.LSTM: cells.LSTM}


class WeightPart(NamedTuple):
    """One direction of one layer: its weights by the names that the cell has for them."""

    where: str  # for messages
    weights: dict[str, Weight]


def parts(function: str, layer: object, orders: Mapping[type[Cell], str]) -> tuple[type[Cell], list[list[WeightPart]]]:
    """The cell that a layer is made of, and the directions of each of its layers.

    Raises:
        TypeError: for what is no layer of a cell in `orders`.
        ValueError: for a projection, which neither Keras nor a node of ONNX has.
    """
    cell = _cell(layer)
    if cell not in orders or not isinstance(layer, Stack | nn.RNNBase):
        known = ", ".join(cell.__name__ for cell in orders)
        of = f" of {cell.__name__}" if cell else ""
        raise TypeError(
            f"{function}: layer: expected a layer of elman or torch.nn of {known}; got {type(layer).__name__}{of}"
        )
    if getattr(layer, "proj_size", 0):
        raise ValueError(f"{function}: layer: expected no projection, got proj_size={layer.proj_size}")
    suffixes = ("", "_reverse") if getattr(layer, "bidirectional", False) else ("",)
    names = [name for name, _ in cell(1, 1, bias=layer.bias, device="meta").named_parameters()]
    return cell, [
        [
            WeightPart(
                f"{function}: layer {k}{suffix.replace('_', ', ')}",
                {name: Weight(layer, f"{name}_l{k}{suffix}") for name in names},
            )
            for suffix in suffixes
        ]
        for k in range(layer.num_layers)
    ]


def _cell(layer: object) -> Any:
    if isinstance(layer, Stack):
        return layer.cell_type
    return next((cell for theirs, cell in TORCHS.items() if isinstance(layer, theirs)), None)


def in_order(value: Tensor, order: str, wanted: str) -> Tensor:
    """What is stacked by gate along the first axis, stacked in another order of the same gates.

    >>> in_order(torch.tensor([1, 1, 2, 2, 3, 3]), "rzn", "zrn").tolist()
    [2, 2, 1, 1, 3, 3]
    """
    gates = dict(zip(order, value.chunk(len(order)), strict=True))
    return torch.cat([gates[name] for name in wanted])


def array(value: Tensor) -> Array:
    """A copy in NumPy, of the same precision (NumPy has no bfloat16: then of float32)."""
    value = value.detach().cpu()
    copied: Array = (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
    return copied


def tensor(where: str, given: object, shape: tuple[int, ...], hint: str = "") -> Tensor:
    """An array that was given, in double precision.

    Raises:
        ValueError: for another shape, or what is no array of numbers.
    """
    try:
        numbers = torch.from_numpy(np.array(given, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected an array of numbers, got {type(given).__name__}") from None
    if numbers.shape != shape:
        raise ValueError(f"{where}: expected shape {shape}, got {tuple(numbers.shape)}{hint}")
    return numbers


def put(function: str, new: Sequence[tuple[Weight, Tensor]]) -> None:
    """Set weights to new values, all of them or none.

    Raises:
        ValueError: if a weight is computed, and its computation cannot give its new values.
    """
    layer = new[0][0].layer
    before = {name: value.detach().clone() for name, value in _held(layer)}
    for weight, value in new:
        try:
            weight.set(value)
        except ValueError as error:
            for name, held in _held(layer):
                held.data.copy_(before[name])
            raise ValueError(f"{function}: {error}") from None


def _held(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters()
    yield from layer.named_buffers()
