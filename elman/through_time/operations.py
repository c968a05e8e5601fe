"""The table of operations: what the native executor can do element by element, and how it is written as vector code.

A row takes the code being written and the operation's arguments as torch gives them: vectors, and Python numbers.
"""

from collections.abc import Callable
from typing import Any

import torch

from elman.through_time.native.elementary import sigmoid, tanh
from elman.through_time.native.writer import Code, Value

aten = torch.ops.aten


def _add(code: Code, a: Any, b: Any, alpha: float = 1) -> Value:
    return code.b.fadd(_vector(code, a), _scaled(code, b, alpha))


def _sub(code: Code, a: Any, b: Any, alpha: float = 1) -> Value:
    return code.b.fsub(_vector(code, a), _scaled(code, b, alpha))


def _mul(code: Code, a: Any, b: Any) -> Value:
    return code.b.fmul(_vector(code, a), _vector(code, b))


def _div(code: Code, a: Any, b: Any) -> Value:
    return code.b.fdiv(_vector(code, a), _vector(code, b))


def _relu(code: Code, x: Value) -> Value:
    # NaN is not below zero, and stays.
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(0)), code.fill(0), x)


def _tanh_backward(code: Code, grad: Value, y: Value) -> Value:
    return code.b.fmul(grad, code.fma(code.b.fneg(y), y, code.fill(1)))


def _sigmoid_backward(code: Code, grad: Value, y: Value) -> Value:
    return code.b.fmul(grad, code.b.fmul(y, code.b.fsub(code.fill(1), y)))


def _threshold_backward(code: Code, grad: Value, y: Value, threshold: float) -> Value:
    above = code.b.fcmp_unordered(">", y, code.fill(threshold))
    return code.b.select(above, grad, code.fill(0))


POINTWISE: dict[Any, Callable[..., Value]] = {
    aten.add.Tensor: _add,
    aten.add.Scalar: _add,
    aten.sub.Tensor: _sub,
    aten.sub.Scalar: _sub,
    aten.rsub.Scalar: lambda code, a, b, alpha=1: _sub(code, b, a, alpha),
    aten.mul.Tensor: _mul,
    aten.mul.Scalar: _mul,
    aten.div.Tensor: _div,
    aten.div.Scalar: _div,
    aten.neg.default: lambda code, x: code.b.fneg(x),
    aten.tanh.default: tanh,
    aten.sigmoid.default: sigmoid,
    aten.relu.default: _relu,
    aten.tanh_backward.default: _tanh_backward,
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.threshold_backward.default: _threshold_backward,
}


def _vector(code: Code, value: Any) -> Value:
    return code.fill(value) if isinstance(value, int | float) else value


def _scaled(code: Code, value: Any, alpha: float) -> Value:
    return _vector(code, value) if alpha == 1 else _mul(code, value, alpha)
