"""Inference against ONNX Runtime's own LSTM, GRU and RNN: `python benchmarks/onnx_runtime.py --threads 2`.

Needs onnx and onnxruntime. Both give the same numbers first. They take turns as in `elman bench`, with a pause: both
have threads that wait actively for work, and disturb the other for a while.
"""

import argparse
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import elman
from elman.bench.layers import PAIRS, SHAPES, Shape, medians, parse
from elman.bench.run import geometric_mean, machine

OPERATOR = {"lstm": "LSTM", "gru": "GRU", "rnn-tanh": "RNN", "rnn-relu": "RNN"}


def session(cell: str, layer: nn.Module, shape: Shape, threads: int) -> Callable[[NDArray[np.float32]], object]:
    """The layer as a model of ONNX Runtime: x to outputs (T, B, H)."""
    [weights] = elman.weights.to_onnx(layer)
    options = {"linear_before_reset": 1} if cell == "gru" else {}
    if cell == "rnn-relu":
        options["activations"] = ["Relu"]
    node = helper.make_node(OPERATOR[cell], ["X", "W", "R", "B"], ["Y"], hidden_size=shape.H, **options)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [shape.T, shape.B, shape.D])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [shape.T, 1, shape.B, shape.H])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
    return lambda x: runtime.run(None, {"X": x})[0][:, 0]


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
            run = session(cell, ours, shape, given.threads)
            x = torch.randn(shape.T, shape.B, shape.D)
            array = x.numpy()
            with torch.no_grad():
                error = np.abs(ours(x)[0].numpy() - run(array)).max()
                if not error < 5e-5:
                    raise SystemExit(f"{cell} {shape}: the outputs differ by {error:.1e}")
                a, b, c = medians([lambda: ours(x), lambda: run(array), lambda: theirs(x)], given.seconds, pause=0.05)  # noqa: B023
            ratios.append(b / a)
            print(f"{cell:9} {shape!s:>18} {a * 1e3:9.2f} {b * 1e3:16.2f} {c * 1e3:12.2f} {b / a:6.2f}", flush=True)
    print(f"ONNX Runtime {onnxruntime.__version__} takes {geometric_mean(ratios):.2f} times as long (geometric mean), "
          f"at least {min(ratios):.2f}; {given.threads} threads; {machine()['cpu']}")  # fmt: skip


if __name__ == "__main__":
    main()
