"""Permutes the columns of rows within a graph."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from torch.fx import Node

from elman.engine.trace.values import line_of, set_line, set_shape, shape_of

aten = torch.ops.aten

MAX_SLICES = 16  # of which permuted columns are concatenated


def permute(node: Node, dims: Sequence[int]) -> Node:
    """Permute the axes of rows in a graph, with the batch axis in front.

    A permutation of a pointwise operation is applied to its operands: permuting the factors of an outer product moves
    no column. A permutation that cannot be moved on like this concatenates slices of columns. If these are too many,
    torch's `permute` is recorded, which no plan supports.
    """
    shape = shape_of(node)
    new_shape, long_dims = [shape[dim] for dim in dims], [dim for dim in dims if shape[dim] != 1]
    if list(dims) == sorted(dims):
        return node
    if long_dims == sorted(long_dims):
        return _call(node, aten.reshape.default, (node, new_shape), new_shape)
    if node.target is aten.stack.default and (axis := _stacked_axis(node)):
        inner_dims = [dim - (dim > axis) for dim in dims if dim != axis]
        tensors: Any = node.args[0]
        arguments = [permute(tensor, inner_dims) for tensor in tensors], dims.index(axis)
        return _call(node, node.target, arguments, new_shape)
    if getattr(node.target, "tags", None) and torch.Tag.pointwise in node.target.tags:  # type: ignore[union-attr]
        operands = [_permute_operand(value, dims) if isinstance(value, Node) else value for value in node.args]
        return _call(node, node.target, tuple(operands), new_shape, node.kwargs)
    return _permute_columns(node, dims, new_shape)


def _stacked_axis(node: Node) -> int:
    axis = node.args[1] if len(node.args) > 1 else 0
    assert isinstance(axis, int)
    return axis % len(shape_of(node))


def _permute_operand(value: Node, dims: Sequence[int]) -> Node:
    """Permute an operand of a pointwise operation, which may be broadcast."""
    shape = shape_of(value)
    missing = len(dims) - len(shape)
    if missing:
        shape = (*[1] * missing, *shape)
        value = _call(value, aten.reshape.default, (value, list(shape)), shape)
    if shape[0] != 1:
        return permute(value, dims)
    return _call(value, aten.permute.default, (value, list(dims)), [shape[dim] for dim in dims])


def _permute_columns(node: Node, dims: Sequence[int], new_shape: Sequence[int]) -> Node:
    """Concatenate the longest slices of columns that the permutation leaves in order."""
    shape = shape_of(node)
    strides = [prod(shape[dim + 1 :]) for dim in dims[1:]]
    offsets = (range(0, size * stride, stride) for size, stride in zip(new_shape[1:], strides, strict=True))
    columns = [sum(index) for index in product(*offsets)]
    starts = [n for n, column in enumerate(columns) if not n or column != columns[n - 1] + 1]
    if len(starts) > MAX_SLICES:
        return _call(node, aten.permute.default, (node, list(dims)), new_shape)
    flat = _call(node, aten.reshape.default, (node, [shape[0], len(columns)]), (shape[0], len(columns)))
    slices = []
    for start, end in zip(starts, [*starts[1:], len(columns)], strict=True):
        first = columns[start]
        size = (shape[0], end - start)
        slices.append(_call(node, aten.slice.Tensor, (flat, 1, first, first + end - start), size))
    joined = _call(node, aten.cat.default, (slices, 1), (shape[0], len(columns)))
    return _call(node, aten.reshape.default, (joined, list(new_shape)), new_shape)


def _call(like: Node, target: Any, args: Any, shape: Sequence[int], kwargs: Any = None) -> Node:
    """Add an operation to the graph, with the source line of another node."""
    node = like.graph.call_function(target, args, dict(kwargs or {}))
    set_shape(node, tuple(shape))
    set_line(node, line_of(like))
    return node
