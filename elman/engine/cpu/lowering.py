"""Lowers the operations of `plan.operations` to LLVM IR on vectors.

Each function takes the IR builder and the operation's arguments as torch passes them: vectors, and Python numbers. True
is 1, False is 0; any number but 0 counts as true. `trace.decompositions` expresses larger operations in these.
"""

from collections.abc import Callable
from typing import Any

import torch

from elman.engine.cpu.elementary import exp, expm1, log, log1p, sigmoid, tanh
from elman.engine.cpu.ir_builder import Code, Value

aten = torch.ops.aten

Operation = Callable[..., Value]
Combine = Callable[[Code, Value, Value], Value]


def _add(code: Code, a: Any, b: Any, alpha: float = 1) -> Value:
    return code.b.fadd(_vector(code, a), _scaled(code, b, alpha))


def _sub(code: Code, a: Any, b: Any, alpha: float = 1) -> Value:
    return code.b.fsub(_vector(code, a), _scaled(code, b, alpha))


def _mul(code: Code, a: Any, b: Any) -> Value:
    return code.b.fmul(_vector(code, a), _vector(code, b))


def _div(code: Code, a: Any, b: Any) -> Value:
    return code.b.fdiv(_vector(code, a), _vector(code, b))


def _relu(code: Code, x: Value) -> Value:
    # An ordered comparison with NaN is false: NaN propagates.
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(0)), code.fill(0), x)


def _tanh_backward(code: Code, grad: Value, y: Value) -> Value:
    return code.b.fmul(grad, code.fma(code.b.fneg(y), y, code.fill(1)))


def _sigmoid_backward(code: Code, grad: Value, y: Value) -> Value:
    return code.b.fmul(grad, code.b.fmul(y, code.b.fsub(code.fill(1), y)))


def _threshold_backward(code: Code, grad: Value, y: Value, threshold: float) -> Value:
    above = code.b.fcmp_unordered(">", y, code.fill(threshold))
    return code.b.select(above, grad, code.fill(0))


def _sqrt(code: Code, x: Value) -> Value:
    return code.intrinsic("sqrt", x)


def _pow(code: Code, x: Value, exponent: Any) -> Value:
    one = code.fill(1)
    if exponent in (0.5, -0.5):
        root = _sqrt(code, x)
        return root if exponent > 0 else code.b.fdiv(one, root)
    if isinstance(exponent, int | float) and abs(exponent) <= MAX_UNROLLED_POWER and exponent == int(exponent):
        power, remaining = one, abs(int(exponent))
        while remaining:
            power, x, remaining = (code.b.fmul(power, x) if remaining % 2 else power), code.b.fmul(x, x), remaining // 2
        return power if exponent >= 0 else code.b.fdiv(one, power)
    return code.call_per_lane("pow", x, _vector(code, exponent))


MAX_UNROLLED_POWER = 8  # larger exponents call the C library


def _sign(code: Code, x: Value) -> Value:
    positive = _from_bool(code, code.b.fcmp_ordered(">", x, code.fill(0)))
    negative = _from_bool(code, code.b.fcmp_ordered("<", x, code.fill(0)))
    return code.b.fsub(positive, negative)


def _clamp(code: Code, x: Value, low: Any = None, high: Any = None) -> Value:
    x = x if low is None else _maximum(code, x, _vector(code, low))
    return x if high is None else _minimum(code, x, _vector(code, high))


def _maximum(code: Code, a: Value, b: Value) -> Value:
    return _select_or_nan(code, ">", a, b)


def _minimum(code: Code, a: Value, b: Value) -> Value:
    return _select_or_nan(code, "<", a, b)


def _select_or_nan(code: Code, sign: str, a: Value, b: Value) -> Value:
    # NaN in a or b propagates.
    first = code.b.or_(code.b.fcmp_ordered(sign, a, b), code.b.fcmp_unordered("uno", a, a))
    return code.b.select(first, a, b)


def _comparison(sign: str) -> Operation:
    def compare(code: Code, a: Any, b: Any) -> Value:
        # Only != is true where an operand is NaN.
        fcmp = code.b.fcmp_unordered if sign == "!=" else code.b.fcmp_ordered
        return _from_bool(code, fcmp(sign, _vector(code, a), _vector(code, b)))

    return compare


def _from_bool(code: Code, condition: Value) -> Value:
    return code.b.select(condition, code.fill(1), code.fill(0))


def _to_bool(code: Code, x: Value) -> Value:
    return code.b.fcmp_unordered("!=", x, code.fill(0))


def _where(code: Code, condition: Value, a: Any, b: Any) -> Value:
    return code.b.select(_to_bool(code, condition), _vector(code, a), _vector(code, b))


def _and(code: Code, a: Value, b: Value) -> Value:
    return _from_bool(code, code.b.and_(_to_bool(code, a), _to_bool(code, b)))


def _or(code: Code, a: Value, b: Value) -> Value:
    return _from_bool(code, code.b.or_(_to_bool(code, a), _to_bool(code, b)))


def _xor(code: Code, a: Value, b: Value) -> Value:
    return _from_bool(code, code.b.xor(_to_bool(code, a), _to_bool(code, b)))


def _not(code: Code, a: Value) -> Value:
    return code.b.select(_to_bool(code, a), code.fill(0), code.fill(1))


def _intrinsic(name: str) -> Operation:
    return lambda code, x: code.intrinsic(name, x)


def _c_function(name: str) -> Operation:
    return lambda code, x: code.call_per_lane(name, x)


LOWERING: dict[Any, Operation] = {
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
    aten.reciprocal.default: lambda code, x: code.b.fdiv(code.fill(1), x),
    aten.tanh.default: tanh,
    aten.sigmoid.default: sigmoid,
    aten.relu.default: _relu,
    aten.tanh_backward.default: _tanh_backward,
    aten.sigmoid_backward.default: _sigmoid_backward,
    aten.threshold_backward.default: _threshold_backward,
    aten.exp.default: exp,
    aten.expm1.default: expm1,
    aten.log.default: log,
    aten.log1p.default: log1p,
    aten.sqrt.default: _sqrt,
    aten.rsqrt.default: lambda code, x: code.b.fdiv(code.fill(1), _sqrt(code, x)),
    aten.pow.Tensor_Scalar: _pow,
    aten.pow.Tensor_Tensor: _pow,
    aten.abs.default: _intrinsic("fabs"),
    aten.sign.default: _sign,
    aten.sgn.default: _sign,
    aten.floor.default: _intrinsic("floor"),
    aten.ceil.default: _intrinsic("ceil"),
    aten.round.default: _intrinsic("roundeven"),
    aten.trunc.default: _intrinsic("trunc"),
    aten.sin.default: _c_function("sin"),
    aten.cos.default: _c_function("cos"),
    aten.atan.default: _c_function("atan"),
    aten.sinh.default: _c_function("sinh"),
    aten.cosh.default: _c_function("cosh"),
    aten.erf.default: _c_function("erf"),
    aten.clamp.default: _clamp,
    aten.clamp.Tensor: _clamp,
    aten.clamp_min.default: _clamp,
    aten.clamp_max.default: lambda code, x, high: _clamp(code, x, None, high),
    aten.maximum.default: _maximum,
    aten.minimum.default: _minimum,
    aten.where.self: _where,
    aten.masked_fill.Scalar: lambda code, x, mask, value: _where(code, mask, value, x),
    aten.masked_fill.Tensor: lambda code, x, mask, value: _where(code, mask, value, x),
    aten.isnan.default: lambda code, x: _from_bool(code, code.b.fcmp_unordered("uno", x, x)),
    aten.logical_and.default: _and,
    aten.bitwise_and.Tensor: _and,
    aten.logical_or.default: _or,
    aten.bitwise_or.Tensor: _or,
    aten.logical_xor.default: _xor,
    aten.bitwise_xor.Tensor: _xor,
    aten.logical_not.default: _not,
    aten.bitwise_not.default: _not,
    aten.expand.default: lambda code, x, shape: x,
    aten.to.dtype: lambda code, x, dtype: x,
    **{
        getattr(getattr(aten, name), kind): _comparison(sign)
        for name, sign in {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}.items()
        for kind in ("Tensor", "Scalar")
    },
}

#: combines two vectors into one, for a reduction over the columns of a row
COMBINE: dict[Any, Combine] = {
    aten.sum.dim_IntList: _add,
    aten.amax.default: _maximum,
    aten.amin.default: _minimum,
}


def _vector(code: Code, value: Any) -> Value:
    return code.fill(value) if isinstance(value, int | float) else value


def _scaled(code: Code, value: Any, alpha: float) -> Value:
    return _vector(code, value) if alpha == 1 else _mul(code, value, alpha)
