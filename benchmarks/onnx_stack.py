"""Stacks of elman as ONNX models of the operators LSTM, GRU and RNN, and as sessions of ONNX Runtime.

Needs onnx and onnxruntime.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

import elman.weights

OPERATOR = {"lstm": "LSTM", "gru": "GRU", "rnn-tanh": "RNN", "rnn-relu": "RNN"}


def model_of(cell: str, layer: Any, T: int, B: int, with_states: bool = False) -> onnx.ModelProto:
    """A stack as an ONNX model.

    It takes "x" (T, B, D) and gives outputs (T, 1, B, H); with states, it takes those of each layer too, "h0", "c0",
    "h1", ..., (1, B, H) each, and gives the last of each behind the outputs. Without, they begin at zero.
    """
    H, last = layer.hidden_size, layer.num_layers - 1
    options: dict[str, Any] = {"linear_before_reset": 1} if cell == "gru" else {}
    if cell == "rnn-relu":
        options["activations"] = ["Relu"]
    names = ("h", "c")[: 2 if cell == "lstm" else 1] if with_states else ()
    nodes, below = [], "x"
    weights = [numpy_helper.from_array(np.array([1]), "axis")] if last else []
    inputs, outputs = [_tensor("x", [T, B, layer.input_size])], [_tensor("y", [T, 1, B, H])]
    for k, arrays in enumerate(elman.weights.to_onnx(layer)):
        weights += [numpy_helper.from_array(np.ascontiguousarray(a), f"{name}{k}") for name, a in arrays.items()]
        states, new = [f"{name}{k}" for name in names], [f"{name}{k}_new" for name in names]
        inputs += [_tensor(name, [1, B, H]) for name in states]
        outputs += [_tensor(name, [1, B, H]) for name in new]
        y = "y" if k == last else f"y{k}"
        given = [below, f"W{k}", f"R{k}", f"B{k}", "", *states]
        nodes.append(helper.make_node(OPERATOR[cell], given, [y, *new], hidden_size=H, **options))
        if k < last:
            below = f"x{k + 1}"
            nodes.append(helper.make_node("Squeeze", [y, "axis"], [below]))
    graph = helper.make_graph(nodes, "stack", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def session(
    cell: str, layer: Any, T: int, B: int, threads: int, with_states: bool = False
) -> Callable[[dict[str, Any]], list[NDArray[np.float32]]]:
    """A stack as a session of ONNX Runtime; inputs and outputs are those of `model_of`."""
    model = model_of(cell, layer, T, B, with_states)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
    return lambda feed: runtime.run(None, feed)


def _tensor(name: str, shape: list[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
