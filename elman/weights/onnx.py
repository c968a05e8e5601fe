"""Weights in the order of ONNX."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.layers import Stack
from elman.weights._computed import Weight
from elman.weights._parts import Array, WeightPart, array, in_order, parts, put, tensor

ORDERS: dict[type[Cell], str] = {
    cells.RNN: "a",
    cells.GRU: "zrn",
    cells.ResetBeforeGRU: "zrn",
    cells.LSTM: "iofg",
    cells.PeepholeLSTM: "iofg",
}
PEEPHOLES = "ifo", "iof"  # the order of our cell, and that of ONNX


def to_onnx(layer: Stack | nn.RNNBase) -> list[dict[str, Array]]:
    """The weights of a layer as the nodes RNN, GRU and LSTM of ONNX take them.

    ONNX stacks the gates of an LSTM in the order i, o, f, g (which it calls c), those of a GRU as z, r, n (h). A node
    is one layer, of one direction or two. The GRU of torch.nn is the node with `linear_before_reset=1`, that of
    `ResetBeforeGRU` the node with 0, its default. (onnx.ai/onnx/operators)

    Args:
        layer: `elman.RNN`, `GRU`, `LSTM`, a `Stack` of their cells or of `ResetBeforeGRU` or `PeepholeLSTM`; or
            torch.nn's.

    Returns:
        For each layer the inputs of its node, by ONNX's names: W (directions, G*H, D), R (directions, G*H, H); with
        biases B (directions, 2*G*H), with peepholes P (directions, 3*H).

    Raises:
        TypeError: for a layer that ONNX does not have.
        ValueError: for a layer with projections.

    >>> import elman
    >>> [node] = to_onnx(elman.LSTM(3, 5))
    >>> {name: array.shape for name, array in node.items()}
    {'W': (1, 20, 3), 'R': (1, 20, 5), 'B': (1, 40)}
    """
    cell, layers = parts("to_onnx", layer, ORDERS)
    nodes = ([_of_part(cell, part) for part in directions] for directions in layers)
    return [{name: array(torch.stack([of[name] for of in node])) for name in node[0]} for node in nodes]


def from_onnx(layer: Stack | nn.RNNBase, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Fill a layer with the weights of nodes of ONNX.

    Args:
        layer: as for `to_onnx`, and of the same sizes and directions.
        nodes: as `to_onnx` returns them, one for each layer. B and P may be missing, and are zero then, as in ONNX.

    Raises:
        TypeError: for a layer that ONNX does not have.
        ValueError: for arrays that are not those of such nodes, which leave the layer as it was; for a weight that is
            computed (pruned, normalized, parametrized) and cannot take its values.

    >>> import elman
    >>> layer, other = elman.GRU(3, 5, num_layers=2), elman.GRU(3, 5, num_layers=2)
    >>> from_onnx(other, to_onnx(layer))
    >>> torch.equal(layer.bias_hh_l1, other.bias_hh_l1)
    True
    """
    cell, layers = parts("from_onnx", layer, ORDERS)
    if len(nodes) != len(layers) or not all(isinstance(node, Mapping) for node in nodes):
        came = ", ".join(type(node).__name__ for node in nodes) or "none"
        raise ValueError(f"from_onnx: nodes: expected {len(layers)} dictionaries, one for each layer; got {came}")
    new = list[tuple[Weight, Tensor]]()
    for k, (directions, node) in enumerate(zip(layers, nodes, strict=True)):
        new += _new_values(cell, f"from_onnx: layer {k}", directions, node)
    put("from_onnx", new)


def _of_part(cell: type[Cell], part: WeightPart) -> dict[str, Tensor]:
    values = {
        name: in_order(weight.value(), *(PEEPHOLES if name == "weight_ch" else (cell.gates, ORDERS[cell])))
        for name, weight in part.weights.items()
    }
    found = {"W": values["weight_ih"], "R": values["weight_hh"]}
    if "bias_ih" in values:
        found["B"] = torch.cat([values["bias_ih"], values["bias_hh"]])
    return found | ({"P": values["weight_ch"]} if "weight_ch" in values else {})


def _new_values(
    cell: type[Cell], where: str, directions: Sequence[WeightPart], node: Mapping[str, Any]
) -> Iterator[tuple[Weight, Tensor]]:
    shapes = {name: (len(directions), *value.shape) for name, value in _of_part(cell, directions[0]).items()}
    if not {"W", "R"} <= set(node) <= set(shapes):
        raise ValueError(f"{where}: expected {', '.join(shapes)}; got {', '.join(map(str, node)) or 'nothing'}")
    read = {
        name: tensor(f"{where}: {name}", node[name], shape) if name in node else torch.zeros(shape)
        for name, shape in shapes.items()
    }
    for d, part in enumerate(directions):
        values = {"weight_ih": read["W"][d], "weight_hh": read["R"][d]}
        if "B" in read:
            values["bias_ih"], values["bias_hh"] = read["B"][d].chunk(2)
        if "P" in read:
            values["weight_ch"] = read["P"][d]
        for name, weight in part.weights.items():
            order, ours = PEEPHOLES[::-1] if name == "weight_ch" else (ORDERS[cell], cell.gates)
            yield weight, in_order(values[name], order, ours)
