"""Decompositions of activations and their gradients."""

from math import pi, sqrt

import torch
from torch import Tensor

from elman.engine.trace.decompositions import decomposes

aten = torch.ops.aten

SIXTH = 0.1666666716337204  # 1 / 6 in single precision, which torch uses in the gradient of hardsigmoid


@decomposes(aten.silu.default)
def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


@decomposes(aten.silu_backward.default)
def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    s = x.sigmoid()
    return grad * s * (1 + x * (1 - s))


@decomposes(aten.mish.default)
def _mish(x: Tensor) -> Tensor:
    return x * _softplus(x).tanh()


@decomposes(aten.mish_backward.default)
def _mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    t = _softplus(x).tanh()
    return grad * (t + x * x.sigmoid() * (1 - t * t))


@decomposes(aten.softplus.default)
def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    return torch.where(x * beta > threshold, x, (x * beta).exp().log1p() / beta)


@decomposes(aten.softplus_backward.default)
def _softplus_backward(grad: Tensor, x: Tensor, beta: float, threshold: float) -> Tensor:
    return torch.where(x * beta > threshold, grad, grad * (x * beta).sigmoid())


@decomposes(aten.elu.default)
def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, (x * input_scale).expm1() * (alpha * scale))


@decomposes(aten.celu.default)
def _celu(x: Tensor, alpha: float = 1) -> Tensor:
    return _elu(x, alpha, 1, 1 / alpha)


@decomposes(aten.elu_backward.default)
def _elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, value: Tensor
) -> Tensor:
    if is_result:
        negative_part = grad * input_scale * (value + alpha * scale)
    else:
        negative_part = grad * (input_scale * alpha * scale) * (value * input_scale).exp()
    return torch.where(value > 0, grad * scale, negative_part)


@decomposes(aten.gelu.default)
def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return x * _gelu_factor(x, approximate)


def _gelu_factor(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        return 0.5 * (1 + (sqrt(2 / pi) * (x + 0.044715 * x * x * x)).tanh())
    return 0.5 * (1 + (x * sqrt(0.5)).erf())


@decomposes(aten.gelu_backward.default)
def _gelu_backward(grad: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    factor = _gelu_factor(x, approximate)
    if approximate == "tanh":
        t = 2 * factor - 1
        slope = 0.5 * (1 - t * t) * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x)
    else:
        slope = (x * x * -0.5).exp() / sqrt(2 * pi)
    return grad * (factor + x * slope)


@decomposes(aten.leaky_relu.default)
def _leaky_relu(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, x * slope)


@decomposes(aten.leaky_relu_backward.default)
def _leaky_relu_backward(grad: Tensor, x: Tensor, slope: float, _: bool) -> Tensor:
    return torch.where(x > 0, grad, grad * slope)


@decomposes(aten._prelu_kernel.default)
def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * weight)


@decomposes(aten._prelu_kernel_backward.default)
def _prelu_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(x > 0, grad, grad * weight), torch.where(x > 0, 0.0, grad * x)


@decomposes(aten.hardtanh.default)
def _hardtanh(x: Tensor, low: float = -1, high: float = 1) -> Tensor:
    return x.clamp(low, high)


@decomposes(aten.hardtanh_backward.default)
def _hardtanh_backward(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    return torch.where((x > low) & (x < high), grad, 0.0)


@decomposes(aten.hardsigmoid.default)
def _hardsigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


@decomposes(aten.hardsigmoid_backward.default)
def _hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.where((x > -3) & (x < 3), grad * SIXTH, 0.0)


@decomposes(aten.hardswish.default)
def _hardswish(x: Tensor) -> Tensor:
    return x * _hardsigmoid(x)


@decomposes(aten.hardswish_backward.default)
def _hardswish_backward(grad: Tensor, x: Tensor) -> Tensor:
    return torch.where(x < -3, 0.0, torch.where(x <= 3, grad * (x / 3 + 0.5), grad))


@decomposes(aten.log_sigmoid_forward.default)
def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    z = (-x.abs()).exp()
    return x.clamp(max=0) - z.log1p(), z


@decomposes(aten.log_sigmoid_backward.default)
def _log_sigmoid_backward(grad: Tensor, x: Tensor, _: Tensor) -> Tensor:
    return grad * (-x).sigmoid()


@decomposes(aten.glu.default)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    a, b = x.chunk(2, dim)
    return a * b.sigmoid()


@decomposes(aten.glu_backward.default)
def _glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    a, b = x.chunk(2, dim)
    s = b.sigmoid()
    return torch.cat((grad * s, grad * a * s * (1 - s)), dim)
