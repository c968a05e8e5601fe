"""Tracks tensors whose batch axis is not the first.

The layout of a tensor (heads, B, d) refers to its rows (B, heads, d); that of (B * heads, d) refers to the same rows.
A view of such a tensor is another layout of these rows; `batch_rewrites` rewrites other operations as operations on
them.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod
from operator import mul
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from elman.engine.trace.aten import SPLIT

aten = torch.ops.aten

RESHAPES = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.unsqueeze.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
}  # fmt: skip


class AxisLayout(NamedTuple):
    """The rows that a tensor consists of, and for each axis of the tensor the axes of the rows that it runs through.

    These are listed from the outermost to the innermost. An axis of size one runs through none.
    """

    rows: Tensor  # with the batch axis first
    axes: tuple[tuple[int, ...], ...]

    @property
    def order(self) -> list[int]:
        """The axes of the rows, in the order of the tensor."""
        return [i for axes in self.axes for i in axes]

    @property
    def batch(self) -> int:
        """The axis of the tensor that contains the batch."""
        return next(axis for axis, row_axes in enumerate(self.axes) if 0 in row_axes)

    @property
    def is_unmoved(self) -> bool:
        """Whether the tensor is a reshape of its rows that leaves the batch axis alone and in front."""
        return self.axes[0] == (0,) and self.order == sorted(self.order)

    def sizes(self, axis: int) -> list[int]:
        """Return the sizes of the axes of the rows that an axis of the tensor runs through."""
        return [self.rows.shape[i] for i in self.axes[axis]]


class NoRewrite(Exception):
    """An operation cannot be rewritten as operations on rows; the message names it."""


class LayoutRecorder(Protocol):
    """The part of `recorder.Recorder` that rewrites use."""

    def layout_of(self, tensor: Tensor) -> AxisLayout | None:
        """Return the layout of a tensor that consists of rows of the batch; None for any other."""

    def node_of(self, tensor: Tensor) -> object:
        """Return the node of a tensor, after recording the tensor with its axes as torch has them."""


def unmoved_layout(rows: Tensor) -> AxisLayout:
    """Return the layout of a tensor whose batch axis is the first."""
    return AxisLayout(rows, tuple((i,) if size != 1 else () for i, size in enumerate(rows.shape)))


def common_refinement(*shapes: Sequence[int]) -> list[int] | None:
    """Return the coarsest shape of which every given shape merges adjacent axes; None if there is none.

    Shapes (6, 4) and (2, 12) give (2, 3, 4).
    """
    ends = sorted({1, *(end for shape in shapes for end in accumulate(shape, mul))})
    if 0 in ends or any(b % a for a, b in pairwise(ends)):
        return None
    return [b // a for a, b in pairwise(ends)]


def _reshape_layout(layout: AxisLayout, shape: Sequence[int]) -> AxisLayout | None:
    """Return the layout of the tensor in another shape; None if that is not made of the same rows."""
    refined_sizes = common_refinement([layout.rows.shape[i] for i in layout.order], shape)
    refined = None if refined_sizes is None else _refine_rows(layout, refined_sizes)
    if refined is None or refined.rows.shape[0] in refined.rows.shape[1:]:  # the batch is known by its size alone
        return None
    remaining, axes = refined.order, []
    for size in shape:
        counts = range(len(remaining) + 1)
        count = next(n for n in counts if prod(refined.rows.shape[i] for i in remaining[:n]) == size)
        axes.append(tuple(remaining[:count]))
        remaining = remaining[count:]
    return AxisLayout(refined.rows, tuple(axes))


def _refine_rows(layout: AxisLayout, sizes: Sequence[int]) -> AxisLayout | None:
    """Split the axes of the rows into axes of given sizes, in the tensor's order; None if that splits the batch."""
    remaining, splits = list(sizes), dict[int, list[int]]()
    for i in layout.order:
        splits[i] = []
        while prod(splits[i]) < layout.rows.shape[i]:
            splits[i].append(remaining.pop(0))
    if len(splits[0]) > 1:
        return None
    starts = dict(zip(sorted(splits), accumulate((len(splits[i]) for i in sorted(splits)), initial=0), strict=False))
    axes = tuple(tuple(starts[i] + n for i in row_axes for n in range(len(splits[i]))) for row_axes in layout.axes)
    return AxisLayout(reshape(layout.rows, [size for i in sorted(splits) for size in splits[i]]), axes)


def reshape(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Reshape a tensor; return the tensor itself if it has the shape."""
    return tensor if list(tensor.shape) == list(shape) else tensor.reshape(shape)


def _narrow(layout: AxisLayout, axis: int, start: int, size: int) -> AxisLayout | None:
    """Return the layout of a slice along an axis; None if the axis is the batch or merges several axes of the rows."""
    if prod(layout.sizes(axis)) == size:
        return layout
    if len(layout.axes[axis]) != 1 or axis == layout.batch:
        return None
    rows = layout.rows.narrow(layout.axes[axis][0], start, size)
    axes = (() if i == axis and size == 1 else row_axes for i, row_axes in enumerate(layout.axes))
    return AxisLayout(rows, tuple(axes))


def _permute(layout: AxisLayout, dims: Sequence[int]) -> list[AxisLayout | None]:
    return [AxisLayout(layout.rows, tuple(layout.axes[dim] for dim in dims))]


def _transpose(layout: AxisLayout, a: int, b: int) -> list[AxisLayout | None]:
    dims = list(range(len(layout.axes)))
    dims[a], dims[b] = dims[b], dims[a]
    return _permute(layout, dims)


def _slice(layout: AxisLayout, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis, start = arguments["dim"] % len(layout.axes), arguments["start"] or 0
    start = max(start + prod(layout.sizes(axis)), 0) if start < 0 else start
    return [_narrow(layout, axis, start, results[0].shape[axis]) if arguments["step"] == 1 else None]


def _select(layout: AxisLayout, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis = arguments["dim"] % len(layout.axes)
    narrowed = _narrow(layout, axis, arguments["index"] % prod(layout.sizes(axis)), 1)
    return [None if narrowed is None else _reshape_layout(narrowed, results[0].shape)]


def _split(layout: AxisLayout, arguments: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis, start, layouts = arguments["dim"] % len(layout.axes), 0, list[AxisLayout | None]()
    for result in results:
        size = result.shape[axis] if result.dim() == len(layout.axes) else 1  # `unbind` removes the axis
        narrowed = _narrow(layout, axis, start, size)
        layouts.append(None if narrowed is None else _reshape_layout(narrowed, result.shape))
        start += size
    return layouts


#: for each view a function of the layout of its tensor, its arguments by name, and its results, to the results' layouts
VIEWS: dict[Any, Callable[[AxisLayout, Mapping[str, Any], Sequence[Tensor]], list[AxisLayout | None]]] = {
    aten.permute.default: lambda layout, arguments, results: _permute(layout, arguments["dims"]),
    aten.transpose.int: lambda layout, arguments, results: _transpose(layout, arguments["dim0"], arguments["dim1"]),
    aten.t.default: lambda layout, arguments, results: _permute(layout, range(len(layout.axes))[::-1]),
    **dict.fromkeys(RESHAPES, lambda layout, arguments, results: [_reshape_layout(layout, results[0].shape)]),
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    **dict.fromkeys(SPLIT, _split),
}
MAY_MOVE_BATCH = {aten.permute.default, aten.transpose.int, aten.t.default, *RESHAPES}


def view_layouts(
    func: Any, layout: AxisLayout, args: Sequence[Any], kwargs: Mapping[str, Any], results: Sequence[Tensor]
) -> list[AxisLayout] | None:
    """Return the layouts of the results of a view; None if one of them does not consist of the same rows."""
    arguments = {argument.name: argument.default_value for argument in func._schema.arguments}
    arguments |= dict(zip(arguments, args, strict=False)) | dict(kwargs)
    layouts = VIEWS[func](layout, arguments, results)
    known = [layout for layout in layouts if layout is not None]
    return known if len(known) == len(layouts) else None
