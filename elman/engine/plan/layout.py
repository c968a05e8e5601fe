"""Where the columns of a value come from: views, splits and concatenations copy nothing.

A row is all that a value has for one member of the batch, its numbers side by side, whatever its shape: (B, h, d) has
rows of h*d numbers.
"""

import operator
from collections.abc import Container, Iterator, Sequence
from enum import Enum
from math import prod

import torch
from torch.fx import Node

from elman.engine.trace.aten import SPLIT
from elman.engine.trace.values import shape_of

aten = torch.ops.aten

ITEM = {operator.getitem}
VIEW = {aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}


class Fit(Enum):
    """How an operand is matched with a value of `heads` times `width` columns that is made of it."""

    ALL = "column by column"
    HEAD = "a number for each head"
    COLUMN = "the same columns for every head"
    ONE = "a single number"


def operand(node: Node, index: int) -> Node:
    """An argument that is a value."""
    value = node.args[index]
    assert isinstance(value, Node)
    return value


def operation(node: Node) -> object:
    """What makes a value; of an item, what made all of them."""
    return operand(node, 0).target if node.target in ITEM else node.target


def row(node: Node) -> tuple[int, ...]:
    """The shape of a value without the batch."""
    shape: tuple[int, ...] = shape_of(node)
    return shape[1:]


def width(node: Node) -> int:
    """How many numbers a row of the value has."""
    return prod(row(node))


def fit(part: Sequence[int], whole: Sequence[int]) -> tuple[Fit, int, int] | None:
    """How a shape is broadcast to another, neither with the batch, and to how many heads of which width; or None."""
    part = [1] * (len(whole) - len(part)) + list(part)
    if prod(part) == prod(whole):
        return Fit.ALL, 1, prod(whole)
    if prod(part) == 1:
        return Fit.ONE, 1, prod(whole)
    for i in range(1, len(whole)):
        heads, size = prod(whole[:i]), prod(whole[i:])
        if list(part[:i]) == list(whole[:i]) and prod(part[i:]) == 1:
            return Fit.HEAD, heads, size
        if prod(part[:i]) == 1 and list(part[i:]) == list(whole[i:]):
            return Fit.COLUMN, heads, size
    return None


def within(found: tuple[Fit, int, int], start: int, size: int) -> tuple[int, int, Fit] | None:
    """What of an operand that is matched with a whole value goes with columns start .. start+size of it.

    Its first column, how many, and how these are matched; None if the columns are neither of one head nor whole heads.
    """
    how, _, each = found
    if how is Fit.ALL:
        return start, size, how
    if how is Fit.ONE:
        return 0, 1, how
    (head, first), (heads, rest) = divmod(start, each), divmod(size, each)
    if first + size <= each:
        return (first, size, Fit.ALL) if how is Fit.COLUMN else (head, 1, Fit.ONE)
    if first or rest:
        return None
    return (0, each, how) if how is Fit.COLUMN else (head, heads, how)


def reduced(node: Node) -> tuple[Fit, int, int] | None:
    """How the result of a reduction is matched with what is reduced, and the heads and the width of that; or None."""
    shape = shape_of(operand(node, 0))
    dims = {dim % len(shape) for dim in node.args[1]}  # type: ignore[union-attr,operator]
    return fit([1 if dim in dims else size for dim, size in enumerate(shape)][1:], shape[1:])


def _taken(node: Node) -> tuple[Node, int, int, int] | None:
    """The value that a slice is of; how many blocks it has, how long one is in numbers, and what of it is not taken."""
    if node.target in ITEM and operand(node, 0).target in SPLIT:
        pieces, index = operand(node, 0), node.args[1]
        assert isinstance(index, int)
        of, axis = operand(pieces, 0), _axis(pieces, 1 if pieces.target is aten.unbind.int else 2)
        if pieces.target is aten.unbind.int:
            begin = index
        else:
            sizes = pieces.args[1]
            begin = sizes * index if isinstance(sizes, int) else sum(sizes[:index])  # type: ignore[arg-type,index]
    elif node.target is aten.slice.Tensor and (len(node.args) < 5 or node.args[4] == 1):
        of, axis = operand(node, 0), _axis(node, 1)
        begin = _at(node.args[2] if len(node.args) > 2 else 0, of, axis)
    elif node.target is aten.select.int:
        of, axis = operand(node, 0), _axis(node, 1)
        begin = _at(node.args[2], of, axis)
    else:
        return None
    if axis == 0:
        return None
    shape = shape_of(of)
    return of, prod(shape[1:axis]), prod(shape[axis:]), begin * prod(shape[axis + 1 :])


def _axis(node: Node, index: int) -> int:
    axis = node.kwargs.get("dim", node.args[index] if len(node.args) > index else 0)
    of = node.args[0] if isinstance(node.args[0], Node) else node
    assert isinstance(axis, int)
    return axis % len(shape_of(of))


def _at(begin: object, of: Node, axis: int) -> int:
    size: int = shape_of(of)[axis]
    begin = begin or 0
    assert isinstance(begin, int)
    return max(begin + size, 0) if begin < 0 else begin


def _joined(node: Node) -> tuple[list[tuple[Node, int]], int] | None:
    """What a concatenation lays side by side, each with its numbers in a block, and how many blocks there are."""
    if node.target not in (aten.cat.default, aten.stack.default):
        return None
    values: list[Node] = list(node.args[0])  # type: ignore[arg-type]
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    assert isinstance(axis, int)
    axis %= len(shape_of(node))
    if axis == 0:
        return None
    blocks = prod(shape_of(node)[1:axis])
    return [(value, width(value) // blocks) for value in values if width(value)], blocks


def arranged(node: Node) -> bool:
    """Whether the value only arranges the numbers of others."""
    return node.target in VIEW or _taken(node) is not None or _joined(node) is not None


def inside(node: Node, start: int, size: int) -> Iterator[tuple[Node, int, int]]:
    """The values, each with its first column and their number, that columns start .. start+size of an arrangement are.

    What is no arrangement is itself.
    """
    if node.target in VIEW:
        yield operand(node, 0), start, size
    elif (taken := _taken(node)) is not None:
        of, blocks, block, skipped = taken
        mine = width(node) // blocks
        for k, first, count in in_blocks(start, size, mine):
            yield of, k * block + skipped + first, count
    elif (joined := _joined(node)) is not None:
        values, blocks = joined
        for k, first, count in in_blocks(start, size, width(node) // blocks):
            offset = 0
            for value, mine in values:
                begin, end = max(first, offset), min(first + count, offset + mine)
                if begin < end:
                    yield value, k * mine + begin - offset, end - begin
                offset += mine
    else:
        yield node, start, size


def in_blocks(start: int, size: int, block: int) -> Iterator[tuple[int, int, int]]:
    """Columns start .. start+size, cut where blocks end: the number of the block, the first column in it, how many."""
    end = start + size
    while start < end:
        k, first = divmod(start, block)
        count = min(block - first, end - start)
        yield k, first, count
        start += count


def source(node: Node, start: int, size: int, known: Container[Node] = ()) -> tuple[Node, int]:
    """The value, and its first column, that columns start .. start+size of `node` really are: itself, if `known`.

    Where they are of several values that do not lie side by side, it is the arrangement of these.
    """
    while node not in known and arranged(node):
        found = list(inside(node, start, size))
        first, begin, end = found[0][0], found[0][1], found[0][1]
        for value, at, count in found:
            if value is not first or at != end:
                return node, start
            end += count
        node, start = first, begin
    return node, start


def whole(node: Node) -> Node:
    """The value that has the same columns, under as many views as there may be."""
    real, _ = source(node, 0, width(node))
    return real if width(real) == width(node) else node
