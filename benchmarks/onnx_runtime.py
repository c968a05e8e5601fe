"""Inference against ONNX Runtime's own LSTM, GRU and RNN: `python benchmarks/onnx_runtime.py --threads 2`.

Needs onnx and onnxruntime. Both give the same numbers first. They take turns as in `elman bench`, with a pause: both
have threads that wait actively for work, and disturb the other for a while.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

import elman
import elman.weights
from elman.bench.layers import PAIRS, SHAPES, medians, parse
from elman.bench.run import geometric_mean, machine

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


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shapes", type=parse, default=SHAPES)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{'layer':9} {'T,B,D,H':>18} {'elman ms':>9} {'ONNX Runtime ms':>16} {'torch.nn ms':>12} {'ratio':>6}")
    ratios = []
    for cell, pair in PAIRS.items():
        for shape in given.shapes:
            torch.manual_seed(0)
            ours, theirs = pair.ours(shape.D, shape.H, executor="native"), pair.theirs(shape.D, shape.H)
            theirs.load_state_dict(ours.state_dict())
            run = session(cell, ours, shape.T, shape.B, given.threads)
            x = torch.randn(shape.T, shape.B, shape.D)
            feed = {"x": x.numpy()}
            with torch.no_grad():
                error = np.abs(ours(x)[0].numpy() - run(feed)[0][:, 0]).max()
                if not error < 5e-5:
                    raise SystemExit(f"{cell} {shape}: the outputs differ by {error:.1e}")
                a, b, c = medians([lambda: ours(x), lambda: run(feed), lambda: theirs(x)], given.seconds, pause=0.05)  # noqa: B023
            ratios.append(b / a)
            print(f"{cell:9} {shape!s:>18} {a * 1e3:9.2f} {b * 1e3:16.2f} {c * 1e3:12.2f} {b / a:6.2f}", flush=True)
    print(f"ONNX Runtime {onnxruntime.__version__} takes {geometric_mean(ratios):.2f} times as long (geometric mean), "
          f"at least {min(ratios):.2f}; {given.threads} threads; {machine()['cpu']}")  # fmt: skip


if __name__ == "__main__":
    main()
