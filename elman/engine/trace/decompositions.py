"""Decompositions of large operations into those of the executors' tables.

Each function has the signature with which torch's dispatcher calls the operation.
"""

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import Any, TypeVar

import torch
from torch import Tensor

aten = torch.ops.aten

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def decomposes(*operations: Any) -> Callable[[Function], Function]:
    """Register the decorated function as the decomposition of operations."""

    def register(function: Function) -> Function:
        DECOMPOSITIONS.update(dict.fromkeys(operations, function))
        return function

    return register


# Sums.


@decomposes(aten.sum.default)
def sum_columns_first(x: Tensor, dims: list[int] | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    """Sum over the batch (dimension 0) and over columns: over the columns of each row first."""
    dims = sorted(dim % x.dim() for dim in (dims or range(x.dim())))
    column_dims = [dim for dim in dims if dim]
    total = x.sum(column_dims, keepdim) if column_dims else x
    return total.sum([0], keepdim) if 0 in dims else total


@decomposes(aten.mean.dim)
def _mean(x: Tensor, dims: list[int] | None, keepdim: bool = False, **_: Any) -> Tensor:
    return x.sum(dims, keepdim) / _count(x, dims)


def _count(x: Tensor, dims: list[int] | None) -> int:
    return prod(x.shape[dim] for dim in (dims or range(x.dim())))


@decomposes(aten.var.correction)
def _var(x: Tensor, dims: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    centred = x - x.mean(dims, True)
    return (centred * centred).sum(dims, keepdim) / (_count(x, dims) - (1 if correction is None else correction))


@decomposes(aten.std.correction)
def _std(x: Tensor, dims: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    return _var(x, dims, correction=correction, keepdim=keepdim).sqrt()


@decomposes(aten.linalg_vector_norm.default)
def _norm(x: Tensor, ord: float = 2, dims: list[int] | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    if ord == 2:
        return (x * x).sum(dims, keepdim).sqrt()
    if ord == 1:
        return x.abs().sum(dims, keepdim)
    if ord == inf:
        return x.abs().amax(dims or [], keepdim)
    return x.abs().pow(ord).sum(dims, keepdim).pow(1 / ord)


@decomposes(aten.logsumexp.default)
def _logsumexp(x: Tensor, dims: list[int], keepdim: bool = False) -> Tensor:
    largest = x.amax(dims, True)
    total = (x - largest).exp().sum(dims, True).log() + largest
    return total if keepdim else total.squeeze(dims)


@decomposes(aten._softmax.default)
def _softmax(x: Tensor, dim: int, _: bool) -> Tensor:
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum([dim], True)


@decomposes(aten._softmax_backward_data.default)
def _softmax_backward(grad: Tensor, y: Tensor, dim: int, _: torch.dtype) -> Tensor:
    return y * (grad - (grad * y).sum([dim], True))


@decomposes(aten._log_softmax.default)
def _log_softmax(x: Tensor, dim: int, _: bool) -> Tensor:
    return x - _logsumexp(x, [dim], True)


@decomposes(aten._log_softmax_backward_data.default)
def _log_softmax_backward(grad: Tensor, y: Tensor, dim: int, _: torch.dtype) -> Tensor:
    return grad - y.exp() * grad.sum([dim], True)


@decomposes(aten.native_layer_norm.default)
def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(-len(shape), 0))
    mean = x.mean(dims, True)
    centred = x - mean
    rstd = ((centred * centred).mean(dims, True) + eps).rsqrt()
    y = centred * rstd
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, rstd


@decomposes(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, needs_gradient: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    dims, batch_dims = list(range(-len(shape), 0)), list(range(x.dim() - len(shape)))
    y = (x - mean) * rstd
    g = grad if weight is None else grad * weight
    dx = rstd * (g - g.mean(dims, True) - y * (g * y).mean(dims, True)) if needs_gradient[0] else None
    d_weight = (grad * y).sum(batch_dims) if needs_gradient[1] else None
    return dx, d_weight, grad.sum(batch_dims) if needs_gradient[2] else None


# Products.


@decomposes(aten.mv.default)
def _mv(a: Tensor, v: Tensor) -> Tensor:
    return a.mm(v.unsqueeze(1)).squeeze(1)


def addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Compute addmm by a product and a sum, where `c` is not a bias vector or there are factors."""
    product = a.mm(b)
    return (c if beta == 1 else c * beta) + (product if alpha == 1 else product * alpha)


@decomposes(aten.baddbmm.default)
def _baddbmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = a.bmm(b)
    return (c if beta == 1 else c * beta) + (product if alpha == 1 else product * alpha)


# Columns.


@decomposes(aten.slice_backward.default)
def _slice_backward(grad: Tensor, shape: Sequence[int], dim: int, start: int, end: int, step: int) -> Tensor:
    assert step == 1
    size = shape[dim]
    start = max(start + size, 0) if start < 0 else min(start, size)
    return _pad_with_zeros(grad, dim, start, size)


@decomposes(aten.select_backward.default)
def _select_backward(grad: Tensor, shape: Sequence[int], dim: int, index: int) -> Tensor:
    dim %= len(shape)
    return _pad_with_zeros(grad.unsqueeze(dim), dim, index % shape[dim], shape[dim])


def _pad_with_zeros(x: Tensor, dim: int, start: int, size: int) -> Tensor:
    """Pad a dimension to a size, so that `x` begins at `start`."""
    shape = list(x.shape)
    counts = start, size - start - shape[dim]
    before, after = [x.new_zeros([*shape[:dim], count, *shape[dim + 1 :]]) for count in counts]
    return torch.cat([tensor for tensor in (before, x, after) if tensor.shape[dim]], dim)


# Arithmetic.


@decomposes(aten.addcmul.default)
def _addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + (a * b if value == 1 else value * a * b)


@decomposes(aten.addcdiv.default)
def _addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + value * (a / b)


@decomposes(aten.lerp.Scalar, aten.lerp.Tensor)
def _lerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    return a + weight * (b - a)


@decomposes(aten.pow.Scalar)
def _pow_of_scalar(base: float, x: Tensor) -> Tensor:
    return torch.pow(x.new_full((), base), x)
