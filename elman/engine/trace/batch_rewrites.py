"""Rewrites operations on tensors with a moved batch axis as operations on rows.

What is said here is said to torch, and recorded in its turn: the batch is brought to the front, rows are computed with,
and the axes of the result are moved back. Only its layout in `batch_axis` says so: nothing is copied.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.torch_private import tree_leaves, tree_map_only
from elman.engine.trace import decompositions
from elman.engine.trace.batch_axis import AxisLayout, KnownAxes, cut, shaped
from elman.engine.trace.batch_matmul import PRODUCTS, multiplied

aten = torch.ops.aten

REDUCTIONS = {aten.sum.dim_IntList, aten.amax.default, aten.amin.default}
MOVING = {*PRODUCTS, aten.stack.default}  # which may move rows that are not


def rewritten(known: KnownAxes, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """What an operation returns, made of rows; None if it cannot be, or need not.

    Args:
        known: what is written down.
        func: the operation, one that writes over nothing.
        args: its arguments, of which a tensor is moved, or it is a product.
        kwargs: and those by name.
    """
    if func in PRODUCTS:
        return multiplied(known, *args)
    if func is aten.addmm.default:
        return decompositions.addmm(*args)
    if func in REDUCTIONS:
        return _reduced(known, func, *args, **kwargs)
    if func is aten.cat.default:
        return _joined(known, *args, **kwargs)
    if func is aten.stack.default:
        return _stacked(known, *args, **kwargs)
    if func is aten.expand.default:
        return _expanded(known, args[0], args[1])
    if torch.Tag.pointwise in func.tags:
        return _pointwise(known, func, args, kwargs)
    return None


class Aligned(NamedTuple):
    """Tensors with the batch in front and their other axes cut and ordered alike."""

    tensors: list[Tensor]
    sizes: list[int]  # of the tensor that they are broadcast to, cut
    axes: list[int]  # which axis each size is of
    order: list[int]  # in which they stand

    def back(self, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """What was made of the tensors, moved as these were."""
        return shaped(_ordered(rows, _inverse(self.order)), shape)


def _aligned(known: KnownAxes, tensors: Sequence[Tensor], shape: Sequence[int], whole: int = -1) -> Aligned | None:
    """Tensors that are broadcast to a shape, brought into the order of the largest; of axis `whole` nothing is cut."""
    pieces = []
    forms = [(form, len(shape) - tensor.dim()) for tensor in tensors if (form := known.form(tensor)) is not None]
    for axis, size in enumerate(shape):
        found = [f.sizes(axis - skip) for f, skip in forms if axis >= skip and prod(f.sizes(axis - skip)) == size]
        fine = [size] if axis == whole else cut([size], *found)
        if fine is None:
            return None
        pieces.append(fine)
    sizes, axes = [n for fine in pieces for n in fine], [axis for axis, fine in enumerate(pieces) for _ in fine]

    def cut_alike(tensor: Tensor) -> Tensor:
        own = [1] * (len(shape) - tensor.dim()) + list(tensor.shape)
        cuts = (
            fine if own[i] == prod(fine) else [own[i]] if i == whole else [1] * len(fine)
            for i, fine in enumerate(pieces)
        )
        return shaped(tensor, [n for fine in cuts for n in fine])

    alike = [cut_alike(tensor) for tensor in tensors]
    forms_alike = [form for tensor in alike if (form := known.form(tensor)) is not None]
    lead = max(forms_alike, key=lambda form: sum(map(bool, form.axes)))
    if any(form.batch != lead.batch for form in forms_alike):
        return None
    order = _order(lead)
    ordered = [_ordered(tensor, order) for tensor in alike]
    for tensor in ordered:
        known.named(tensor)  # whose columns, if these are not in that order, are put so
    return Aligned(ordered, sizes, axes, order)


def _order(form: AxisLayout) -> list[int]:
    """The axes of a tensor as they come in its rows, and between them those of a single number."""
    order = sorted((i for i, through in enumerate(form.axes) if through), key=lambda i: form.axes[i])
    for i, through in enumerate(form.axes):
        if not through:
            order.insert(next((at for at, j in enumerate(order) if at and j > i), len(order)), i)
    return order


def _ordered(tensor: Tensor, order: Sequence[int]) -> Tensor:
    return tensor if list(order) == sorted(order) else tensor.permute(*order)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def _pointwise(known: KnownAxes, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    aligned = _aligned(known, tensors, shape)
    if aligned is None:
        return None
    left = iter(aligned.tensors)
    args, kwargs = tree_map_only(Tensor, lambda _: next(left), (args, kwargs))
    return aligned.back(func(*args, **kwargs), shape)


def _expanded(known: KnownAxes, x: Tensor, shape: Sequence[int]) -> Tensor | None:
    own = [1] * (len(shape) - x.dim()) + list(x.shape)
    shape = [b if a < 0 else a for a, b in zip(shape, own, strict=True)]
    if shape == list(x.shape):
        return x
    aligned = _aligned(known, [x], shape)
    if aligned is None:
        return None
    return aligned.back(aligned.tensors[0].expand([aligned.sizes[i] for i in aligned.order]), shape)


def _reduced(
    known: KnownAxes, func: Any, x: Tensor, dims: Sequence[int] | None = None, keepdim: bool = False, **options: Any
) -> Tensor | None:
    aligned = _aligned(known, [x], x.shape)
    if aligned is None:
        return None
    gone = {dim % x.dim() for dim in dims or range(x.dim())}
    rows, at = aligned.tensors[0], [n for n, i in enumerate(aligned.order) if aligned.axes[i] in gone]
    # First over the columns of each row.
    for some in ([n for n in at if n], [n for n in at if not n]):
        rows = func(rows, some, True, **options) if some else rows
    kept = [1 if axis in gone else size for axis, size in enumerate(x.shape) if keepdim or axis not in gone]
    return aligned.back(rows, kept)


def _joined(known: KnownAxes, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    tensors = [tensor for tensor in tensors if tensor.dim() > 1 or tensor.numel()]  # torch leaves out empty vectors
    shape = list(tensors[0].shape)
    dim %= len(shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    aligned = _aligned(known, tensors, shape, whole=dim)
    if aligned is None:
        return None
    at = aligned.order.index(aligned.axes.index(dim))
    return aligned.back(torch.cat(aligned.tensors, at), shape)


def _stacked(known: KnownAxes, tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    dim %= tensors[0].dim() + 1
    forms = [form for tensor in tensors if (form := known.form(tensor)) is not None]
    if all(form.unmoved for form in forms) and (dim or not forms):
        return None
    return torch.cat([tensor.unsqueeze(dim) for tensor in tensors], dim)
