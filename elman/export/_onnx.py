"""`onnx`: layers and models as ONNX files, and what runs these files."""

import json
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
    from onnx import ModelProto, helper

    from elman.engine.export.onnx_graph import INT64, OnnxGraph, value_info
    from elman.export._onnx_layer import add_layer, initial_values
    from elman.export._onnx_model import whole_model

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
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> None:
    """Write a layer, or a model with layers of elman in it, as an ONNX file.

    A layer whose cell ONNX has an operator for (RNN, GRU, LSTM, with a reset before the product, with peepholes)
    becomes one node; any other becomes a `Scan` over its step for each direction. The axes of time and batch are free.
    The module is written as it computes in evaluation mode; its own mode does not change.

    The inputs of a layer's file are "input" (T, B, D), or (B, T, D) with `batch_first`; the initial states by their
    names, in the shapes of the layer ("h", or "h" and "c" of an LSTM); and "lengths". Its outputs are "output", or
    "output_NAME" for each output by name, and the final states, "h_out" and "c_out". A learned initial state is the
    metadata "initial_state" of the file, as JSON.

    A model is written by torch.onnx, which translates everything around the layers. Its inputs and outputs are those of
    its `forward`.

    Args:
        module: a layer or a model, with parameters of torch.float32.
        path: of the file, which ends with ".onnx".
        inputs: example inputs, a tensor or a tuple of tensors, with every free axis longer than 1. Needed for a model,
            and for a layer that does not know the size of its input.
        lengths: of a layer: the file takes the number of steps of each sequence, "lengths" (B,), int64. Zero is
            allowed. States stay after the end of a sequence, and outputs are zero there.
        state: of a layer: the file takes the initial state. If False, it begins with zeros, or with the learned initial
            state.
        opset: the version of ONNX's operators, 18 to 25.
        dynamic_shapes: of a model: the free axes, as for torch.export. None: all that can be free, but for the last of
            three or more axes of floating-point numbers, which are features.
        input_names: of a model: the names of the file's inputs.
        output_names: of a model: the names of the file's outputs.

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
    check_dtypes(module)
    with torch.no_grad(), evaluating(module):
        if is_layer(module):
            model = _layer_model(module, inputs, lengths, state, opset)
        else:
            if inputs is None:
                raise ValueError(f"{WHERE}: {type(module).__name__}: expected example inputs; pass inputs=")
            examples = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
            model = whole_model(module, examples, opset, dynamic_shapes, input_names, output_names)
    onnx_package.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())


def check_dtypes(module: nn.Module) -> None:
    """Raise ValueError unless all floating-point parameters are of torch.float32."""
    dtypes = (value.dtype for value in module.parameters() if value.is_floating_point())
    if others := {str(dtype) for dtype in dtypes if dtype != torch.float32}:
        where = f"{WHERE}: {type(module).__name__}"
        raise ValueError(f"{where}: expected parameters of torch.float32, got {min(others)}; call module.float()")


def _layer_model(layer: Layer, inputs: Any, lengths: bool, state: bool, opset: int) -> ModelProto:
    """Return a layer as an ONNX model; the arguments are those of `write`."""
    name = type(layer).__name__
    x = inputs[0] if isinstance(inputs, tuple | list) else inputs
    if x is not None:
        layer(x)  # lazy parameters, and the size of the state, are known from here on
    D = input_size_of(layer) if x is None else x.shape[-1]
    if D is None:
        raise ValueError(f"{WHERE}: {name}: expected an example input, as its size is not known; pass inputs=")
    runs, lead = layer._cell_runs(D), layer._state_lead()
    names, widths = runs[0].state_names, [len(value) for value in initial_values(layer, runs)]
    axes: list[int | str | None] = ["batch", "time"] if layer.batch_first else ["time", "batch"]
    graph = OnnxGraph()
    rows = graph.op("Transpose", "input", perm=[1, 0, 2]) if layer.batch_first else "input"
    values = add_layer(graph, layer, runs, rows, names if state else None, "lengths" if lengths else None)
    results = list[tuple[str, str, list[int | str | None]]]()
    for output, shape in values.form:
        value = values.outputs[output]
        if layer.batch_first:
            value = graph.op("Transpose", value, perm=[1, 0, *range(2, 2 + len(shape))])
        results.append((f"output_{output}" if output else "output", value, [*axes, *shape]))
    states: dict[str, list[int | str | None]] = {
        name: [*lead, "batch", width] for name, width in zip(names, widths, strict=True)
    }
    results += [(f"{name}_out", value, states[name]) for name, value in zip(names, values.states, strict=True)]
    graph.nodes += [helper.make_node("Identity", [value], [result]) for result, value, _ in results]
    graph_inputs = [value_info("input", [*axes, D])]
    graph_inputs += [value_info(name, shape) for name, shape in states.items() if state]
    graph_inputs += [value_info("lengths", ["batch"], INT64)] if lengths else []
    graph_outputs = [value_info(result, shape) for result, _, shape in results]
    proto = helper.make_graph(graph.nodes, name, graph_inputs, graph_outputs, list(graph.initializers.values()))
    version = helper.make_opsetid("", opset)
    model = helper.make_model(
        proto, opset_imports=[version], ir_version=helper.find_min_ir_version_for([version]), producer_name="elman",
        producer_version=__version__,
    )  # fmt: skip
    if getattr(layer, "initial_state", None) is not None:
        learned = {name: value.tolist() for name, value in zip(names, initial_values(layer, runs), strict=True)}
        helper.set_model_props(model, {"initial_state": json.dumps(learned)})
    return model


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
        is_model = not is_layer(module)
        self.takes_lengths = "lengths" in self._inputs and not is_model
        self._states = [name for name in self._inputs if f"{name}_out" in outputs and not is_model]
        self.takes_state, self.time = bool(self._states), int(getattr(module, "batch_first", False))
        self._outputs = sum(is_model or name.startswith("output") for name in outputs)

    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the file on NumPy arrays."""
        others = [
            name for name in self._inputs if not (name in self._states or (name == "lengths" and self.takes_lengths))
        ]
        tensors = dict(zip(others, inputs, strict=True)) | dict(zip(self._states, state or (), strict=True))
        if self.takes_lengths:
            x = inputs[0]
            steps = torch.full((x.shape[1 - self.time],), x.shape[self.time])
            tensors["lengths"] = steps if lengths is None else lengths
        feed = {name: value.detach().contiguous().numpy() for name, value in tensors.items()}
        results = [torch.from_numpy(array) for array in self._session.run(None, feed)]
        return results[: self._outputs], results[self._outputs :]
