"""Elementary functions on vectors, within 4 units in the last place: `docs/numerics.md` has the measurements.

Both rest on expm1(r) for |r| <= ln(2)/2, by its Taylor series, and on 2^n written into the exponent's bits. Values that
are not numbers (NaN) stay so; nothing in here traps.
"""

import math
import struct
from typing import Any

from llvmlite import ir

from elman.through_time.native.writer import Code, Value

# dtype: terms of the series, bits of the mantissa, largest |x| at which tanh differs from 1 by more than half an ulp
LIMITS = {"float32": (7, 23, 9.1), "float64": (13, 52, 19.2)}


def tanh(code: Code, x: Value) -> Value:
    """T / (t + 2), where t = expm1(2 |x|), with the sign of x."""
    limit = LIMITS[code.real.name][2]
    a = code.intrinsic("fabs", x)
    a = _no_more_than(code, a, limit)
    power, p = _expm1_parts(code, code.b.fadd(a, a))
    t = code.fma(power, p, code.b.fsub(power, code.fill(1)))
    return code.intrinsic("copysign", code.b.fdiv(t, code.b.fadd(t, code.fill(2))), x)


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return code.b.fdiv(code.fill(1), code.b.fadd(code.fill(1), exp(code, code.b.fneg(x))))


def exp(code: Code, x: Value) -> Value:
    """Of x, its exponential; what is below the smallest normal number is zero."""
    mantissa = LIMITS[code.real.name][1]
    bias = 127 if mantissa == 23 else 1023
    inside = _no_more_than(code, x, (bias + 1.4) * math.log(2))
    low = (1 - bias) * math.log(2)
    inside = code.b.select(code.b.fcmp_ordered("<", inside, code.fill(low)), code.fill(low), inside)
    power, p = _expm1_parts(code, inside)
    return code.fma(power, p, power)


def _no_more_than(code: Code, x: Value, limit: float) -> Value:
    # An ordered comparison with NaN is false, so NaN passes.
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(limit)), code.fill(limit), x)


def _expm1_parts(code: Code, y: Value) -> tuple[Value, Value]:
    """2^n and expm1(r), where y = n ln(2) + r and |r| <= ln(2)/2."""
    terms, mantissa, _ = LIMITS[code.real.name]
    b, real = code.b, code.real
    # Adding 1.5 * 2^mantissa leaves n, rounded, in the last bits of the sum.
    shift = 1.5 * 2.0**mantissa
    shifted = code.fma(y, code.fill(1 / math.log(2)), code.fill(shift))
    n = b.fsub(shifted, code.fill(shift))
    # ln(2) in two parts, so that the product with n loses nothing.
    high = _rounded(math.log(2), real.name)
    low = math.log(2) - high if real.name == "float32" else 2.319046813846299558e-17
    r = code.fma(n, code.fill(-low), code.fma(n, code.fill(-high), y))
    series = code.fill(1 / math.factorial(terms))
    for k in range(terms - 1, 1, -1):
        series = code.fma(series, r, code.fill(1 / math.factorial(k)))
    p = code.fma(b.fmul(r, r), series, r)
    whole: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    bias = 127 if mantissa == 23 else 1023
    bits = b.shl(b.bitcast(shifted, whole), ir.Constant(whole, [mantissa] * real.lanes))
    power = b.add(bits, ir.Constant(whole, [bias << mantissa] * real.lanes))
    return b.bitcast(power, real.vector), p


def _rounded(value: float, dtype: str) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0] if dtype == "float32" else value
    return rounded
