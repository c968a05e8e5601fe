"""Rewrites batched matrix products as products of rows, one for each head."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from elman.engine.trace.batch_axis import AxisLayout, KnownAxes, NoRewrite, cut, shaped

aten = torch.ops.aten

PRODUCTS = {aten.mm.default, aten.bmm.default}
MOST = 64  # heads


def multiplied(known: KnownAxes, a: Tensor, b: Tensor) -> Tensor | None:
    """A product of matrices, one or many: a (..., n, k) and b (..., k, m)."""
    forms = known.form(a), known.form(b)
    many = a.dim() - 2
    match [None if form is None else form.batch - many for form in forms]:
        case [0, None]:
            return _by_weights(known, a, b)
        case [None, 1]:
            return _turned((torch.bmm if many else torch.mm)(_turned(b), _turned(a)))
        case [1, 0]:
            return _over_rows(known, a, b)
        case [-1, -1]:
            return _row_by_row(known, a, b)
    return None


def _by_weights(known: KnownAxes, a: Tensor, b: Tensor) -> Tensor | None:
    """Rows by the matrix of their head: a product of matrices for each head."""
    many, form = a.shape[:-2], _form(known, a)
    if not many and form.axes[0] == (0,):
        return None
    sizes = [size for axis in range(a.dim() - 1) for size in form.sizes(axis)]
    a = a.reshape(*sizes, a.shape[-1])
    at = _form(known, a).batch
    rows = a.movedim(at, 0)
    heads = rows.shape[1:-1]
    _check(prod(heads))
    weights = [b.select(0, i) for i in range(b.shape[0])] if many else [b]
    alike = prod(heads) // len(weights)
    made = [_picked(rows, index).mm(weights[n // alike]) for n, index in enumerate(_indices(heads))]
    return _moved_back(made, heads, at).reshape(*many, -1, b.shape[-1])


def _over_rows(known: KnownAxes, a: Tensor, b: Tensor) -> Tensor | None:
    """A sum over the rows, as gradients of weights are: one for each head, or over the rows of all heads."""
    many, forms = a.shape[:-2], (_form(known, a), _form(known, b))
    heads = cut(*(form.sizes(0) for form in forms)) if many else []
    summed = cut(forms[0].sizes(-1), forms[1].sizes(-2))
    a = _turned(a)
    if heads is None or summed is None or (not many and len(summed) == 1 and _form(known, a).unmoved):
        return None
    rows = _rows(known, *(tensor.reshape(*heads, *summed, tensor.shape[-1]) for tensor in (a, b)))
    if rows is None:
        return None
    a, b, _ = rows
    _check(prod(a.shape[1:-1]))
    totals = []
    for head in _indices(heads):
        each = [(*head, *rest) for rest in _indices(a.shape[1 + len(head) : -1])]
        pairs = [(_picked(a, index), _picked(b, index)) for index in each]
        for left, _ in pairs:
            known.named(left)
        parts = [left.t().mm(right) for left, right in pairs]
        totals.append(sum(parts[1:], parts[0]))
    return torch.stack(totals).reshape(*many, *totals[0].shape)


def _row_by_row(known: KnownAxes, a: Tensor, b: Tensor) -> Tensor | None:
    """A product of two matrices of each row, of which one is a vector."""
    many, (n, k, m) = a.shape[:-2], (*a.shape[-2:], b.shape[-1])
    sizes = cut(*(_form(known, tensor).sizes(0) for tensor in (a, b)))
    if sizes is None:
        return None
    if 1 not in (n, k, m):
        raise NoRewrite("a product of two matrices of the step, neither of which is a vector")
    rows = _rows(known, a.reshape(*sizes, n, k), b.reshape(*sizes, k, m))
    if rows is None:
        return None
    a, b, at = rows
    _check(prod(a.shape[1:-2]))
    made = []
    for head in _indices(a.shape[1:-2]):
        left, right = _picked(a, head), _picked(b, head)
        made.append(left * right if k == 1 else (left.unsqueeze(-1) * right.unsqueeze(1)).sum(2))
    return _moved_back(made, a.shape[1:-2], at).reshape(*many, n, m)


def _rows(known: KnownAxes, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int] | None:
    """Two tensors with the batch in front, and the axis that it was in; None if that is not the same of both."""
    at = _form(known, a).batch
    return (a.movedim(at, 0), b.movedim(at, 0), at) if _form(known, b).batch == at else None


def _check(heads: int) -> None:
    if heads > MOST:
        raise NoRewrite(f"a product for each of {heads} heads, which are more than {MOST}")


def _form(known: KnownAxes, tensor: Tensor) -> AxisLayout:
    form = known.form(tensor)
    assert form is not None
    return form


def _turned(tensor: Tensor) -> Tensor:
    return tensor.t() if tensor.dim() == 2 else tensor.transpose(-1, -2)


def _indices(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    return product(*map(range, sizes))


def _picked(rows: Tensor, index: Sequence[int]) -> Tensor:
    """Of each row, what stands at an index of its first axes."""
    for i in index:
        rows = rows.select(1, i)
    return rows


def _moved_back(made: Sequence[Tensor], heads: Sequence[int], at: int) -> Tensor:
    """What was made of each head, side by side in its row, and the batch moved to an axis."""
    rows = torch.stack(list(made), 1) if len(made) > 1 else made[0].unsqueeze(1)
    return shaped(rows, (rows.shape[0], *heads, *rows.shape[2:])).movedim(0, at)
