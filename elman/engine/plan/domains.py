"""Infers which values of a step have rows, which consist of parameters, and which are sums over rows."""

from collections.abc import Iterable
from enum import Enum

import torch
from torch.fx import Node

from elman.engine.plan.layout import VIEW, BroadcastMatch, match_shapes, operand, operation
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.capture import Step
from elman.engine.trace.errors import CannotCapture, location_of
from elman.engine.trace.values import has_shape, shape_of, stored_domain

aten = torch.ops.aten

PRODUCT = {aten.mm.default, aten.addmm.default}
SUM = {aten.sum.dim_IntList}


class Domain(Enum):
    """What a value belongs to."""

    WEIGHT = "made of parameters alone"
    ROW = "one row for each sequence of the batch"
    TRANSPOSED = "rows, transposed"
    SUM = "summed over the rows"


def domain_of(node: Node) -> Domain:
    """Return the domain of a value of a step that is being planned.

    Raises:
        KeyError: if the planner has not set it yet.
    """
    domain = stored_domain(node)
    assert isinstance(domain, Domain)
    return domain


def infer_domains(step: Step) -> dict[Node, Domain]:
    """Infer the domain of every value of a step.

    Raises:
        CannotCapture: if a row depends on other rows.
    """
    domains: dict[Node, Domain] = {}
    inputs = [*step.graph.find_nodes(op="placeholder")]
    first, last = 1 + step.states, 1 + step.states + len(step.parameters)
    for i, node in enumerate(inputs):
        domains[node] = Domain.WEIGHT if first <= i < last else Domain.ROW
    for node in step.graph.nodes:
        if node.target is CONSTANT:
            domains[node] = Domain.ROW if shape_of(node)[:1] == (step.batch,) else Domain.WEIGHT
        elif node.op == "call_function":
            # Constants go with every domain: they count only where all operands are constants.
            inputs = node.all_input_nodes
            variables = {domains[value] for value in inputs if value.target is not CONSTANT}
            domains[node] = _infer_domain(node, variables or {domains[value] for value in inputs}, domains)
            if domains[node] is Domain.ROW:
                _check_rows(node, step.batch)
    for node in step.graph.find_nodes(op="call_function", target=CONSTANT):
        # The size of a constant that no row uses equals that of the batch by chance.
        if all(domains.get(user) in (Domain.WEIGHT, Domain.SUM) for user in node.users):
            domains[node] = Domain.WEIGHT
    return domains


def _infer_domain(node: Node, operand_domains: set[Domain], domains: dict[Node, Domain]) -> Domain:
    if operand_domains <= {Domain.WEIGHT}:
        return Domain.WEIGHT
    if operand_domains <= {Domain.WEIGHT, Domain.SUM}:
        return Domain.SUM
    if node.target is aten.t.default:
        return {Domain.ROW: Domain.TRANSPOSED, Domain.TRANSPOSED: Domain.ROW}[domains[operand(node, 0)]]
    if node.target is aten.mm.default:
        left, right = (domains[operand(node, i)] for i in (0, 1))
        if (left, right) == (Domain.TRANSPOSED, Domain.ROW):
            return Domain.SUM
    if node.target in SUM and node.args[1] == [0] and operand_domains == {Domain.ROW}:
        return Domain.SUM
    if Domain.TRANSPOSED in operand_domains or Domain.SUM in operand_domains:
        raise _row_mixing_error(node)
    return Domain.ROW


def _check_rows(node: Node, batch: int) -> None:
    """Raise CannotCapture unless each row of the value is computed from the same row of its operands."""
    shape = shape_of(node) if has_shape(node) else None  # a split has no shape, only its items have one
    if shape is not None and (not shape or shape[0] != batch or batch in shape[1:]):
        raise _row_mixing_error(node)


def _row_mixing_error(node: Node) -> CannotCapture:
    return CannotCapture(f"{operation(node)}, which mixes the rows of the batch{location_of(node)}")


def strip_transposes(node: Node) -> tuple[Node, bool]:
    """Return the value below all transposes, and whether together they transpose it."""
    transposed = False
    while node.target is aten.t.default:
        node, transposed = operand(node, 0), not transposed
    return node, transposed


def strip_views(node: Node) -> Node:
    """Return the value below all views and pairs of transposes: the same numbers in the same order, another shape."""
    while True:
        inner, transposed = strip_transposes(node)
        if inner.target in VIEW:
            node = operand(inner, 0)
        elif transposed or inner is node:
            return node
        else:
            node = inner


def biases(product: Node) -> list[Node]:
    """Return what must be added to each row of a product stored without its bias, or to the sum of two products."""
    if product.target is aten.addmm.default:
        return [operand(product, 0)]
    if product.target is aten.add.Tensor:
        return [bias for i in (0, 1) for bias in biases(operand(product, i))]
    return []


def match_operand(node: Node, value: Node) -> BroadcastMatch | None:
    """Match an operand with the value that is computed from it; None if their shapes cannot be matched."""
    shape, target = shape_of(value), shape_of(node)
    if domain_of(value) is not Domain.WEIGHT or len(shape) == len(target):
        shape = shape[1:]
    return match_shapes(shape, target[1:])


def dependents(step: Step, values: Iterable[Node]) -> set[Node]:
    """Return these values and all that are computed from any of them."""
    reached = set(values)
    for node in step.graph.nodes:
        if node.op == "call_function" and any(value in reached for value in node.all_input_nodes):
            reached.add(node)
    return reached


def ancestors(nodes: Iterable[Node | None]) -> set[Node]:
    """Return these values and all that they are computed from."""
    reached: set[Node] = set()
    pending = [node for node in nodes if node is not None]
    while pending:
        node = pending.pop()
        if node not in reached:
            reached.add(node)
            pending += node.all_input_nodes
    return reached
