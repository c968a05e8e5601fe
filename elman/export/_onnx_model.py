"""A model with layers of elman in it as a model of ONNX, by torch.onnx and our translation of the layers."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import torch
from onnx import ModelProto, NodeProto, helper
from onnxscript import evaluator, ir
from torch import Tensor, nn

from elman.engine.export.forward_step import CannotExport
from elman.engine.export.onnx_graph import INT64, OnnxGraph
from elman.engine.torch_private import tree_map
from elman.export._onnx_layer import LayerValues, add_layer
from elman.layers._export_form import exporting_as
from elman.layers._exported import exported_layer, layer_of

DOMAIN, LAYER = "elman", "Layer"  # the node that stands for a layer until its graph takes its place


class _Part(NamedTuple):
    """The graph of a layer, and the names of its inputs and its results."""

    graph: OnnxGraph
    inputs: list[str]
    results: list[str]


def whole_model(
    module: nn.Module,
    inputs: tuple[Any, ...],
    opset: int,
    dynamic_shapes: Any,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> ModelProto:
    """Return a model as a model of ONNX; the arguments are those of `elman.export.onnx`.

    Raises:
        CannotExport: for a layer that cannot be exported.
    """
    parts: dict[str, _Part] = {}
    numbers = count()

    def translate(
        layer: Any, x: Any, lengths: Any, states: Any, weights: Any, names: Any, single: Any, autocast: Any
    ) -> Any:
        """Add a node for a layer. Its weights are those of the layer itself."""
        del weights, names, single, autocast
        name = f"layer{next(numbers)}"
        parts[name] = part = _part(name, layer, x, lengths is not None, len(states))
        values = [x, *([] if lengths is None else [lengths]), *states]
        node = ir.Node(DOMAIN, LAYER, values, [ir.AttrString("part", name)], num_outputs=len(part.results))
        recorder: Any = evaluator.default()  # of torch.onnx
        recorder.nodes.append(node)
        return node.outputs

    if dynamic_shapes is None:
        dynamic_shapes = tuple(tree_map(_free_axes, value) for value in inputs)
    try:
        with exporting_as("reference"), _without_logs():
            program = torch.onnx.export(
                module, inputs, dynamo=True, opset_version=opset, dynamic_shapes=dynamic_shapes, verbose=False,
                custom_translation_table={exported_layer: translate}, input_names=input_names,
                output_names=output_names,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, CannotExport):
                raise cause from None
            cause = cause.__cause__
        raise
    assert program is not None
    model: ModelProto = program.model_proto
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.domain == DOMAIN:
            _insert(model, node, parts[node.attribute[0].s.decode()])
        else:
            model.graph.node.append(node)
    versions = [version for version in model.opset_import if version.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(versions)
    return model


@contextmanager
def _without_logs() -> Iterator[None]:
    """Show only errors of torch.onnx: it warns of packages that no layer needs, and of its own deprecated code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)  # one name, two axes
            yield
    finally:
        logger.setLevel(level)


def _free_axes(value: Any) -> Any:
    """All axes, but the last of three or more of numbers: the features."""
    if not isinstance(value, Tensor):
        return None
    has_features = value.is_floating_point() and value.dim() > 2
    return dict.fromkeys(range(value.dim() - has_features), torch.export.Dim.AUTO)


def _part(name: str, text: str, x: ir.Value, has_lengths: bool, states: int) -> _Part:
    """Build the graph of a layer, whose inputs are named by `name`."""
    layer = layer_of(text)
    shape = () if x.shape is None else x.shape.dims
    if len(shape) != 3 or not isinstance(shape[2], int):
        axes = " x ".join(map(str, shape))
        raise CannotExport(
            f"elman.export.onnx: {type(layer).__name__}: expected an input with axes of time and batch and a fixed "
            f"width, got {axes}; pass dynamic_shapes="
        )
    graph = OnnxGraph(f"{name}.")
    runs = layer._cell_runs(shape[2])
    names = [f"{name}.state{i}" for i in range(states)]
    lengths = graph.op("Cast", f"{name}.lengths", to=INT64) if has_lengths else None
    values: LayerValues = add_layer(graph, layer, runs, f"{name}.x", names or None, lengths)
    inputs = [f"{name}.x", *([f"{name}.lengths"] if has_lengths else []), *names]
    return _Part(graph, inputs, [*values.outputs.values(), *values.states])


def _insert(model: ModelProto, node: NodeProto, part: _Part) -> None:
    """Put the graph of a layer in place of its node."""
    pairs = [*zip(node.input, part.inputs, strict=True)]
    model.graph.node.extend(helper.make_node("Identity", [source], [name]) for source, name in pairs)
    model.graph.node.extend(part.graph.nodes)
    results = zip(part.results, node.output, strict=True)
    model.graph.node.extend(helper.make_node("Identity", [name], [result]) for name, result in results if result)
    model.graph.initializer.extend(part.graph.initializers.values())
