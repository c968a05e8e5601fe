"""Permutations of the columns of rows."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch.fx import Node

from elman.engine.trace.values import line_of, set_line, set_shape, shape_of

aten = torch.ops.aten

MOST = 16  # pieces that columns are put together of


def reordered(node: Node, dims: Sequence[int]) -> Node:
    """Rows of a graph with their axes in another order, the batch in front.

    An outer product is the same operation on its factors, so that no column need be moved. What is made in no such way
    is cut in pieces; if these are too many, it is left to torch's `permute`, which no plan has room for.
    """
    shape = shape_of(node)
    new, long = [shape[dim] for dim in dims], [dim for dim in dims if shape[dim] != 1]
    if list(dims) == sorted(dims):
        return node
    if long == sorted(long):
        return _made(node, aten.reshape.default, (node, new), new)
    if node.target is aten.stack.default and (axis := _axis(node)):
        rest = [dim - (dim > axis) for dim in dims if dim != axis]
        pieces: Any = node.args[0]
        return _made(node, node.target, ([reordered(piece, rest) for piece in pieces], dims.index(axis)), new)
    if getattr(node.target, "tags", None) and torch.Tag.pointwise in node.target.tags:  # type: ignore[union-attr]
        args = [_operand(value, dims) if isinstance(value, Node) else value for value in node.args]
        return _made(node, node.target, tuple(args), new, node.kwargs)
    return _in_pieces(node, dims, new)


def _axis(node: Node) -> int:
    axis = node.args[1] if len(node.args) > 1 else 0
    assert isinstance(axis, int)
    return axis % len(shape_of(node))


def _operand(value: Node, dims: Sequence[int]) -> Node:
    """What a value with its axes in another order is computed from."""
    shape = shape_of(value)
    missing = len(dims) - len(shape)
    if missing:
        shape = (*[1] * missing, *shape)
        value = _made(value, aten.reshape.default, (value, list(shape)), shape)
    if shape[0] != 1:
        return reordered(value, dims)
    return _made(value, aten.permute.default, (value, list(dims)), [shape[dim] for dim in dims])


def _in_pieces(node: Node, dims: Sequence[int], new: Sequence[int]) -> Node:
    shape = shape_of(node)
    strides = [prod(shape[dim + 1 :]) for dim in dims[1:]]
    columns = [sum(at) for at in product(*(range(0, n * by, by) for n, by in zip(new[1:], strides, strict=True)))]
    begins = [n for n, column in enumerate(columns) if not n or column != columns[n - 1] + 1]
    if len(begins) > MOST:
        return _made(node, aten.permute.default, (node, list(dims)), new)
    flat = _made(node, aten.reshape.default, (node, [shape[0], len(columns)]), (shape[0], len(columns)))
    pieces = []
    for begin, end in zip(begins, [*begins[1:], len(columns)], strict=True):
        first = columns[begin]
        size = (shape[0], end - begin)
        pieces.append(_made(node, aten.slice.Tensor, (flat, 1, first, first + end - begin), size))
    joined = _made(node, aten.cat.default, (pieces, 1), (shape[0], len(columns)))
    return _made(node, aten.reshape.default, (joined, list(new)), new)


def _made(like: Node, target: Any, args: Any, shape: Sequence[int], kwargs: Any = None) -> Node:
    made = like.graph.call_function(target, args, dict(kwargs or {}))
    set_shape(made, tuple(shape))
    set_line(made, line_of(like))
    return made
