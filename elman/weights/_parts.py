"""Splits the parameters of a stack by layer and direction."""

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
TORCH_CELLS: dict[type[nn.RNNBase], type[Cell]] = {nn.RNN: cells.RNN, nn.GRU: cells.GRU, nn.LSTM: cells.LSTM}


class WeightPart(NamedTuple):
    """The weights of one direction of one layer, by the names of the cell's parameters."""

    location: str  # for messages
    weights: dict[str, Weight]


def split_layer(
    function: str, layer: object, gate_orders: Mapping[type[Cell], str]
) -> tuple[type[Cell], list[list[WeightPart]]]:
    """Return the cell type of a layer, and the directions of each of its layers.

    Raises:
        TypeError: if it is not a layer with one of the cells of `gate_orders`.
        ValueError: for a projection, which neither Keras nor the nodes of ONNX have.
    """
    cell = _cell_type(layer)
    if cell not in gate_orders or not isinstance(layer, Stack | nn.RNNBase):
        known = ", ".join(cell.__name__ for cell in gate_orders)
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


def _cell_type(layer: object) -> Any:
    if isinstance(layer, Stack):
        return layer.cell_type
    return next((cell for torch_layer, cell in TORCH_CELLS.items() if isinstance(layer, torch_layer)), None)


def reorder_gates(value: Tensor, order: str, new_order: str) -> Tensor:
    """Reorder the gates of a tensor in which they are stacked along the first axis.

    >>> reorder_gates(torch.tensor([1, 1, 2, 2, 3, 3]), "rzn", "zrn").tolist()
    [2, 2, 1, 1, 3, 3]
    """
    gates = dict(zip(order, value.chunk(len(order)), strict=True))
    return torch.cat([gates[name] for name in new_order])


def to_array(value: Tensor) -> Array:
    """Copy a tensor to NumPy in the same precision, or in float32 for bfloat16, which NumPy does not have."""
    value = value.detach().cpu()
    copied: Array = (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
    return copied


def to_tensor(location: str, array: object, shape: tuple[int, ...], hint: str = "") -> Tensor:
    """Convert an array of the user to a tensor in double precision.

    Raises:
        ValueError: for another shape, or if it is not an array of numbers.
    """
    try:
        numbers = torch.from_numpy(np.array(array, dtype=np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{location}: expected an array of numbers, got {type(array).__name__}") from None
    if numbers.shape != shape:
        raise ValueError(f"{location}: expected shape {shape}, got {tuple(numbers.shape)}{hint}")
    return numbers


def set_weights(function: str, new_values: Sequence[tuple[Weight, Tensor]]) -> None:
    """Set weights to new values, all of them or none.

    Raises:
        ValueError: if a weight is computed, and its computation cannot yield its new value.
    """
    layer = new_values[0][0].layer
    backup = {name: value.detach().clone() for name, value in _parameters_and_buffers(layer)}
    for weight, value in new_values:
        try:
            weight.set(value)
        except ValueError as error:
            for name, tensor in _parameters_and_buffers(layer):
                tensor.data.copy_(backup[name])
            raise ValueError(f"{function}: {error}") from None


def _parameters_and_buffers(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters()
    yield from layer.named_buffers()
