"""Lowers the operations of `plan.operations` to expressions of C99, as text.

Each function takes the operation's arguments as torch passes them: the names of variables of type float, and Python
numbers. True is 1, False is 0; any number but 0 counts as true. `c_functions` has the functions whose names begin with
`elman_`; the others are in math.h.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten

Operation = Callable[..., str]
MAX_UNROLLED_POWER = 8  # larger exponents call a function


def number(value: Any) -> str:
    """Write a number as a constant of type float, or the name of a variable as it is."""
    if isinstance(value, str):
        return value
    rounded = torch.tensor(float(value), dtype=torch.float64).float().item()
    if math.isnan(rounded):
        return "elman_bits(0x7fc00000u)"
    if math.isinf(rounded):
        return "elman_bits(0x7f800000u)" if rounded > 0 else "-elman_bits(0x7f800000u)"
    text = f"{rounded:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def _operand(value: Any) -> str:
    text = number(value)
    return f"({text})" if text.startswith("-") else text


def _binary(sign: str) -> Operation:
    def compute(a: Any, b: Any, alpha: float = 1) -> str:
        scaled = _operand(b) if alpha == 1 else f"{_operand(alpha)} * {_operand(b)}"
        return f"{_operand(a)} {sign} {scaled}"

    return compute


_add, _sub, _mul, _div = map(_binary, "+-*/")


def _function(name: str) -> Operation:
    return lambda x: f"{name}({x})"


def _condition(text: str) -> str:
    return f"({text}) ? 1.0f : 0.0f"


def _comparison(sign: str) -> Operation:
    return lambda a, b: _condition(f"{_operand(a)} {sign} {_operand(b)}")


def _logical(sign: str) -> Operation:
    return lambda a, b: _condition(f"({a} != 0.0f) {sign} ({b} != 0.0f)")


def _not(x: str) -> str:
    return _condition(f"{x} == 0.0f")


def _where(condition: str, a: Any, b: Any) -> str:
    return f"{condition} != 0.0f ? {number(a)} : {number(b)}"


def _maximum(a: str, b: Any) -> str:
    return f"elman_maximum({a}, {number(b)})"


def _minimum(a: str, b: Any) -> str:
    return f"elman_minimum({a}, {number(b)})"


def _clamp(x: str, low: Any = None, high: Any = None) -> str:
    x = x if low is None else _maximum(x, low)
    return x if high is None else _minimum(x, high)


def _pow(x: str, exponent: Any) -> str:
    if exponent in (0.5, -0.5):
        return f"sqrtf({x})" if exponent > 0 else f"1.0f / sqrtf({x})"
    if isinstance(exponent, int | float) and 0 < abs(exponent) <= MAX_UNROLLED_POWER and exponent == int(exponent):
        power = " * ".join([x] * abs(int(exponent)))
        return power if exponent > 0 else f"1.0f / ({power})"
    return f"powf({x}, {number(exponent)})"


def _sign(x: str) -> str:
    return f"({_condition(f'{x} > 0.0f')}) - ({_condition(f'{x} < 0.0f')})"


LOWERING: dict[Any, Operation] = {
    aten.add.Tensor: _add,
    aten.add.Scalar: _add,
    aten.sub.Tensor: _sub,
    aten.sub.Scalar: _sub,
    aten.rsub.Scalar: lambda a, b, alpha=1: _sub(b, a, alpha),
    aten.mul.Tensor: _mul,
    aten.mul.Scalar: _mul,
    aten.div.Tensor: _div,
    aten.div.Scalar: _div,
    aten.neg.default: lambda x: f"-{x}",
    aten.reciprocal.default: lambda x: f"1.0f / {x}",
    aten.tanh.default: _function("elman_tanh"),
    aten.sigmoid.default: _function("elman_sigmoid"),
    aten.relu.default: lambda x: f"{x} < 0.0f ? 0.0f : {x}",  # a comparison with NaN is false: NaN propagates
    aten.tanh_backward.default: lambda grad, y: f"{grad} * (1.0f - {y} * {y})",
    aten.sigmoid_backward.default: lambda grad, y: f"{grad} * ({y} * (1.0f - {y}))",
    aten.threshold_backward.default: lambda grad, y, threshold: f"{y} <= {_operand(threshold)} ? 0.0f : {grad}",
    aten.exp.default: _function("elman_exp"),
    aten.expm1.default: _function("expm1f"),
    aten.log.default: _function("logf"),
    aten.log1p.default: _function("log1pf"),
    aten.sqrt.default: _function("sqrtf"),
    aten.rsqrt.default: lambda x: f"1.0f / sqrtf({x})",
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _pow,
    aten.abs.default: _function("fabsf"),
    aten.sign.default: _sign,
    aten.sgn.default: _sign,
    aten.floor.default: _function("floorf"),
    aten.ceil.default: _function("ceilf"),
    aten.round.default: _function("rintf"),
    aten.trunc.default: _function("truncf"),
    aten.sin.default: _function("sinf"),
    aten.cos.default: _function("cosf"),
    aten.atan.default: _function("atanf"),
    aten.sinh.default: _function("sinhf"),
    aten.cosh.default: _function("coshf"),
    aten.erf.default: _function("erff"),
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: lambda x, high: _clamp(x, None, high),
    aten.maximum.default: _maximum,
    aten.minimum.default: _minimum,
    aten.where.self: _where,
    aten.masked_fill.Scalar: lambda x, mask, value: _where(mask, value, x),
    aten.masked_fill.Tensor: lambda x, mask, value: _where(mask, value, x),
    aten.isnan.default: lambda x: _condition(f"{x} != {x}"),
    aten.logical_and.default: _logical("&&"),
    aten.bitwise_and.Tensor: _logical("&&"),
    aten.logical_or.default: _logical("||"),
    aten.bitwise_or.Tensor: _logical("||"),
    aten.logical_xor.default: _logical("!="),
    aten.bitwise_xor.Tensor: _logical("!="),
    aten.logical_not.default: _not,
    aten.bitwise_not.default: _not,
    aten.expand.default: lambda x, shape: x,
    aten.to.dtype: lambda x, dtype: x,
    **{
        getattr(getattr(aten, name), kind): _comparison(sign)
        for name, sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}.items()
        for kind in ("Tensor", "Scalar")
    },
}

#: combines two numbers into one, for a reduction over the columns of a row
COMBINE: dict[Any, Operation] = {
    aten.sum.dim_IntList: _add,
    aten.amax.default: _maximum,
    aten.amin.default: _minimum,
}
