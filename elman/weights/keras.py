"""Weights in the order of Keras."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.layers import Stack
from elman.weights._computed import Weight
from elman.weights._parts import Array, WeightPart, reorder_gates, set_weights, split_layer, to_array, to_tensor

GATE_ORDERS: dict[type[Cell], str] = {cells.RNN: "a", cells.GRU: "zrn", cells.ResetBeforeGRU: "zrn", cells.LSTM: "ifgo"}
ARRAY_NAMES = ("kernel", "recurrent_kernel", "bias")


def to_keras(layer: Stack | nn.RNNBase) -> list[list[Array]]:
    """Return the weights of a layer in the layout of Keras.

    Keras stacks the gates of a GRU in the order z, r, n (which it calls z, r, h), those of an LSTM like torch, and
    multiplies by matrices from the right. It has one bias where torch has two that are only added. The GRU of torch.nn,
    whose n multiplies one of the biases by r, is `keras.layers.GRU(reset_after=True)`, the default of Keras, and has
    both. The GRU of the paper, `elman.Stack(..., cell_type=elman.cells.ResetBeforeGRU)`, is the one with
    `reset_after=False`. (keras.io/api/layers/recurrent_layers)

    Args:
        layer: `elman.RNN`, `GRU`, `LSTM`, a `Stack` of their cells or of `ResetBeforeGRU`; or one of torch.nn.

    Returns:
        For each layer the arrays for `set_weights` of a Keras layer: kernel (D, G*H), recurrent_kernel (H, G*H) and, if
        the layer has biases, bias (G*H), or (2, G*H) for a GRU with `reset_after=True`. For two directions, the arrays
        of the forward and then of the reverse direction, as in `keras.layers.Bidirectional`.

    Raises:
        TypeError: for a layer that Keras does not have.
        ValueError: for a layer with projections.

    >>> import elman
    >>> [arrays] = to_keras(elman.GRU(3, 5))
    >>> [array.shape for array in arrays]
    [(3, 15), (5, 15), (2, 15)]
    """
    cell, layers = split_layer("to_keras", layer, GATE_ORDERS)
    return [[to_array(value) for part in directions for value in _to_keras_arrays(cell, part)] for directions in layers]


def from_keras(layer: Stack | nn.RNNBase, arrays: Sequence[Sequence[Any]]) -> None:
    """Fill a layer with the weights of Keras layers.

    A single bias of Keras becomes `bias_ih`, and `bias_hh` zero.

    Args:
        layer: as for `to_keras`, with the same sizes, and with a bias if and only if the Keras layer has one.
        arrays: in the format of `to_keras`: `[keras_layer.get_weights() for keras_layer in ...]`, with one Keras layer
            for each layer of the stack.

    Raises:
        TypeError: for a layer that Keras does not have.
        ValueError: for arrays that do not fit the layer; for a weight that is computed (pruned, normalized,
            parametrized) and cannot take the values. The layer is then unchanged.

    >>> import elman
    >>> layer, other = elman.LSTM(3, 5, num_layers=2), elman.LSTM(3, 5, num_layers=2)
    >>> from_keras(other, to_keras(layer))
    >>> x = torch.randn(7, 2, 3)
    >>> torch.allclose(layer(x)[0], other(x)[0], atol=1e-6)
    True
    """
    cell, layers = split_layer("from_keras", layer, GATE_ORDERS)
    if len(arrays) != len(layers) or not all(isinstance(layer_arrays, list | tuple) for layer_arrays in arrays):
        raise ValueError(
            f"from_keras: arrays: expected a list of {len(layers)} results of get_weights() of Keras layers; "
            f"got {', '.join(type(layer_arrays).__name__ for layer_arrays in arrays) or 'none'}"
        )
    names, new_values = ARRAY_NAMES if layer.bias else ARRAY_NAMES[:2], list[tuple[Weight, Tensor]]()
    for k, (directions, layer_arrays) in enumerate(zip(layers, arrays, strict=True)):
        if len(layer_arrays) != len(names) * len(directions):
            expected = ", ".join(names) + (", of each direction" if len(directions) > 1 else "")
            raise ValueError(f"from_keras: layer {k}: expected {expected}; got {len(layer_arrays)} arrays")
        for d, part in enumerate(directions):
            new_values += _from_keras_arrays(cell, part, layer_arrays[d * len(names) :])
    set_weights("from_keras", new_values)


def _to_keras_arrays(cell: type[Cell], part: WeightPart) -> Iterator[Tensor]:
    order, weights = GATE_ORDERS[cell], part.weights.items()
    values = {name: reorder_gates(weight.value(), cell.gates, order) for name, weight in weights}
    yield values["weight_ih"].T
    yield values["weight_hh"].T
    if "bias_ih" in values:
        bias_ih, bias_hh = values["bias_ih"], values["bias_hh"]
        yield torch.stack([bias_ih, bias_hh]) if cell is cells.GRU else bias_ih + bias_hh


def _from_keras_arrays(cell: type[Cell], part: WeightPart, arrays: Sequence[Any]) -> Iterator[tuple[Weight, Tensor]]:
    shapes = [tuple(value.shape) for value in _to_keras_arrays(cell, part)]
    tensors = [
        to_tensor(f"{part.location}: {name}", array, shape, _hint(cell, name))
        for name, array, shape in zip(ARRAY_NAMES, arrays, shapes, strict=False)
    ]
    values = {"weight_ih": tensors[0].T, "weight_hh": tensors[1].T}
    if len(tensors) == len(ARRAY_NAMES):
        bias = tensors[2]
        values["bias_ih"], values["bias_hh"] = bias if cell is cells.GRU else (bias, torch.zeros_like(bias))
    for name, weight in part.weights.items():
        yield weight, reorder_gates(values[name], GATE_ORDERS[cell], cell.gates)


def _hint(cell: type[Cell], name: str) -> str:
    """Return which kind of GRU a bias of another shape belongs to."""
    if name != "bias" or cell not in (cells.GRU, cells.ResetBeforeGRU):
        return ""
    after, other = ("False", "ResetBeforeGRU") if cell is cells.GRU else ("True", "GRU")
    return f"; weights of reset_after={after} belong to a layer of elman.cells.{other}"
