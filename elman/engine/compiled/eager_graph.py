"""Runs the part of a step that involves no rows, as a function in plain PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine.plan.domains import aten, strip_transposes, strip_views
from elman.engine.plan.planner import Plan
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.values import shape_of


def build_function(
    inputs: Sequence[fx.Node], outputs: Sequence[fx.Node | None], dtype: torch.dtype, device: str = "cpu"
) -> Callable[..., list[Tensor | None]]:
    """Build the function that computes values of a step from others, in a dtype and on a kind of device."""
    graph = fx.Graph()

    def convert_dtype(value: Any) -> Any:
        return dtype if value is torch.float64 else value  # steps are captured in double precision

    copies = {node: graph.placeholder(f"input{i}") for i, node in enumerate(inputs)}

    def copy(node: fx.Node) -> fx.Node:
        node, transposed = strip_transposes(node)
        if node not in copies:
            copies[node] = new = graph.node_copy(node, copy)
            new.args, new.kwargs = fx.node.map_aggregate((new.args, new.kwargs), convert_dtype)
            if node.target is CONSTANT and device != "cpu":
                new.kwargs = {**new.kwargs, "device": device}
        return graph.call_function(aten.t.default, (copies[node],)) if transposed else copies[node]

    graph.output([None if node is None else copy(node) for node in outputs])
    function: Callable[..., list[Tensor | None]] = fx.GraphModule(nn.Module(), graph).forward
    return function


def find_parts(
    inputs: Sequence[fx.Node], values: Sequence[fx.Node], dtype: torch.dtype
) -> dict[fx.Node, tuple[int, int]]:
    """Find the values of a step that are contiguous parts of an input.

    Args:
        inputs: of the function that computes the values.
        values: to look at.
        dtype: of the inputs.

    Returns:
        Of each such value, the index of the input, and the element at which it begins.
    """
    examples = [torch.empty(shape_of(node), dtype=dtype, device="cpu") for node in inputs]
    with torch.no_grad():
        results = build_function(inputs, values, dtype)(*examples)
    owners = {example.untyped_storage().data_ptr(): i for i, example in enumerate(examples) if example.numel()}
    parts = {}
    for node, value in zip(values, results, strict=True):
        assert value is not None
        owner = owners.get(value.untyped_storage().data_ptr())
        if owner is not None and value.dtype == dtype and value.is_contiguous():
            parts[node] = owner, int(value.storage_offset())
    return parts


class Gradients:
    """Computes the gradients of a plan's parameters from the sums over all rows.

    Most gradients are such a sum: its memory in the shape of the parameter. The others are computed from several
    values.

    Attributes:
        shapes: of the memory for each sum.
    """

    def __init__(self, plan: Plan, dtype: torch.dtype, device: str = "cpu") -> None:
        sum_index = {node: k for k, reduction in enumerate(plan.reductions) for node in reduction.nodes}
        bases = [None if node is None else strip_views(node) for node in plan.d_parameters]
        # For each parameter, the sum that is its gradient, or None.
        self._direct = [None if base is None else sum_index.get(base) for base in bases]
        computed = [node if k is None else None for node, k in zip(plan.d_parameters, self._direct, strict=True)]
        self._sum_inputs = list(sum_index.values())
        inputs = [*plan.parameters, *sum_index]
        needs_function = any(node is not None for node in computed)
        self._function = build_function(inputs, computed, dtype, device) if needs_function else None
        self._parameter_shapes = [shape_of(parameter) for parameter in plan.parameters]
        self.shapes = [torch.Size(shape_of(reduction.nodes[0])) for reduction in plan.reductions]
        if self._function is None:
            for k, shape in zip(self._direct, self._parameter_shapes, strict=True):
                if k is not None:
                    self.shapes[k] = torch.Size(shape)
        # If every gradient is a sum in the shape of its memory: which sum, and whether an earlier parameter has it too.
        self._sums: list[tuple[int, bool]] | None = None
        pairs = zip(self._direct, self._parameter_shapes, strict=True)
        if all(k is not None and self.shapes[k] == shape for k, shape in pairs):
            self._sums = [(k, k in self._direct[:i]) for i, k in enumerate(self._direct) if k is not None]

    def __call__(self, parameters: Sequence[Tensor], sums: Sequence[Tensor]) -> list[Tensor | None]:
        """Return a gradient for each parameter, each with memory of its own, for optimizers write into it."""
        if self._sums is not None:
            # Two biases that are only ever added have the same gradient.
            return [sums[k].clone() if is_shared else sums[k] for k, is_shared in self._sums]
        gradients: list[Tensor | None] = [None for _ in parameters]
        if self._function is not None:
            values = self._function(*parameters, *(sums[k] for k in self._sum_inputs))
            gradients = [v if v is None else v.to(p.dtype) for v, p in zip(values, parameters, strict=True)]
        addresses: set[int] = set()
        for i, (k, shape) in enumerate(zip(self._direct, self._parameter_shapes, strict=True)):
            value = gradients[i] if k is None else sums[k]
            if value is None:
                continue
            value = value.clone() if value.data_ptr() in addresses else value.contiguous()
            addresses.add(value.data_ptr())
            gradients[i] = value if value.shape == shape else value.view(shape)
        return gradients
