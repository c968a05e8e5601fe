"""Tracks tensors whose batch axis is not the first.

(heads, B, d) is known by the rows (B, heads, d), (B * heads, d) as well. Views of such a tensor are other forms of the
same rows; operations on it are rewritten by `batch_rewrites`.
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

SHAPED = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.unsqueeze.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims,
}  # fmt: skip


class AxisLayout(NamedTuple):
    """A tensor as its rows, and for each of its axes the axes of these that it runs through, the outermost first.

    An axis of a single number runs through none.
    """

    rows: Tensor  # with the batch in front
    axes: tuple[tuple[int, ...], ...]

    @property
    def order(self) -> list[int]:
        """The axes of the rows as they come in the tensor."""
        return [i for axes in self.axes for i in axes]

    @property
    def batch(self) -> int:
        """The axis that the batch is in."""
        return next(axis for axis, through in enumerate(self.axes) if 0 in through)

    @property
    def unmoved(self) -> bool:
        """Whether the tensor is rows itself, of another shape at most."""
        return self.axes[0] == (0,) and self.order == sorted(self.order)

    def sizes(self, axis: int) -> list[int]:
        """How long the axes are that one of the tensor's runs through."""
        return [self.rows.shape[i] for i in self.axes[axis]]


class NoRewrite(Exception):
    """What an operation does cannot be said of rows; the message says what that is."""


class KnownAxes(Protocol):
    """What is known of tensors."""

    def form(self, tensor: Tensor) -> AxisLayout | None:
        """The form of what is made of rows."""

    def named(self, tensor: Tensor) -> object:
        """See that a tensor is written down as torch has it."""


def unmoved(rows: Tensor) -> AxisLayout:
    """The form of what is rows itself."""
    return AxisLayout(rows, tuple((i,) if size != 1 else () for i, size in enumerate(rows.shape)))


def cut(*shapes: Sequence[int]) -> list[int] | None:
    """The longest axes that the axes of every shape are made of; None if their ends do not meet."""
    ends = sorted({1, *(end for shape in shapes for end in accumulate(shape, mul))})
    if 0 in ends or any(b % a for a, b in pairwise(ends)):
        return None
    return [b // a for a, b in pairwise(ends)]


def viewed(form: AxisLayout, shape: Sequence[int]) -> AxisLayout | None:
    """The form of the tensor in another shape; None if that is not made of the same rows."""
    pieces = cut([form.rows.shape[i] for i in form.order], shape)
    fine = None if pieces is None else _cut_rows(form, pieces)
    if fine is None or fine.rows.shape[0] in fine.rows.shape[1:]:  # which of them is the batch, nobody knows
        return None
    left, axes = fine.order, []
    for size in shape:
        count = next(n for n in range(len(left) + 1) if prod(fine.rows.shape[i] for i in left[:n]) == size)
        axes.append(tuple(left[:count]))
        left = left[count:]
    return AxisLayout(fine.rows, tuple(axes))


def _cut_rows(form: AxisLayout, pieces: Sequence[int]) -> AxisLayout | None:
    """A form with so long axes of the rows, in the order of the tensor's."""
    left, cuts = list(pieces), dict[int, list[int]]()
    for i in form.order:
        cuts[i] = []
        while prod(cuts[i]) < form.rows.shape[i]:
            cuts[i].append(left.pop(0))
    if len(cuts[0]) > 1:
        return None
    starts = dict(zip(sorted(cuts), accumulate((len(cuts[i]) for i in sorted(cuts)), initial=0), strict=False))
    axes = tuple(tuple(starts[i] + n for i in through for n in range(len(cuts[i]))) for through in form.axes)
    return AxisLayout(shaped(form.rows, [size for i in sorted(cuts) for size in cuts[i]]), axes)


def shaped(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor in a shape, itself if it has that."""
    return tensor if list(tensor.shape) == list(shape) else tensor.reshape(shape)


def narrowed(form: AxisLayout | None, axis: int, start: int, size: int) -> AxisLayout | None:
    """The form of a slice of the tensor along one axis; None if that does not stand alone in the rows."""
    if form is None or prod(form.sizes(axis)) == size:
        return form
    if len(form.axes[axis]) != 1 or axis == form.batch:
        return None
    rows = form.rows.narrow(form.axes[axis][0], start, size)
    return AxisLayout(rows, tuple(() if i == axis and size == 1 else through for i, through in enumerate(form.axes)))


def _permuted(form: AxisLayout, dims: Sequence[int]) -> list[AxisLayout | None]:
    return [AxisLayout(form.rows, tuple(form.axes[dim] for dim in dims))]


def _transposed(form: AxisLayout, a: int, b: int) -> list[AxisLayout | None]:
    dims = list(range(len(form.axes)))
    dims[a], dims[b] = dims[b], dims[a]
    return _permuted(form, dims)


def _slice(form: AxisLayout, given: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis, start = given["dim"] % len(form.axes), given["start"] or 0
    start = max(start + prod(form.sizes(axis)), 0) if start < 0 else start
    return [narrowed(form, axis, start, results[0].shape[axis]) if given["step"] == 1 else None]


def _select(form: AxisLayout, given: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis = given["dim"] % len(form.axes)
    found = narrowed(form, axis, given["index"] % prod(form.sizes(axis)), 1)
    return [None if found is None else viewed(found, results[0].shape)]


def _split(form: AxisLayout, given: Mapping[str, Any], results: Sequence[Tensor]) -> list[AxisLayout | None]:
    axis, begin, found = given["dim"] % len(form.axes), 0, list[AxisLayout | None]()
    for piece in results:
        # What is unbound has lost the axis.
        size = piece.shape[axis] if piece.dim() == len(form.axes) else 1
        narrow = narrowed(form, axis, begin, size)
        found.append(None if narrow is None else viewed(narrow, piece.shape))
        begin += size
    return found


#: each: the forms of its results, of the form of its tensor, its other arguments by name, and the results
VIEWS: dict[Any, Callable[[AxisLayout, Mapping[str, Any], Sequence[Tensor]], list[AxisLayout | None]]] = {
    aten.permute.default: lambda form, given, results: _permuted(form, given["dims"]),
    aten.transpose.int: lambda form, given, results: _transposed(form, given["dim0"], given["dim1"]),
    aten.t.default: lambda form, given, results: _permuted(form, range(len(form.axes))[::-1]),
    **dict.fromkeys(SHAPED, lambda form, given, results: [viewed(form, results[0].shape)]),
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    **dict.fromkeys(SPLIT, _split),
}
MOVING = {aten.permute.default, aten.transpose.int, aten.t.default, *SHAPED}


def views(
    func: Any, form: AxisLayout, args: Sequence[Any], kwargs: Mapping[str, Any], results: Sequence[Tensor]
) -> list[AxisLayout] | None:
    """The forms of what a view of a tensor returns; None if it is no view of the same rows."""
    given = {argument.name: argument.default_value for argument in func._schema.arguments}
    given |= dict(zip(given, args, strict=False)) | dict(kwargs)
    found = VIEWS[func](form, given, results)
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None
