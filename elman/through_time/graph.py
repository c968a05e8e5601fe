"""Reading a captured step: which values belong to rows of the batch, which to the parameters; what is part of what."""

import operator
from collections.abc import Container, Iterator
from enum import Enum

import torch
from torch.fx import Node

from elman.through_time.capture import CannotCapture, Step

aten = torch.ops.aten

PRODUCT = {aten.mm.default, aten.addmm.default}
SPLIT = {aten.split.Tensor, aten.split_with_sizes.default, aten.unsafe_split.Tensor}
SLICE = {aten.slice.Tensor}
ITEM = {operator.getitem}
RESHAPED = {aten.view.default, aten.unsqueeze.default, aten.squeeze.dim}
SUM = {aten.sum.dim_IntList}
LAST = (-1, 1)  # the axis of a row (B, width) that its numbers lie on


class Domain(Enum):
    """What a value belongs to."""

    WEIGHT = "of the parameters alone"
    ROW = "a row for each member of the batch"
    TURNED = "rows, transposed"
    SUM = "summed over the rows"


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
        if node.op == "call_function":
            found[node] = _domain(node, {found[operand] for operand in node.all_input_nodes}, found)
            if found[node] is Domain.ROW:
                _check_rows(node, step.batch)
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
    shape = node.meta.get("shape")  # of a split, only its pieces have one
    if shape is not None and (not shape or shape[0] != batch):
        raise _mixing(node)
    if shape is not None and len(shape) != 2:
        raise CannotCapture(f"{node.target}, whose rows are no vectors (shape {shape}){node.meta.get('line', '')}")
    along = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 0) if node.target in SPLIT else -1
    if node.target is aten.cat.default:
        along = node.args[1] if len(node.args) > 1 else 0
    if along not in LAST:
        raise _mixing(node)


def _mixing(node: Node) -> CannotCapture:
    return CannotCapture(f"{node.target}, which mixes the rows of the batch{node.meta.get('line', '')}")


def operand(node: Node, index: int) -> Node:
    """An argument that is a value."""
    value = node.args[index]
    assert isinstance(value, Node)
    return value


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
        if inner.target in RESHAPED:
            node = operand(inner, 0)
        elif turned or inner is node:
            return node
        else:
            node = inner


def width(node: Node) -> int:
    """How many numbers a row of the value has."""
    size: int = node.meta["shape"][-1]
    return size


def biases(product: Node) -> list[Node]:
    """What is to be added to each row of a bare product, or to the sum of two."""
    if product.target is aten.addmm.default:
        return [operand(product, 0)]
    if product.target is aten.add.Tensor:
        return [bias for i in (0, 1) for bias in biases(operand(product, i))]
    return []


def parts(node: Node) -> Iterator[tuple[Node, int]]:
    """The values that a concatenation lays side by side, each with its first column; any other value is one part."""
    if node.target is not aten.cat.default:
        yield node, 0
        return
    start = 0
    for part in node.args[0]:  # type: ignore[union-attr]
        assert isinstance(part, Node)
        for inner, offset in parts(part):
            yield inner, start + offset
        start += width(part)


def source(node: Node, start: int, size: int, known: Container[Node] = ()) -> tuple[Node, int]:
    """The value, and its first column, that columns start .. start+size of `node` really are: itself, if `known`."""
    while node not in known:
        if node.target in ITEM and operand(node, 0).target in SPLIT:
            pieces, index = operand(node, 0), node.args[1]
            assert isinstance(index, int)
            sizes = pieces.args[1]
            start += sizes * index if isinstance(sizes, int) else sum(sizes[:index])  # type: ignore[arg-type,index]
            node = operand(pieces, 0)
        elif node.target in SLICE and node.args[1] in LAST:
            begin = node.args[2] if len(node.args) > 2 else 0
            assert isinstance(begin, int)
            start += begin + (width(operand(node, 0)) if begin < 0 else 0)
            node = operand(node, 0)
        elif node.target is aten.cat.default:
            around = [(p, o) for p, o in parts(node) if o <= start and start + size <= o + width(p)]
            if not around:
                break
            node, start = around[0][0], start - around[0][1]
        else:
            break
    return node, start
