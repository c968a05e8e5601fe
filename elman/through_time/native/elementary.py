"""Elementary functions on vectors, within 4 units in the last place: `docs/numerics.md` has the measurements.

They rest on expm1(r) for |r| <= ln(2)/2, by its Taylor series, and on 2^n written into the exponent's bits. What is not
a number (NaN) stays so: it passes every clamp, for an ordered comparison with it is false.
"""

import math
import struct
from typing import Any

from llvmlite import ir

from elman.through_time.native.writer import Code, Value

TERMS = {"float32": 7, "float64": 13}  # of the series
MANTISSA = {"float32": 23, "float64": 52}  # bits
BIAS = {"float32": 127, "float64": 1023}  # of the exponent
ONE = {"float32": 9.1, "float64": 19.2}  # where tanh has come within half an ulp of 1
LARGEST = {"float32": 88.0, "float64": 709.0}  # whose exponential is a number, and that of its negative a normal one


def tanh(code: Code, x: Value) -> Value:
    """With t = expm1(2 |x|), it is t / (t + 2), with the sign of x."""
    b = code.b
    a = _no_more_than(code, code.intrinsic("fabs", x), ONE[code.real.name])
    power, p = _expm1_parts(code, b.fadd(a, a))
    t = code.fma(power, p, b.fsub(power, code.fill(1)))
    return code.intrinsic("copysign", b.fdiv(t, b.fadd(t, code.fill(2))), x)


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + exp(-x)); zero where that is below the smallest normal number."""
    limit = LARGEST[code.real.name]
    y = _no_more_than(code, code.b.fneg(x), limit)
    y = code.b.select(code.b.fcmp_ordered("<", y, code.fill(1 - limit)), code.fill(1 - limit), y)
    power, p = _expm1_parts(code, y)
    return code.b.fdiv(code.fill(1), code.b.fadd(code.fill(1), code.fma(power, p, power)))


def _no_more_than(code: Code, x: Value, limit: float) -> Value:
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(limit)), code.fill(limit), x)


def _expm1_parts(code: Code, y: Value) -> tuple[Value, Value]:
    """2^n and expm1(r), where y = n ln(2) + r and |r| <= ln(2)/2."""
    b, real = code.b, code.real
    terms, mantissa, bias = (table[real.name] for table in (TERMS, MANTISSA, BIAS))
    # Adding 1.5 * 2^mantissa leaves n, rounded, in the last bits of the sum.
    shift = 1.5 * 2.0**mantissa
    shifted = code.fma(y, code.fill(1 / math.log(2)), code.fill(shift))
    n = b.fsub(shifted, code.fill(shift))
    # ln(2) in two parts, so that the product with n loses nothing.
    high = _rounded(math.log(2), real.name)
    low = math.log(2) - high if real.name == "float32" else 2.319046813846299558e-17
    r = code.fma(n, code.fill(-low), code.fma(n, code.fill(-high), y))
    square = b.fmul(r, r)
    p = code.fma(square, _polynomial(code, r, square, [1 / math.factorial(k) for k in range(2, terms + 1)]), r)
    whole: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    bits = b.shl(b.bitcast(shifted, whole), ir.Constant(whole, [mantissa] * real.lanes))
    power = b.add(bits, ir.Constant(whole, [bias << mantissa] * real.lanes))
    return b.bitcast(power, real.vector), p


def _polynomial(code: Code, x: Value, square: Value, coefficients: list[float]) -> Value:
    """The sum of c_k x^k, by Estrin's scheme: pairs, then pairs of pairs, which need not wait for each other."""
    terms: list[Any] = [code.fill(c) for c in coefficients]
    power = x
    while len(terms) > 1:
        pairs = zip(terms[0::2], terms[1::2], strict=False)
        last = terms[-1:] if len(terms) % 2 else []
        terms = [code.fma(odd, power, even) for even, odd in pairs] + last
        power = square if power is x else code.b.fmul(power, power)
    return terms[0]


def _rounded(value: float, dtype: str) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0] if dtype == "float32" else value
    return rounded
