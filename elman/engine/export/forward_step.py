"""The forward part of a captured step with the values of its parameters: what exporters lower."""

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from elman.engine.compiled.eager_graph import build_function
from elman.engine.inputs import CellSpec
from elman.engine.module_state import has_hooks
from elman.engine.outputs import Form
from elman.engine.plan.captured import plan_cell
from elman.engine.plan.domains import Domain, ancestors, dependents, domain_of
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.engine.plan.planner import Plan
from elman.engine.trace.capture import Step
from elman.engine.trace.errors import CannotCapture, location_of


class CannotExport(ValueError):
    """A cell or a layer that a format cannot express; the message is one line."""


@dataclass(frozen=True)
class ForwardStep:
    """One step of a cell in evaluation.

    Every value has rows, (B, ...) with `step.batch` for B, unless it is in `constants`.

    Attributes:
        step: as captured. With an output that is not a state, the first of its states is that output.
        x: the node of the input (B, D).
        states: the nodes of the states (B, H) that the step reads.
        constants: the values that are made of parameters alone, computed, by the nodes that operations read.
        operations: the nodes to compute, in order.
        new_states: the nodes of the new states.
        output: the node of an output that is not a state, (B, width); None if the output is the first state.
        form: names and shapes of the parts of that output, side by side in its rows.
    """

    step: Step
    x: Node
    states: tuple[Node, ...]
    constants: dict[Node, Tensor]
    operations: tuple[Node, ...]
    new_states: tuple[Node, ...]
    output: Node | None
    form: Form

    @cached_property
    def before_loop(self) -> frozenset[Node]:
        """The operations that depend on no state, which may run for all steps at once."""
        looped = dependents(self.step, self.states)
        return frozenset(node for node in self.operations if node not in looped)


def forward_step(spec: CellSpec, dtype: torch.dtype, format: str, supported: Container[Any]) -> ForwardStep:
    """Capture a cell for a format.

    Args:
        spec: the cell and the values of its parameters.
        dtype: in which values made of parameters alone are computed.
        format: the name of the format, for messages.
        supported: the pointwise operations and reductions that the format has.

    Raises:
        CannotExport: for a cell that no plan holds, or with an operation that the format does not have.
    """
    plan, parameters = planned_step(spec, format, supported)
    return _forward_step(plan, [value.to(dtype) for value in parameters], dtype)


def planned_step(spec: CellSpec, format: str, supported: Container[Any]) -> tuple[Plan, list[Tensor]]:
    """Plan a cell for a format.

    Args:
        spec: the cell and the values of its parameters.
        format: the name of the format, for messages.
        supported: the pointwise operations and reductions that the format has.

    Returns:
        The plan, and the values of its parameters.

    Raises:
        CannotExport: as `forward_step`.
    """
    where = f"{spec.cell._get_name()} cannot be exported to {format}"
    if has_hooks(spec.cell):
        raise CannotExport(f"{where}: hooks are called at every step")
    parameters = {name: value.detach() for name, value in spec.parameters.items() if value.is_floating_point()}
    shapes = {name: value.shape for name, value in parameters.items()}

    def check(plan: Plan) -> None:
        if plan.step.draws:
            raise CannotCapture("random numbers, which the step draws in evaluation, too")
        for node in _forward_operations(plan.step):
            _check_operation(node, format, supported)

    try:
        plan = plan_cell(spec.cell, shapes, spec.input_size, spec.state_size, check)
    except CannotCapture as refusal:
        raise CannotExport(f"{where}: {refusal}") from None
    return plan, list(parameters.values())


def _forward_step(plan: Plan, parameters: list[Tensor], dtype: torch.dtype) -> ForwardStep:
    step, first = plan.step, int(bool(plan.step.output))
    inputs = plan.inputs
    new_states = _new_states(step)
    operations = _forward_operations(step)
    read = [*(value for node in operations for value in node.all_input_nodes), *new_states]
    weights = list(dict.fromkeys(node for node in read if domain_of(node) is Domain.WEIGHT))
    with torch.no_grad():
        values = build_function(plan.parameters, weights, dtype)(*parameters)
    constants = {node: value for node, value in zip(weights, values, strict=True) if value is not None}
    return ForwardStep(
        step, inputs[0], tuple(inputs[1 + first : 1 + step.states]), constants, tuple(operations), new_states[first:],
        new_states[0] if first else None, step.output,
    )  # fmt: skip


def _new_states(step: Step) -> tuple[Node, ...]:
    output: Any = next(iter(step.graph.find_nodes(op="output"))).args[0]
    return tuple(output[0])


def _forward_operations(step: Step) -> list[Node]:
    """The operations on rows that the new states are computed from."""
    needed = ancestors(_new_states(step))
    return [
        node
        for node in step.graph.nodes
        if node in needed and node.op == "call_function" and domain_of(node) is not Domain.WEIGHT
    ]


def _check_operation(node: Node, format: str, supported: Container[Any]) -> None:
    is_computed = node.target in POINTWISE or node.target in REDUCTIONS
    if is_computed and node.target not in supported:
        raise CannotCapture(f"{node.target}, which the format {format} does not have{location_of(node)}")
