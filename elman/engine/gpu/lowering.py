"""Lowers the operations of `plan.operations` to expressions of Triton, as text.

Each function takes the operation's arguments as torch passes them: the names of tiles (of the type `REAL`), and Python
numbers. True is 1, False is 0; any number but 0 counts as true. `gpu.functions` has the elementary functions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

aten = torch.ops.aten

Operation = Callable[..., str]
MAX_UNROLLED_POWER = 8  # larger exponents call a function


def number(value: Any) -> str:
    """Write a number, or the name of a tile, as an operand."""
    if isinstance(value, str):
        return value
    value = float(value)
    return repr(value) if math.isfinite(value) else f'float("{value}")'


def _binary(sign: str) -> Operation:
    def compute(a: Any, b: Any, alpha: float = 1) -> str:
        return f"{number(a)} {sign} {number(b)}" if alpha == 1 else f"{number(a)} {sign} {number(alpha)} * {number(b)}"

    return compute


_add, _sub, _mul, _div = map(_binary, "+-*/")


def _function(name: str) -> Operation:
    return lambda x: f"functions.{name}({x})"


def _of_triton(name: str) -> Operation:
    return lambda x: f"tl.{name}({x})"


def _condition(text: str) -> str:
    return f"tl.where({text}, 1.0, 0.0).to(REAL)"


def _comparison(sign: str) -> Operation:
    return lambda a, b: _condition(f"{number(a)} {sign} {number(b)}")


def _logical(sign: str) -> Operation:
    return lambda a, b: _condition(f"({a} != 0) {sign} ({b} != 0)")


def _not(x: str) -> str:
    return _condition(f"{x} == 0")


def _where(condition: str, a: Any, b: Any) -> str:
    return f"tl.where({condition} != 0, {number(a)}, {number(b)})"


def _maximum(a: str, b: Any) -> str:
    return f"functions.maximum({a}, {number(b)})"


def _minimum(a: str, b: Any) -> str:
    return f"functions.minimum({a}, {number(b)})"


def _clamp(x: str, low: Any = None, high: Any = None) -> str:
    x = x if low is None else _maximum(x, low)
    return x if high is None else _minimum(x, high)


def _sqrt(x: str) -> str:
    return f"functions.sqrt({x})"


def _pow(x: str, exponent: Any) -> str:
    if exponent in (0.5, -0.5):
        return _sqrt(x) if exponent > 0 else f"1.0 / {_sqrt(x)}"
    if isinstance(exponent, int | float) and 0 < abs(exponent) <= MAX_UNROLLED_POWER and exponent == int(exponent):
        power = " * ".join([x] * abs(int(exponent)))
        return power if exponent > 0 else f"1.0 / ({power})"
    return f"functions.power({x}, {number(exponent)})"


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
    aten.reciprocal.default: lambda x: f"1.0 / {x}",
    aten.tanh.default: _function("tanh"),
    aten.sigmoid.default: _function("sigmoid"),
    aten.relu.default: lambda x: f"tl.where({x} < 0, 0.0, {x})",  # a comparison with NaN is false: NaN propagates
    aten.tanh_backward.default: lambda grad, y: f"{grad} * (1.0 - {y} * {y})",
    aten.sigmoid_backward.default: lambda grad, y: f"{grad} * ({y} * (1.0 - {y}))",
    aten.threshold_backward.default: lambda grad, y, threshold: f"tl.where({y} <= {number(threshold)}, 0.0, {grad})",
    aten.exp.default: _function("exp"),
    aten.expm1.default: _function("expm1"),
    aten.log.default: _function("log"),
    aten.log1p.default: _function("log1p"),
    aten.sqrt.default: _sqrt,
    aten.rsqrt.default: lambda x: f"1.0 / {_sqrt(x)}",
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _pow,
    aten.abs.default: _of_triton("abs"),
    aten.sign.default: lambda x: f"{_condition(f'{x} > 0')} - {_condition(f'{x} < 0')}",
    aten.sgn.default: lambda x: f"{_condition(f'{x} > 0')} - {_condition(f'{x} < 0')}",
    aten.floor.default: _of_triton("floor"),
    aten.ceil.default: _of_triton("ceil"),
    aten.round.default: _function("rint"),
    aten.trunc.default: _function("trunc"),
    aten.sin.default: _function("sin"),
    aten.cos.default: _function("cos"),
    aten.atan.default: _function("atan"),
    aten.sinh.default: _function("sinh"),
    aten.cosh.default: _function("cosh"),
    aten.erf.default: _function("erf"),
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
    aten.logical_and.default: _logical("&"),
    aten.bitwise_and.Tensor: _logical("&"),
    aten.logical_or.default: _logical("|"),
    aten.bitwise_or.Tensor: _logical("|"),
    aten.logical_xor.default: _logical("^"),
    aten.bitwise_xor.Tensor: _logical("^"),
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


class RowReduction(NamedTuple):
    """How the columns of a tile are reduced to one, and how two tiles are combined: templates for `str.format`."""

    columns: str
    tiles: str


#: reductions over the columns of a row
COMBINE: dict[Any, RowReduction] = {
    aten.sum.dim_IntList: RowReduction("tl.sum({0}, axis=1, keep_dims=True)", "{0} + {1}"),
    aten.amax.default: RowReduction(
        "tl.reduce({0}, 1, functions.maximum, keep_dims=True)", "functions.maximum({0}, {1})"
    ),
    aten.amin.default: RowReduction(
        "tl.reduce({0}, 1, functions.minimum, keep_dims=True)", "functions.minimum({0}, {1})"
    ),
}
