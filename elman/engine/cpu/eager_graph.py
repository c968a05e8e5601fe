"""Runs the part of a step that involves no rows, as a function in plain PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine.plan.domains import aten, unshaped, unturned
from elman.engine.plan.planner import Plan
from elman.engine.trace.values import shape_of


def recipe(
    given: Sequence[fx.Node], wanted: Sequence[fx.Node | None], dtype: torch.dtype
) -> Callable[..., list[Tensor | None]]:
    """The function that makes the wanted values of a step of those given, in a dtype, written out by torch.fx."""
    graph = fx.Graph()

    def real(value: Any) -> Any:
        return dtype if value is torch.float64 else value  # captured is in double precision

    known = {node: graph.placeholder(f"given{i}") for i, node in enumerate(given)}

    def copied(node: fx.Node) -> fx.Node:
        node, turned = unturned(node)
        if node not in known:
            known[node] = made = graph.node_copy(node, copied)
            made.args, made.kwargs = fx.node.map_aggregate((made.args, made.kwargs), real)
        return graph.call_function(aten.t.default, (known[node],)) if turned else known[node]

    graph.output([None if node is None else copied(node) for node in wanted])
    function: Callable[..., list[Tensor | None]] = fx.GraphModule(nn.Module(), graph).forward
    return function


class Gradients:
    """The gradients of a plan's parameters, from the sums over all rows.

    Most are such a sum, and need no more than its memory in the shape of the parameter; the others are worked out.
    """

    def __init__(self, plan: Plan, dtype: torch.dtype) -> None:
        of = {node: k for k, reduction in enumerate(plan.reductions) for node in reduction.nodes}
        sums = list(of)
        bases = [None if node is None else unshaped(node) for node in plan.d_parameters]
        self._direct = [None if base is None else of.get(base) for base in bases]
        others = [node if k is None else None for node, k in zip(plan.d_parameters, self._direct, strict=True)]
        self._given = [of[node] for node in sums]
        some = any(node is not None for node in others)
        self._others = recipe([*plan.parameters, *sums], others, dtype) if some else None
        self._parameters = [shape_of(parameter) for parameter in plan.parameters]
        #: of the memory that each sum goes to
        self.shapes = [torch.Size(shape_of(reduction.nodes[0])) for reduction in plan.reductions]
        if self._others is None:
            for k, shape in zip(self._direct, self._parameters, strict=True):
                if k is not None:
                    self.shapes[k] = torch.Size(shape)
        #: where every gradient is a sum, in the shape that its memory has: which sum, and whether one before it is
        self._sums: list[tuple[int, bool]] | None = None
        same = [k is not None and self.shapes[k] == of for k, of in zip(self._direct, self._parameters, strict=True)]
        if all(same):
            self._sums = [(k, k in self._direct[:i]) for i, k in enumerate(self._direct) if k is not None]

    def __call__(self, parameters: Sequence[Tensor], sums: Sequence[Tensor]) -> list[Tensor | None]:
        """One for each parameter, each with memory of its own: optimizers write into it."""
        if self._sums is not None:
            # Two biases that are only ever added have one gradient.
            return [sums[k].clone() if again else sums[k] for k, again in self._sums]
        found: list[Tensor | None] = [None for _ in parameters]
        if self._others is not None:
            made = self._others(*parameters, *(sums[k] for k in self._given))
            found = [value if value is None else value.to(p.dtype) for value, p in zip(made, parameters, strict=True)]
        taken: set[int] = set()
        for i, (k, shape) in enumerate(zip(self._direct, self._parameters, strict=True)):
            value = found[i] if k is None else sums[k]
            if value is None:
                continue
            value = value.clone() if value.data_ptr() in taken else value.contiguous()
            taken.add(value.data_ptr())
            found[i] = value if value.shape == shape else value.view(shape)
        return found
