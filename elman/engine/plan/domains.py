"""Which values of a step have rows of the batch, which are made of parameters, which are sums over rows."""

from collections.abc import Iterable
from enum import Enum

import torch
from torch.fx import Node

from elman.engine.plan.layout import VIEW, Fit, fit, operand, operation
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.capture import Step
from elman.engine.trace.errors import CannotCapture, place_of
from elman.engine.trace.values import has_shape, shape_of, stored_domain

aten = torch.ops.aten

PRODUCT = {aten.mm.default, aten.addmm.default}
SUM = {aten.sum.dim_IntList}


class Domain(Enum):
    """What a value belongs to."""

    WEIGHT = "of the parameters alone"
    ROW = "a row for each member of the batch"
    TURNED = "rows, transposed"
    SUM = "summed over the rows"


def domain_of(node: Node) -> Domain:
    """The domain of a value of a step that is being planned.

    Raises:
        KeyError: before `domains` has been asked of the step.
    """
    domain = stored_domain(node)
    assert isinstance(domain, Domain)
    return domain


def domains(step: Step) -> dict[Node, Domain]:
    """The domain of every value of a step.

    Raises:
        CannotCapture: if a row comes to depend on other rows.
    """
    found: dict[Node, Domain] = {}
    inputs = [*step.graph.find_nodes(op="placeholder")]
    first, last = 1 + step.states, 1 + step.states + len(step.parameters)
    for i, node in enumerate(inputs):
        found[node] = Domain.WEIGHT if first <= i < last else Domain.ROW
    for node in step.graph.nodes:
        if node.target is CONSTANT:
            found[node] = Domain.ROW if shape_of(node)[:1] == (step.batch,) else Domain.WEIGHT
        elif node.op == "call_function":
            # A constant goes with everything.
            inputs = node.all_input_nodes
            of = {found[value] for value in inputs if value.target is not CONSTANT} or {found[v] for v in inputs}
            found[node] = _domain(node, of, found)
            if found[node] is Domain.ROW:
                _check_rows(node, step.batch)
    for node in step.graph.find_nodes(op="call_function", target=CONSTANT):
        if all(found.get(user) in (Domain.WEIGHT, Domain.SUM) for user in node.users):
            found[node] = Domain.WEIGHT  # whose size was that of the batch by chance
    return found


def _domain(node: Node, of: set[Domain], found: dict[Node, Domain]) -> Domain:
    if of <= {Domain.WEIGHT}:
        return Domain.WEIGHT
    if of <= {Domain.WEIGHT, Domain.SUM}:
        return Domain.SUM
    if node.target is aten.t.default:
        return {Domain.ROW: Domain.TURNED, Domain.TURNED: Domain.ROW}[found[operand(node, 0)]]
    if node.target is aten.mm.default and [found[operand(node, i)] for i in (0, 1)] == [Domain.TURNED, Domain.ROW]:
        return Domain.SUM
    if node.target in SUM and node.args[1] == [0] and of == {Domain.ROW}:
        return Domain.SUM
    if Domain.TURNED in of or Domain.SUM in of:
        raise _mixing(node)
    return Domain.ROW


def _check_rows(node: Node, batch: int) -> None:
    """Raise CannotCapture unless each row of the value comes from the same rows of its operands."""
    shape = shape_of(node) if has_shape(node) else None  # of a split, only its pieces have one
    if shape is not None and (not shape or shape[0] != batch or batch in shape[1:]):
        raise _mixing(node)


def _mixing(node: Node) -> CannotCapture:
    return CannotCapture(f"{operation(node)}, which mixes the rows of the batch{place_of(node)}")


def unturned(node: Node) -> tuple[Node, bool]:
    """What is left of a value without its transposes, and whether these turn it."""
    turned = False
    while node.target is aten.t.default:
        node, turned = operand(node, 0), not turned
    return node, turned


def unshaped(node: Node) -> Node:
    """The value whose numbers, in the same order, a value is made of: another shape is all that was given to it."""
    while True:
        inner, turned = unturned(node)
        if inner.target in VIEW:
            node = operand(inner, 0)
        elif turned or inner is node:
            return node
        else:
            node = inner


def biases(product: Node) -> list[Node]:
    """What is to be added to each row of a bare product, or to the sum of two."""
    if product.target is aten.addmm.default:
        return [operand(product, 0)]
    if product.target is aten.add.Tensor:
        return [bias for i in (0, 1) for bias in biases(operand(product, i))]
    return []


def matching(node: Node, value: Node) -> tuple[Fit, int, int] | None:
    """How a value is matched with one made of it."""
    shape, whole = shape_of(value), shape_of(node)
    if domain_of(value) is not Domain.WEIGHT or len(shape) == len(whole):
        shape = shape[1:]
    return fit(shape, whole[1:])


def depends(step: Step, on: Iterable[Node]) -> set[Node]:
    """These values, and all that is made of any of them."""
    found = set(on)
    for node in step.graph.nodes:
        if node.op == "call_function" and any(value in found for value in node.all_input_nodes):
            found.add(node)
    return found


def ancestors(nodes: Iterable[Node | None]) -> set[Node]:
    """These values, and all that they are made of."""
    found: set[Node] = set()
    todo = [node for node in nodes if node is not None]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.all_input_nodes
    return found
