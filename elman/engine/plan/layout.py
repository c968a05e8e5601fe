"""Resolves views, splits and concatenations to the columns that they show: none of them copies anything.

A row holds all numbers that a value has for one sequence of the batch, side by side, whatever its shape: a value of
shape (B, h, d) has rows of h * d numbers. Columns are positions in a row.
"""

import operator
from collections.abc import Container, Iterator, Sequence
from enum import Enum
from math import prod
from typing import NamedTuple

import torch
from torch.fx import Node

from elman.engine.trace.aten import SPLIT
from elman.engine.trace.values import shape_of

aten = torch.ops.aten

ITEM = {operator.getitem}
VIEW = {aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dim, aten.squeeze.dims}


class Broadcast(Enum):
    """The ways to broadcast an operand to rows of `heads` times `width` columns."""

    ELEMENTWISE = "one number per column"
    PER_HEAD = "one number per head"
    PER_COLUMN = "the same columns for every head"
    SCALAR = "a single number"


class BroadcastMatch(NamedTuple):
    """The broadcast of an operand to a value, with the heads and the width of the value's rows."""

    broadcast: Broadcast
    heads: int
    width: int


def operand(node: Node, index: int) -> Node:
    """Return an argument that is a value."""
    value = node.args[index]
    assert isinstance(value, Node)
    return value


def operation(node: Node) -> object:
    """Return the operation that computes a value; for an item of a tuple, the operation that computes the tuple."""
    return operand(node, 0).target if node.target in ITEM else node.target


def row_shape(node: Node) -> tuple[int, ...]:
    """Return the shape of a value without the batch axis."""
    shape: tuple[int, ...] = shape_of(node)
    return shape[1:]


def width(node: Node) -> int:
    """Return how many numbers a row of the value has."""
    return prod(row_shape(node))


def match_shapes(shape: Sequence[int], target: Sequence[int]) -> BroadcastMatch | None:
    """Match a shape with the one it is broadcast to, both without the batch axis; None if rows cannot be split so."""
    shape = [1] * (len(target) - len(shape)) + list(shape)
    if prod(shape) == prod(target):
        return BroadcastMatch(Broadcast.ELEMENTWISE, 1, prod(target))
    if prod(shape) == 1:
        return BroadcastMatch(Broadcast.SCALAR, 1, prod(target))
    for i in range(1, len(target)):
        heads, size = prod(target[:i]), prod(target[i:])
        if list(shape[:i]) == list(target[:i]) and prod(shape[i:]) == 1:
            return BroadcastMatch(Broadcast.PER_HEAD, heads, size)
        if prod(shape[:i]) == 1 and list(shape[i:]) == list(target[i:]):
            return BroadcastMatch(Broadcast.PER_COLUMN, heads, size)
    return None


def match_columns(match: BroadcastMatch, start: int, size: int) -> tuple[int, int, Broadcast] | None:
    """Find what columns start .. start+size of a value use of an operand that is broadcast to the whole value.

    Returns:
        The operand's first column, how many columns, and how these are broadcast; None if columns start .. start+size
        are neither within one head nor whole heads.
    """
    broadcast, _, head_width = match
    if broadcast is Broadcast.ELEMENTWISE:
        return start, size, broadcast
    if broadcast is Broadcast.SCALAR:
        return 0, 1, broadcast
    (head, first), (heads, rest) = divmod(start, head_width), divmod(size, head_width)
    if first + size <= head_width:
        if broadcast is Broadcast.PER_COLUMN:
            return first, size, Broadcast.ELEMENTWISE
        return head, 1, Broadcast.SCALAR
    if first or rest:
        return None
    return (0, head_width, broadcast) if broadcast is Broadcast.PER_COLUMN else (head, heads, broadcast)


def match_reduction(node: Node) -> BroadcastMatch | None:
    """Match the result of a reduction with its operand, to which it would be broadcast; None if that is impossible."""
    shape = shape_of(operand(node, 0))
    dims = {dim % len(shape) for dim in node.args[1]}  # type: ignore[union-attr,operator]
    return match_shapes([1 if dim in dims else size for dim, size in enumerate(shape)][1:], shape[1:])


def _slice_source(node: Node) -> tuple[Node, int, int, int] | None:
    """Return the value that a slice is taken of, its number of blocks, their width, and the columns skipped in each.

    The axes between the batch and the sliced axis number the blocks. None if `node` is no slice of columns.
    """
    if node.target in ITEM and operand(node, 0).target in SPLIT:
        split, index = operand(node, 0), node.args[1]
        assert isinstance(index, int)
        value, axis = operand(split, 0), _axis(split, 1 if split.target is aten.unbind.int else 2)
        if split.target is aten.unbind.int:
            begin = index
        else:
            sizes = split.args[1]
            begin = sizes * index if isinstance(sizes, int) else sum(sizes[:index])  # type: ignore[arg-type,index]
    elif node.target is aten.slice.Tensor and (len(node.args) < 5 or node.args[4] == 1):
        value, axis = operand(node, 0), _axis(node, 1)
        begin = _nonnegative_index(node.args[2] if len(node.args) > 2 else 0, value, axis)
    elif node.target is aten.select.int:
        value, axis = operand(node, 0), _axis(node, 1)
        begin = _nonnegative_index(node.args[2], value, axis)
    else:
        return None
    if axis == 0:
        return None
    shape = shape_of(value)
    return value, prod(shape[1:axis]), prod(shape[axis:]), begin * prod(shape[axis + 1 :])


def _axis(node: Node, index: int) -> int:
    axis = node.kwargs.get("dim", node.args[index] if len(node.args) > index else 0)
    value = node.args[0] if isinstance(node.args[0], Node) else node
    assert isinstance(axis, int)
    return axis % len(shape_of(value))


def _nonnegative_index(index: object, value: Node, axis: int) -> int:
    size: int = shape_of(value)[axis]
    index = index or 0
    assert isinstance(index, int)
    return max(index + size, 0) if index < 0 else index


def _concatenated(node: Node) -> tuple[list[tuple[Node, int]], int] | None:
    """Return the operands of a concatenation, each with its columns per block, and the number of blocks."""
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


def is_arrangement(node: Node) -> bool:
    """Return True if the value is a view, slice or concatenation of other values."""
    return node.target in VIEW or _slice_source(node) is not None or _concatenated(node) is not None


def source_columns(node: Node, start: int, size: int) -> Iterator[tuple[Node, int, int]]:
    """Yield the operands of an arrangement that its columns start .. start+size show: value, first column, count.

    A value that is no arrangement yields itself.
    """
    if node.target in VIEW:
        yield operand(node, 0), start, size
    elif (sliced := _slice_source(node)) is not None:
        value, blocks, block_width, skipped = sliced
        for k, first, count in split_at_blocks(start, size, width(node) // blocks):
            yield value, k * block_width + skipped + first, count
    elif (concatenated := _concatenated(node)) is not None:
        values, blocks = concatenated
        for k, first, count in split_at_blocks(start, size, width(node) // blocks):
            offset = 0
            for value, value_width in values:
                begin, end = max(first, offset), min(first + count, offset + value_width)
                if begin < end:
                    yield value, k * value_width + begin - offset, end - begin
                offset += value_width
    else:
        yield node, start, size


def split_at_blocks(start: int, size: int, block_width: int) -> Iterator[tuple[int, int, int]]:
    """Split columns start .. start+size where blocks end: the block, the first column in it, the count."""
    end = start + size
    while start < end:
        k, first = divmod(start, block_width)
        count = min(block_width - first, end - start)
        yield k, first, count
        start += count


def resolve(node: Node, start: int, size: int, known: Container[Node] = ()) -> tuple[Node, int]:
    """Follow arrangements to the value, and its first column, that columns start .. start+size of `node` show.

    Stops at `known` values, and at an arrangement where the columns are not side by side in one value.
    """
    while node not in known and is_arrangement(node):
        columns = list(source_columns(node, start, size))
        first, begin, end = columns[0][0], columns[0][1], columns[0][1]
        for value, column, count in columns:
            if value is not first or column != end:
                return node, start
            end += count
        node, start = first, begin
    return node, start


def resolve_whole(node: Node) -> Node:
    """Follow arrangements to the value that has all columns of `node` and no others."""
    value, _ = resolve(node, 0, width(node))
    return value if width(value) == width(node) else node
