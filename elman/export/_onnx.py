"""`onnx`: layers and models as ONNX files, and what runs these files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elman import __version__
from elman.export._formats import Runner
from elman.export._modules import evaluating, input_size_of, is_layer
from elman.extras import needs
from elman.io.files import write_whole
from elman.layers._layer import Layer

with needs("export", "elman.export.onnx"):
    import onnx as onnx_package
    from onnx import ModelProto, ValueInfoProto, helper

    from elman.engine.export.onnx_graph import INT64, OnnxGraph, value_info
    from elman.export._onnx_layer import add_layer, initial_values

OPSETS = range(18, 26)  # versions of the standard operators that can be written
OPSET = 20
WHERE = "elman.export.onnx"


def write(
    module: nn.Module,
    path: str | PathLike[str],
    inputs: Any = None,
    *,
    lengths: bool = False,
    state: bool = True,
    opset: int = OPSET,
) -> None:
    """Write a layer as an ONNX file.

    Cells that ONNX has an operator for (RNN, GRU, LSTM, with a reset before the product, with peepholes) become one
    node for each layer; any other cell becomes a `Scan` over its step. The axes of time and batch are free. The module
    is written as it computes in evaluation mode; its own mode does not change.

    The inputs of the file are "input" (T, B, D), or (B, T, D) with `batch_first`, the initial states by their names, in
    the shapes of the layer ("h", or "h" and "c" of an LSTM), and "lengths". Its outputs are "output", or
    "output_NAME" for each output by name, and the final states, "h_out" and "c_out".

    Args:
        module: a layer of elman with parameters of torch.float32.
        path: of the file, which ends with ".onnx".
        inputs: an example input, (T, B, D); needed only if the layer does not know the size of its input.
        lengths: the file takes the number of steps of each sequence, "lengths" (B,), int64. Zero is allowed. States
            stay after the end of a sequence, and outputs are zero there.
        state: the file takes the initial state. If False, it begins with zeros, or with the learned initial state.
        opset: the version of ONNX's operators, 18 to 25.

    Raises:
        ValueError: for a cell that is not a fixed graph of operations on rows, or for an opset, a path or a dtype that
            is not supported. Nothing is written.
        elman.errors.MissingPackage: without the packages of the extra "export".

    >>> import elman, tempfile
    >>> layer = elman.LSTM(3, 5, num_layers=2)
    >>> path = Path(tempfile.mkdtemp()) / "lstm.onnx"
    >>> elman.export.onnx(layer, path)
    >>> [node.op_type for node in onnx_package.load(path).graph.node if node.op_type == "LSTM"]
    ['LSTM', 'LSTM']
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"{WHERE}: path: expected a file name that ends with .onnx, got {path.name!r}")
    if opset not in OPSETS:
        raise ValueError(f"{WHERE}: opset: expected one of {OPSETS[0]} to {OPSETS[-1]}, got {opset!r}")
    if not is_layer(module):
        raise TypeError(f"{WHERE}: module: expected a layer of elman, got {type(module).__name__}")
    with torch.no_grad(), evaluating(module):
        model = layer_model(module, inputs, lengths, state, opset)
    onnx_package.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())


def layer_model(layer: Layer, inputs: Any, lengths: bool, state: bool, opset: int) -> ModelProto:
    """Return a layer as an ONNX model; the arguments are those of `write`."""
    name = type(layer).__name__
    if others := {str(value.dtype) for value in layer.parameters() if value.dtype != torch.float32}:
        raise ValueError(f"{WHERE}: {name}: expected parameters of torch.float32, got {min(others)}; call .float()")
    x = inputs[0] if isinstance(inputs, tuple | list) else inputs
    if x is not None:
        layer(x)  # lazy parameters, and the size of the state, are known from here on
    D = input_size_of(layer) if x is None else x.shape[-1]
    if D is None:
        raise ValueError(
            f"{WHERE}: {name}: expected an example input, since the layer knows no input size; pass inputs="
        )
    runs = layer._cell_runs(D)
    names, widths = runs[0].state_names, [len(value) for value in initial_values(layer, runs)]
    lead = layer._state_lead()
    states = [value_info(n, [*lead, "batch", width]) for n, width in zip(names, widths, strict=True)]
    axes: list[int | str | None] = ["batch", "time"] if layer.batch_first else ["time", "batch"]
    graph_inputs = [value_info("input", [*axes, D]), *(states if state else [])]
    if lengths:
        graph_inputs.append(value_info("lengths", ["batch"], INT64))
    graph = OnnxGraph()
    result = add_layer(graph, layer, runs, "input", names if state else None, "lengths" if lengths else None)
    outputs = []
    for output, shape in result.form:
        outputs.append((f"output_{output}" if output else "output", result.outputs[output], [*axes, *shape]))
    for state_name, value, width in zip(names, result.states, widths, strict=True):
        outputs.append((f"{state_name}_out", value, [*lead, "batch", width]))
    graph.nodes += [helper.make_node("Identity", [value], [output]) for output, value, _ in outputs]
    graph_outputs = [value_info(output, shape) for output, _, shape in outputs]
    return model_of(graph, name, graph_inputs, graph_outputs, opset)


def model_of(
    graph: OnnxGraph, name: str, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], opset: int
) -> ModelProto:
    """Return a graph as a model."""
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values()))
    version = helper.make_opsetid("", opset)
    return helper.make_model(
        proto, opset_imports=[version], ir_version=helper.find_min_ir_version_for([version]), producer_name="elman",
        producer_version=__version__,
    )  # fmt: skip


def load(path: Path, module: nn.Module) -> Runner:
    """Load a file in ONNX Runtime."""
    return _OnnxRunner(path, module)


class _OnnxRunner(Runner):
    def __init__(self, path: Path, module: nn.Module) -> None:
        with needs("export", "elman.export.check"):
            import onnxruntime
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]
        outputs = [value.name for value in self._session.get_outputs()]
        self.takes_lengths = "lengths" in self._inputs
        self._states = [name for name in self._inputs if f"{name}_out" in outputs] if is_layer(module) else []
        self.takes_state, self._time = bool(self._states), int(getattr(module, "batch_first", False))
        self._outputs = sum(name == "output" or name.startswith("output_") for name in outputs)

    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the file on NumPy arrays."""
        others = [name for name in self._inputs if name not in self._states and name != "lengths"]
        tensors = dict(zip(others, inputs, strict=True)) | dict(zip(self._states, state or (), strict=True))
        if self.takes_lengths:
            x = inputs[0]
            steps = torch.full((x.shape[1 - self._time],), x.shape[self._time])
            tensors["lengths"] = steps if lengths is None else lengths
        feed = {name: value.detach().contiguous().numpy() for name, value in tensors.items()}
        results = [torch.from_numpy(array) for array in self._session.run(None, feed)]
        return results[: self._outputs], results[self._outputs :]
