"""Rewrites batched matrix products as products of rows, one for each head.

A head is an index of the axes between the batch and the last axis (or the last two) of the rows.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from elman.engine.trace.batch_axis import AxisLayout, LayoutRecorder, NoRewrite, common_refinement, reshape

aten = torch.ops.aten

PRODUCTS = {aten.mm.default, aten.bmm.default}
MAX_HEADS = 64  # each is a matrix product of its own in the plan


def rewrite_product(recorder: LayoutRecorder, a: Tensor, b: Tensor) -> Tensor | None:
    """Compute a matrix product or a batch of them, a (..., n, k) and b (..., k, m), by products of rows.

    Returns None if that is impossible or unnecessary.

    Raises:
        NoRewrite: if it would take too many products, or if both matrices depend on the row and neither is a vector.
    """
    layouts = recorder.layout_of(a), recorder.layout_of(b)
    matrix_axis = a.dim() - 2
    # In which axis of each matrix the batch is: 0 or 1, negative for an axis of the batch of products.
    match [None if layout is None else layout.batch - matrix_axis for layout in layouts]:
        case [0, None]:
            return _rows_by_weights(recorder, a, b)
        case [None, 1]:
            return _transpose((torch.bmm if matrix_axis else torch.mm)(_transpose(b), _transpose(a)))
        case [1, 0]:
            return _sum_over_rows(recorder, a, b)
        case [-1, -1]:
            return _product_within_rows(recorder, a, b)
    return None


def _rows_by_weights(recorder: LayoutRecorder, a: Tensor, b: Tensor) -> Tensor | None:
    """Multiply the rows of each head by its weight matrix."""
    batch_shape, layout = a.shape[:-2], _layout(recorder, a)
    if not batch_shape and layout.axes[0] == (0,):
        return None
    sizes = [size for axis in range(a.dim() - 1) for size in layout.sizes(axis)]
    a = a.reshape(*sizes, a.shape[-1])
    batch_axis = _layout(recorder, a).batch
    rows = a.movedim(batch_axis, 0)
    heads = rows.shape[1:-1]
    _check_head_count(prod(heads))
    weights = [b.select(0, i) for i in range(b.shape[0])] if batch_shape else [b]
    heads_per_weight = prod(heads) // len(weights)
    products = [_select(rows, index).mm(weights[n // heads_per_weight]) for n, index in enumerate(_indices(heads))]
    return _join_heads(products, heads, batch_axis).reshape(*batch_shape, -1, b.shape[-1])


def _sum_over_rows(recorder: LayoutRecorder, a: Tensor, b: Tensor) -> Tensor | None:
    """Sum outer products over the rows, as in gradients of weights: for each head, or over all heads as well."""
    batch_shape, layouts = a.shape[:-2], (_layout(recorder, a), _layout(recorder, b))
    heads = common_refinement(*(layout.sizes(0) for layout in layouts)) if batch_shape else []
    summed = common_refinement(layouts[0].sizes(-1), layouts[1].sizes(-2))
    a = _transpose(a)
    if heads is None or summed is None or (not batch_shape and len(summed) == 1 and _layout(recorder, a).is_unmoved):
        return None
    rows = _batch_first(recorder, *(tensor.reshape(*heads, *summed, tensor.shape[-1]) for tensor in (a, b)))
    if rows is None:
        return None
    a, b, _ = rows
    _check_head_count(prod(a.shape[1:-1]))
    totals = []
    for head in _indices(heads):
        indices = [(*head, *summed_index) for summed_index in _indices(a.shape[1 + len(head) : -1])]
        pairs = [(_select(a, index), _select(b, index)) for index in indices]
        for left, _ in pairs:
            recorder.node_of(left)
        terms = [left.t().mm(right) for left, right in pairs]
        totals.append(sum(terms[1:], terms[0]))
    return torch.stack(totals).reshape(*batch_shape, *totals[0].shape)


def _product_within_rows(recorder: LayoutRecorder, a: Tensor, b: Tensor) -> Tensor | None:
    """Multiply two matrices of each row, one of which is a vector."""
    batch_shape, (n, k, m) = a.shape[:-2], (*a.shape[-2:], b.shape[-1])
    sizes = common_refinement(*(_layout(recorder, tensor).sizes(0) for tensor in (a, b)))
    if sizes is None:
        return None
    if 1 not in (n, k, m):
        raise NoRewrite("a product of two matrices of the step, neither of which is a vector")
    rows = _batch_first(recorder, a.reshape(*sizes, n, k), b.reshape(*sizes, k, m))
    if rows is None:
        return None
    a, b, batch_axis = rows
    _check_head_count(prod(a.shape[1:-2]))
    products = []
    for head in _indices(a.shape[1:-2]):
        left, right = _select(a, head), _select(b, head)
        products.append(left * right if k == 1 else (left.unsqueeze(-1) * right.unsqueeze(1)).sum(2))
    return _join_heads(products, a.shape[1:-2], batch_axis).reshape(*batch_shape, n, m)


def _batch_first(recorder: LayoutRecorder, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int] | None:
    """Move the batch axis to the front, and return where it was as well; None if it was not the same axis in both."""
    axis = _layout(recorder, a).batch
    return (a.movedim(axis, 0), b.movedim(axis, 0), axis) if _layout(recorder, b).batch == axis else None


def _check_head_count(heads: int) -> None:
    if heads > MAX_HEADS:
        raise NoRewrite(f"a product for each of {heads} heads, more than the maximum of {MAX_HEADS}")


def _layout(recorder: LayoutRecorder, tensor: Tensor) -> AxisLayout:
    layout = recorder.layout_of(tensor)
    assert layout is not None
    return layout


def _transpose(tensor: Tensor) -> Tensor:
    return tensor.t() if tensor.dim() == 2 else tensor.transpose(-1, -2)


def _indices(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return product(*map(range, sizes))


def _select(rows: Tensor, index: Sequence[int]) -> Tensor:
    """Index the axes that follow the batch axis."""
    for i in index:
        rows = rows.select(1, i)
    return rows


def _join_heads(products: Sequence[Tensor], heads: Sequence[int], batch_axis: int) -> Tensor:
    """Stack the results of all heads within their rows, and move the batch to an axis."""
    rows = torch.stack(list(products), 1) if len(products) > 1 else products[0].unsqueeze(1)
    return reshape(rows, (rows.shape[0], *heads, *rows.shape[2:])).movedim(0, batch_axis)
