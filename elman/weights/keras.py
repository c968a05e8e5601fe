"""Weights in the order of Keras."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.layers import Stack
from elman.weights._computed import Weight
from elman.weights._parts import Array, WeightPart, array, in_order, parts, put, tensor

ORDERS: dict[type[Cell], str] = {cells.RNN: "a", cells.GRU: "zrn", cells.ResetBeforeGRU: "zrn", cells.LSTM: "ifgo"}
NAMES = ("kernel", "recurrent_kernel", "bias")


def to_keras(layer: Stack | nn.RNNBase) -> list[list[Array]]:
    """The weights of a layer as Keras has them.

    Keras stacks the gates of a GRU in the order z, r, n (which it calls z, r, h), those of an LSTM as torch does, and
    multiplies from the right. It has one bias where there are two that are only ever added; the GRU of torch.nn, whose
    n multiplies one of them by r, is `keras.layers.GRU(reset_after=True)`, Keras' default, with both. The GRU of the
    paper, `elman.Stack(..., cell_type=elman.cells.ResetBeforeGRU)`, is that with `reset_after=False`.
    (keras.io/api/layers/recurrent_layers)

    Args:
        layer: `elman.RNN`, `GRU`, `LSTM`, a `Stack` of their cells or of `ResetBeforeGRU`; or torch.nn's.

    Returns:
        For each layer what `set_weights` of a Keras layer takes: kernel (D, G*H), recurrent_kernel (H, G*H) and, if
        there is one, bias (G*H), of a GRU with `reset_after=True` (2, G*H). For two directions, those of the forward
        one and then those of the other, as of `keras.layers.Bidirectional`.

    Raises:
        TypeError: for a layer that Keras does not have.
        ValueError: for a layer with projections.

    >>> import elman
    >>> [of_layer] = to_keras(elman.GRU(3, 5))
    >>> [array.shape for array in of_layer]
    [(3, 15), (5, 15), (2, 15)]
    """
    cell, layers = parts("to_keras", layer, ORDERS)
    return [[array(value) for part in directions for value in _of_part(cell, part)] for directions in layers]


def from_keras(layer: Stack | nn.RNNBase, arrays: Sequence[Sequence[Any]]) -> None:
    """Fill a layer with the weights of Keras layers.

    A single bias of Keras becomes `bias_ih`, and `bias_hh` zero.

    Args:
        layer: as for `to_keras`; of the same sizes, and with a bias if and only if Keras' layer has one.
        arrays: as `to_keras` returns them: `[keras_layer.get_weights() for keras_layer in ...]`, for each layer of the
            stack one of Keras.

    Raises:
        TypeError: for a layer that Keras does not have.
        ValueError: for arrays that are not those of such layers, which leave the layer as it was; for a weight that is
            computed (pruned, normalized, parametrized) and cannot take its values.

    >>> import elman
    >>> layer, other = elman.LSTM(3, 5, num_layers=2), elman.LSTM(3, 5, num_layers=2)
    >>> from_keras(other, to_keras(layer))
    >>> x = torch.randn(7, 2, 3)
    >>> torch.allclose(layer(x)[0], other(x)[0], atol=1e-6)
    True
    """
    cell, layers = parts("from_keras", layer, ORDERS)
    if len(arrays) != len(layers) or not all(isinstance(of_layer, list | tuple) for of_layer in arrays):
        raise ValueError(
            f"from_keras: arrays: expected {len(layers)} of what get_weights() of a Keras layer returns, in a list; "
            f"got {', '.join(type(of_layer).__name__ for of_layer in arrays) or 'none'}"
        )
    each, new = NAMES if layer.bias else NAMES[:2], list[tuple[Weight, Tensor]]()
    for k, (directions, of_layer) in enumerate(zip(layers, arrays, strict=True)):
        if len(of_layer) != len(each) * len(directions):
            of_both = ", of each direction" if len(directions) > 1 else ""
            raise ValueError(f"from_keras: layer {k}: expected {', '.join(each)}{of_both}; got {len(of_layer)} arrays")
        for d, part in enumerate(directions):
            new += _new_values(cell, part, of_layer[d * len(each) :])
    put("from_keras", new)


def _of_part(cell: type[Cell], part: WeightPart) -> Iterator[Tensor]:
    values = {name: in_order(weight.value(), cell.gates, ORDERS[cell]) for name, weight in part.weights.items()}
    yield values["weight_ih"].T
    yield values["weight_hh"].T
    if "bias_ih" in values:
        of_input, of_state = values["bias_ih"], values["bias_hh"]
        yield torch.stack([of_input, of_state]) if cell is cells.GRU else of_input + of_state


def _new_values(cell: type[Cell], part: WeightPart, given: Sequence[Any]) -> Iterator[tuple[Weight, Tensor]]:
    shapes = [tuple(value.shape) for value in _of_part(cell, part)]
    read = [
        tensor(f"{part.where}: {name}", value, shape, _hint(cell, name, value))
        for name, value, shape in zip(NAMES, given, shapes, strict=False)
    ]
    values = {"weight_ih": read[0].T, "weight_hh": read[1].T}
    if len(read) == len(NAMES):
        values["bias_ih"], values["bias_hh"] = read[2] if cell is cells.GRU else (read[2], torch.zeros_like(read[2]))
    for name, weight in part.weights.items():
        yield weight, in_order(values[name], ORDERS[cell], cell.gates)


def _hint(cell: type[Cell], name: str, value: Any) -> str:
    """Which GRU this may be, if it is not that of the layer."""
    if name != "bias" or cell not in (cells.GRU, cells.ResetBeforeGRU):
        return ""
    after, other = ("False", "ResetBeforeGRU") if cell is cells.GRU else ("True", "GRU")
    return f"; weights of reset_after={after} belong to a layer of elman.cells.{other}"
