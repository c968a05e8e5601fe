"""Rewrites operations on tensors with a moved batch axis as operations on rows.

A rewrite calls torch, which is recorded in turn: it moves the batch axis to the front, computes with rows, and moves
the axes of the result back. Moving an axis only makes another layout (`batch_axis`) and copies nothing.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.torch_private import tree_map_only
from elman.engine.trace import decompositions
from elman.engine.trace.aten import tensors_in
from elman.engine.trace.batch_axis import AxisLayout, LayoutRecorder, common_refinement, reshape
from elman.engine.trace.batch_matmul import PRODUCTS, rewrite_product

aten = torch.ops.aten

REDUCTIONS = {aten.sum.dim_IntList, aten.amax.default, aten.amin.default}
MAY_MOVE_BATCH = {*PRODUCTS, aten.stack.default}  # even if the batch axis of every operand is the first


def rewrite(recorder: LayoutRecorder, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """Compute an operation by operations on rows; returns its result, or None if that is impossible or unnecessary.

    Args:
        recorder: Knows the layouts of tensors.
        func: An operation that writes in place to nothing.
        args: Its arguments, with a moved tensor among them, unless `func` is in `MAY_MOVE_BATCH`.
        kwargs: Its keyword arguments.

    Raises:
        NoRewrite: for a product that cannot be computed, or not computed efficiently, from rows.
    """
    if func in PRODUCTS:
        return rewrite_product(recorder, *args)
    if func is aten.addmm.default:
        return decompositions.addmm(*args)
    if func in REDUCTIONS:
        return _reduce(recorder, func, *args, **kwargs)
    if func is aten.cat.default:
        return _cat(recorder, *args, **kwargs)
    if func is aten.stack.default:
        return _stack(recorder, *args, **kwargs)
    if func is aten.expand.default:
        return _expand(recorder, args[0], args[1])
    if torch.Tag.pointwise in func.tags:
        return _pointwise(recorder, func, args, kwargs)
    return None


class Aligned(NamedTuple):
    """Tensors with the batch axis first and their other axes refined and ordered alike."""

    tensors: list[Tensor]
    sizes: list[int]  # the refined shape that the tensors are broadcast to, in the original order of axes
    axes: list[int]  # for each refined axis, the original axis that it is part of
    order: list[int]  # the refined axes, as they are ordered in `tensors`

    def restore(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Move the axes of a result back to the original order, and give it a shape."""
        return reshape(_permute(rows, _inverse(self.order)), shape)


def _align(
    recorder: LayoutRecorder, tensors: Sequence[Tensor], shape: Sequence[int], unrefined: int = -1
) -> Aligned | None:
    """Align tensors that are broadcast to a shape, in the order of the one with most axes; None if that is impossible.

    The axes of the shape are refined to axes that all tensors have in common, except for axis `unrefined`.
    """
    refinement = []
    layouts = [
        (layout, len(shape) - tensor.dim()) for tensor in tensors if (layout := recorder.layout_of(tensor)) is not None
    ]
    for axis, size in enumerate(shape):
        row_sizes = (layout.sizes(axis - missing) for layout, missing in layouts if axis >= missing)
        not_broadcast = [sizes for sizes in row_sizes if prod(sizes) == size]
        refined = [size] if axis == unrefined else common_refinement([size], *not_broadcast)
        if refined is None:
            return None
        refinement.append(refined)
    sizes = [size for refined in refinement for size in refined]
    axes = [axis for axis, refined in enumerate(refinement) for _ in refined]

    def refine(tensor: Tensor) -> Tensor:
        old = [1] * (len(shape) - tensor.dim()) + list(tensor.shape)
        new = (
            refined if old[i] == prod(refined) else [old[i]] if i == unrefined else [1] * len(refined)
            for i, refined in enumerate(refinement)
        )  # fmt: skip
        return reshape(tensor, [size for refined in new for size in refined])

    refined_tensors = [refine(tensor) for tensor in tensors]
    refined_layouts = [layout for tensor in refined_tensors if (layout := recorder.layout_of(tensor)) is not None]
    largest = max(refined_layouts, key=lambda layout: sum(map(bool, layout.axes)))
    if any(layout.batch != largest.batch for layout in refined_layouts):
        return None
    order = _axis_order(largest)
    ordered = [_permute(tensor, order) for tensor in refined_tensors]
    for tensor in ordered:
        recorder.node_of(tensor)  # records a permutation of the columns, for tensors that have them in another order
    return Aligned(ordered, sizes, axes, order)


def _axis_order(layout: AxisLayout) -> list[int]:
    """Return the axes of a tensor in the order of its rows, with axes of size one inserted between them."""
    order = sorted((i for i, row_axes in enumerate(layout.axes) if row_axes), key=lambda i: layout.axes[i])
    for i, row_axes in enumerate(layout.axes):
        if not row_axes:
            order.insert(next((n for n, j in enumerate(order) if n and j > i), len(order)), i)
    return order


def _permute(tensor: Tensor, order: Sequence[int]) -> Tensor:
    return tensor if list(order) == sorted(order) else tensor.permute(*order)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _pointwise(recorder: LayoutRecorder, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    inputs = tensors_in(args, kwargs)
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in inputs))
    aligned = _align(recorder, inputs, shape)
    if aligned is None:
        return None
    operands = iter(aligned.tensors)
    args, kwargs = tree_map_only(Tensor, lambda _: next(operands), (args, kwargs))
    return aligned.restore(func(*args, **kwargs), shape)


def _expand(recorder: LayoutRecorder, x: Tensor, shape: Sequence[int]) -> Tensor | None:
    old = [1] * (len(shape) - x.dim()) + list(x.shape)
    shape = [b if a < 0 else a for a, b in zip(shape, old, strict=True)]
    if shape == list(x.shape):
        return x
    aligned = _align(recorder, [x], shape)
    if aligned is None:
        return None
    return aligned.restore(aligned.tensors[0].expand([aligned.sizes[i] for i in aligned.order]), shape)


def _reduce(
    recorder: LayoutRecorder, func: Any, x: Tensor, dims: list[int] | None = None, keepdim: bool = False, **kwargs: Any
) -> Tensor | None:
    aligned = _align(recorder, [x], x.shape)
    if aligned is None:
        return None
    reduced = {dim % x.dim() for dim in dims or range(x.dim())}
    rows = aligned.tensors[0]
    row_dims = [n for n, i in enumerate(aligned.order) if aligned.axes[i] in reduced]
    # Over the columns of each row first, then over the batch (dimension 0).
    for step_dims in ([n for n in row_dims if n], [n for n in row_dims if not n]):
        rows = func(rows, step_dims, True, **kwargs) if step_dims else rows
    shape = [1 if axis in reduced else size for axis, size in enumerate(x.shape) if keepdim or axis not in reduced]
    return aligned.restore(rows, shape)


def _cat(recorder: LayoutRecorder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    tensors = [tensor for tensor in tensors if tensor.dim() > 1 or tensor.numel()]  # torch ignores empty vectors
    shape = list(tensors[0].shape)
    dim %= len(shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    aligned = _align(recorder, tensors, shape, unrefined=dim)
    if aligned is None:
        return None
    return aligned.restore(torch.cat(aligned.tensors, aligned.order.index(aligned.axes.index(dim))), shape)


def _stack(recorder: LayoutRecorder, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    dim %= tensors[0].dim() + 1
    layouts = [layout for tensor in tensors if (layout := recorder.layout_of(tensor)) is not None]
    if all(layout.is_unmoved for layout in layouts) and (dim or not layouts):
        return None
    return torch.cat([tensor.unsqueeze(dim) for tensor in tensors], dim)
