"""Operations that torch keeps whole, said in smaller ones: what the executors' tables need not know.

Each function takes what torch's dispatcher gives the operation, and returns what that would.
"""

from collections.abc import Callable, Sequence
from math import inf, pi, prod, sqrt
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {}


SIXTH = 0.1666666716337204  # as torch has it in hardsigmoid's gradient: in single precision


def _of(*operations: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        DECOMPOSITIONS.update(dict.fromkeys(operations, function))
        return function

    return register


# Sums.


def sums_in_two(x: Tensor, dims: list[int] | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    """A sum over the batch and over columns: first over the columns of each row."""
    every = sorted(dim % x.dim() for dim in (dims or range(x.dim())))
    inner = [dim for dim in every if dim]
    total = x.sum(inner, keepdim) if inner else x
    return total.sum([0], keepdim) if 0 in every else total


@_of(aten.sum.default)
def _sum(x: Tensor, **_: Any) -> Tensor:
    return sums_in_two(x)


@_of(aten.mean.dim)
def _mean(x: Tensor, dims: list[int] | None, keepdim: bool = False, **_: Any) -> Tensor:
    return x.sum(dims, keepdim) / _count(x, dims)


def _count(x: Tensor, dims: list[int] | None) -> int:
    return prod(x.shape[dim] for dim in (dims or range(x.dim())))


@_of(aten.var.correction)
def _var(x: Tensor, dims: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    centred = x - x.mean(dims, True)
    return (centred * centred).sum(dims, keepdim) / (_count(x, dims) - (1 if correction is None else correction))


@_of(aten.std.correction)
def _std(x: Tensor, dims: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    made: Tensor = _var(x, dims, correction=correction, keepdim=keepdim).sqrt()
    return made


@_of(aten.linalg_vector_norm.default)
def _norm(x: Tensor, ord: float = 2, dims: list[int] | None = None, keepdim: bool = False, **_: Any) -> Tensor:
    if ord == 2:
        return (x * x).sum(dims, keepdim).sqrt()
    if ord == 1:
        return x.abs().sum(dims, keepdim)
    if ord == inf:
        return x.abs().amax(dims or [], keepdim)
    return x.abs().pow(ord).sum(dims, keepdim).pow(1 / ord)


@_of(aten.logsumexp.default)
def _logsumexp(x: Tensor, dims: list[int], keepdim: bool = False) -> Tensor:
    largest = x.amax(dims, True)
    total: Tensor = (x - largest).exp().sum(dims, True).log() + largest
    return total if keepdim else total.squeeze(dims)


@_of(aten._softmax.default)
def _softmax(x: Tensor, dim: int, _: bool) -> Tensor:
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum([dim], True)


@_of(aten._softmax_backward_data.default)
def _softmax_backward(grad: Tensor, y: Tensor, dim: int, _: torch.dtype) -> Tensor:
    return y * (grad - (grad * y).sum([dim], True))


@_of(aten._log_softmax.default)
def _log_softmax(x: Tensor, dim: int, _: bool) -> Tensor:
    made: Tensor = x - _logsumexp(x, [dim], True)
    return made


@_of(aten._log_softmax_backward_data.default)
def _log_softmax_backward(grad: Tensor, y: Tensor, dim: int, _: torch.dtype) -> Tensor:
    return grad - y.exp() * grad.sum([dim], True)


@_of(aten.native_layer_norm.default)
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


@_of(aten.native_layer_norm_backward.default)
def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:  # fmt: skip
    dims, batch = list(range(-len(shape), 0)), list(range(x.dim() - len(shape)))
    y = (x - mean) * rstd
    g = grad if weight is None else grad * weight
    dx = rstd * (g - g.mean(dims, True) - y * (g * y).mean(dims, True)) if wanted[0] else None
    return dx, (grad * y).sum(batch) if wanted[1] else None, grad.sum(batch) if wanted[2] else None


# Products.


@_of(aten.mv.default)
def _mv(a: Tensor, v: Tensor) -> Tensor:
    return a.mm(v.unsqueeze(1)).squeeze(1)


def addmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """An addmm that is not a product and a bias."""
    product = a.mm(b)
    return (c if beta == 1 else c * beta) + (product if alpha == 1 else product * alpha)


# Columns.


@_of(aten.slice_backward.default)
def _slice_backward(grad: Tensor, shape: Sequence[int], dim: int, start: int, end: int, step: int) -> Tensor:
    assert step == 1
    size = shape[dim]
    start = max(start + size, 0) if start < 0 else min(start, size)
    return _with_zeros_around(grad, dim, start, size)


@_of(aten.select_backward.default)
def _select_backward(grad: Tensor, shape: Sequence[int], dim: int, index: int) -> Tensor:
    dim %= len(shape)
    return _with_zeros_around(grad.unsqueeze(dim), dim, index % shape[dim], shape[dim])


def _with_zeros_around(x: Tensor, dim: int, start: int, size: int) -> Tensor:
    shape = list(x.shape)
    around = []
    for count in (start, size - start - shape[dim]):
        around.append(x.new_zeros([*shape[:dim], count, *shape[dim + 1 :]][: len(shape)]))
    pieces = [piece for piece in (around[0], x, around[1]) if piece.shape[dim]]
    return torch.cat(pieces, dim)


# Activations, and their gradients.


@_of(aten.silu.default)
def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


@_of(aten.silu_backward.default)
def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    s = x.sigmoid()
    return grad * s * (1 + x * (1 - s))


@_of(aten.mish.default)
def _mish(x: Tensor) -> Tensor:
    made: Tensor = x * _softplus(x).tanh()
    return made


@_of(aten.mish_backward.default)
def _mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    t = _softplus(x).tanh()
    made: Tensor = grad * (t + x * x.sigmoid() * (1 - t * t))
    return made


@_of(aten.softplus.default)
def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    return torch.where(x * beta > threshold, x, (x * beta).exp().log1p() / beta)


@_of(aten.softplus_backward.default)
def _softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    return torch.where(x * beta > threshold, grad, grad * (x * beta).sigmoid())


@_of(aten.elu.default)
def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, (x * input_scale).expm1() * (alpha * scale))


@_of(aten.celu.default)
def _celu(x: Tensor, alpha: float = 1) -> Tensor:
    made: Tensor = _elu(x, alpha, 1, 1 / alpha)
    return made


@_of(aten.elu_backward.default)
def _elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, value: Tensor
) -> Tensor:
    if is_result:
        below = grad * input_scale * (value + alpha * scale)
    else:
        below = grad * (input_scale * alpha * scale) * (value * input_scale).exp()
    return torch.where(value > 0, grad * scale, below)


@_of(aten.gelu.default)
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return x * _gelu_factor(x, approximate)


def _gelu_factor(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        return 0.5 * (1 + (sqrt(2 / pi) * (x + 0.044715 * x * x * x)).tanh())
    return 0.5 * (1 + (x * sqrt(0.5)).erf())


@_of(aten.gelu_backward.default)
def _gelu_backward(grad: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    factor = _gelu_factor(x, approximate)
    if approximate == "tanh":
        t = 2 * factor - 1
        slope = 0.5 * (1 - t * t) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)
    else:
        slope = (x * x * -0.5).exp() / sqrt(2 * pi)
    return grad * (factor + x * slope)


@_of(aten.leaky_relu.default)
def _leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * slope)


@_of(aten.leaky_relu_backward.default)
def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: float, _: bool) -> Tensor:
    return torch.where(x > 0, grad, grad * slope)


@_of(aten._prelu_kernel.default)
def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * weight)


@_of(aten._prelu_kernel_backward.default)
def _prelu_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(x > 0, grad, grad * weight), torch.where(x > 0, 0.0, grad * x)


@_of(aten.hardtanh.default)
def _hardtanh(x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    return x.clamp(low, high)


@_of(aten.hardtanh_backward.default)
def _hardtanh_backward(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    return torch.where((x > low) & (x < high), grad, 0.0)


@_of(aten.hardsigmoid.default)
def _hardsigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


@_of(aten.hardsigmoid_backward.default)
def _hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.where((x > -3) & (x < 3), grad * SIXTH, 0.0)


@_of(aten.hardswish.default)
def _hardswish(x: Tensor) -> Tensor:
    made: Tensor = x * _hardsigmoid(x)
    return made


@_of(aten.hardswish_backward.default)
def _hardswish_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.where(x < -3, 0.0, torch.where(x <= 3, grad * (x / 3 + 0.5), grad))


@_of(aten.log_sigmoid_forward.default)
def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    z = (-x.abs()).exp()
    return x.clamp(max=0) - z.log1p(), z


@_of(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(grad: Tensor, x: Tensor, _: Tensor) -> Tensor:
    return grad * (-x).sigmoid()


@_of(aten.glu.default)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * b.sigmoid()


@_of(aten.glu_backward.default)
def _glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    a, b = x.chunk(2, dim)
    s = b.sigmoid()
    return torch.cat((grad * s, grad * a * s * (1 - s)), dim)


@_of(aten.addcmul.default)
def _addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + (a * b if value == 1 else value * a * b)


@_of(aten.addcdiv.default)
def _addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    return x + value * (a / b)


@_of(aten.lerp.Scalar, aten.lerp.Tensor)
def _lerp(a: Tensor, b: Tensor, weight: Any) -> Tensor:
    made: Tensor = a + weight * (b - a)
    return made


@_of(aten.pow.Scalar)
def _pow_of_scalar(base: float, x: Tensor) -> Tensor:
    return torch.pow(x.new_full((), base), x)
