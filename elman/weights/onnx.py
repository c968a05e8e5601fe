"""Weights in the order of ONNX."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from elman import cells
from elman.cells._cell import Cell
from elman.layers import Stack
from elman.weights._computed import Weight
from elman.weights._parts import Array, WeightPart, reorder_gates, set_weights, split_layer, to_array, to_tensor

GATE_ORDERS: dict[type[Cell], str] = {
    cells.RNN: "a",
    cells.GRU: "zrn",
    cells.ResetBeforeGRU: "zrn",
    cells.LSTM: "iofg",
    cells.PeepholeLSTM: "iofg",
}
PEEPHOLE_ORDERS = "ifo", "iof"  # of `PeepholeLSTM`, and of ONNX


def to_onnx(layer: Stack | nn.RNNBase) -> list[dict[str, Array]]:
    """Return the weights of a layer in the layout of the ONNX nodes RNN, GRU and LSTM.

    ONNX stacks the gates of an LSTM in the order i, o, f, g (which it calls c), those of a GRU as z, r, n (h). A node
    is one layer with one or two directions. The GRU of torch.nn is the node with `linear_before_reset=1`, and
    `ResetBeforeGRU` is the node with 0, the default. (onnx.ai/onnx/operators)

    Args:
        layer: `elman.RNN`, `GRU`, `LSTM`, a `Stack` of their cells or of `ResetBeforeGRU` or `PeepholeLSTM`; or
            one of torch.nn.

    Returns:
        For each layer the inputs of its node, by the names of ONNX: W (directions, G*H, D), R (directions, G*H, H);
        with biases B (directions, 2*G*H), with peepholes P (directions, 3*H).

    Raises:
        TypeError: for a layer that ONNX does not have.
        ValueError: for a layer with projections.

    >>> import elman
    >>> [node] = to_onnx(elman.LSTM(3, 5))
    >>> {name: array.shape for name, array in node.items()}
    {'W': (1, 20, 3), 'R': (1, 20, 5), 'B': (1, 40)}
    """
    cell, layers = split_layer("to_onnx", layer, GATE_ORDERS)
    nodes = ([_to_node_inputs(cell, part) for part in directions] for directions in layers)
    return [{name: to_array(torch.stack([inputs[name] for inputs in node])) for name in node[0]} for node in nodes]


def from_onnx(layer: Stack | nn.RNNBase, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Fill a layer with the weights of ONNX nodes.

    Args:
        layer: as for `to_onnx`, with the same sizes and directions.
        nodes: in the format of `to_onnx`, one for each layer. If B or P is missing, it is zero, as in ONNX.

    Raises:
        TypeError: for a layer that ONNX does not have.
        ValueError: for arrays that do not fit the layer; for a weight that is computed (pruned, normalized,
            parametrized) and cannot take the values. The layer is then unchanged.

    >>> import elman
    >>> layer, other = elman.GRU(3, 5, num_layers=2), elman.GRU(3, 5, num_layers=2)
    >>> from_onnx(other, to_onnx(layer))
    >>> torch.equal(layer.bias_hh_l1, other.bias_hh_l1)
    True
    """
    cell, layers = split_layer("from_onnx", layer, GATE_ORDERS)
    if len(nodes) != len(layers) or not all(isinstance(node, Mapping) for node in nodes):
        types = ", ".join(type(node).__name__ for node in nodes) or "none"
        raise ValueError(f"from_onnx: nodes: expected {len(layers)} dictionaries, one for each layer; got {types}")
    new_values = list[tuple[Weight, Tensor]]()
    for k, (directions, node) in enumerate(zip(layers, nodes, strict=True)):
        new_values += _from_node_inputs(cell, f"from_onnx: layer {k}", directions, node)
    set_weights("from_onnx", new_values)


def node_inputs(cell: type[Cell], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of one direction in the layout of ONNX, by the names of ONNX.

    Args:
        cell: one of `GATE_ORDERS`.
        weights: by the names of the cell's parameters.
    """
    values = {
        name: reorder_gates(value, *(PEEPHOLE_ORDERS if name == "weight_ch" else (cell.gates, GATE_ORDERS[cell])))
        for name, value in weights.items()
    }
    inputs = {"W": values["weight_ih"], "R": values["weight_hh"]}
    if "bias_ih" in values:
        inputs["B"] = torch.cat([values["bias_ih"], values["bias_hh"]])
    return inputs | ({"P": values["weight_ch"]} if "weight_ch" in values else {})


def _to_node_inputs(cell: type[Cell], part: WeightPart) -> dict[str, Tensor]:
    return node_inputs(cell, {name: weight.value() for name, weight in part.weights.items()})


def _from_node_inputs(
    cell: type[Cell], location: str, directions: Sequence[WeightPart], node: Mapping[str, Any]
) -> Iterator[tuple[Weight, Tensor]]:
    shapes = {name: (len(directions), *value.shape) for name, value in _to_node_inputs(cell, directions[0]).items()}
    if not {"W", "R"} <= set(node) <= set(shapes):
        raise ValueError(f"{location}: expected {', '.join(shapes)}; got {', '.join(map(str, node)) or 'nothing'}")
    inputs = {
        name: to_tensor(f"{location}: {name}", node[name], shape) if name in node else torch.zeros(shape)
        for name, shape in shapes.items()
    }
    for d, part in enumerate(directions):
        values = {"weight_ih": inputs["W"][d], "weight_hh": inputs["R"][d]}
        if "B" in inputs:
            values["bias_ih"], values["bias_hh"] = inputs["B"][d].chunk(2)
        if "P" in inputs:
            values["weight_ch"] = inputs["P"][d]
        for name, weight in part.weights.items():
            orders = PEEPHOLE_ORDERS[::-1] if name == "weight_ch" else (GATE_ORDERS[cell], cell.gates)
            yield weight, reorder_gates(values[name], *orders)
