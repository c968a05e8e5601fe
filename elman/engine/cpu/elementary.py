"""Elementary functions on vectors, within 4 units in the last place: `docs/numerics.md` has the measurements.

They rest on expm1(r) for |r| <= ln(2)/2, by its Taylor series made shorter, and on 2^n written into the exponent's
bits. What is not a number (NaN) stays so: it passes every clamp, for an ordered comparison with it is false.
"""

import math
import struct
from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import Code, Value

SERIES = {"float32": 9, "float64": 16}  # terms of Taylor's series
TERMS = {"float32": 5, "float64": 11}  # left of those from r^2 on: what is left out is at most 0.2 ulp
MANTISSA = {"float32": 23, "float64": 52}  # bits
ONE = {"float32": 9.1, "float64": 19.2}  # where tanh has come within half an ulp of 1
LARGEST = {"float32": 88.0, "float64": 709.0}  # whose exponential is a number, and that of its negative a normal one
# Where expm1 has come within half an ulp of -1; the logarithms of the smallest normal and of the largest number.
RANGE = {"float32": (-18.0, -87.33654, 88.72283), "float64": (-39.0, -708.3964185322641, 709.782712893384)}
LN2 = {  # in two parts: the first ends in zeros, so that its multiples are exact
    "float32": (0.693138122558594, 9.05800061445916e-06),
    "float64": (0.6931471803691238, 1.9082149292705877e-10),
}
LOG_TERMS = {"float32": 4, "float64": 10}


def tanh(code: Code, x: Value) -> Value:
    """With t = expm1(2 |x|), it is t / (t + 2), with the sign of x."""
    b = code.b
    a = _no_more_than(code, code.intrinsic("fabs", x), ONE[code.real.name])
    # Where n is large the error of one part of ln(2) does not matter: t / (t + 2) hardly depends on t.
    r, n = _reduced(code, b.fadd(a, a), exact=code.real.name != "float32")
    p = code.fma(b.fmul(r, r), _polynomial(code, r, _coefficients(code.real.name)), r)
    power = _power(code, n)
    t = code.fma(power, p, b.fsub(power, code.fill(1)))
    return code.intrinsic("copysign", b.fdiv(t, b.fadd(t, code.fill(2))), x)


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + exp(-x)); zero where that is below the smallest normal number."""
    limit = LARGEST[code.real.name]
    x = _no_more_than(code, x, limit - 1)
    x = _no_less_than(code, x, -limit)
    r, n = _reduced(code, code.b.fneg(x), exact=True)
    exponential = code.b.fmul(_power(code, n), _polynomial(code, r, [1, 1, *_coefficients(code.real.name)]))
    return code.b.fdiv(code.fill(1), code.b.fadd(code.fill(1), exponential))


def exp(code: Code, x: Value) -> Value:
    """2^n (1 + expm1(r)); zero where that is below the smallest normal number."""
    _, least, most = RANGE[code.real.name]
    r, power, twice = _in_two(code, x, least, most)
    found = code.b.fmul(code.b.fmul(power, _polynomial(code, r, [1, 1, *_coefficients(code.real.name)])), twice)
    found = _infinite(code, x, most, found)
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(least)), code.fill(0), found)


def expm1(code: Code, x: Value) -> Value:
    """The sum of 2^n m and 2^n - 1, where m is that of r: nothing is lost where x is small."""
    least, _, most = RANGE[code.real.name]
    r, power, twice = _in_two(code, x, least, most)
    p = code.fma(code.b.fmul(r, r), _polynomial(code, r, _coefficients(code.real.name)), r)
    less_one = code.b.fsub(power, code.b.fdiv(code.fill(1), twice))
    return _infinite(code, x, most, code.b.fmul(code.fma(power, p, less_one), twice))


def _in_two(code: Code, x: Value, least: float, most: float) -> tuple[Value, Value, Value]:
    """R, 2^n or half of it, and by what that is to be multiplied: the largest numbers are more than 2^n may be."""
    b = code.b
    r, n = _reduced(code, _no_less_than(code, _no_more_than(code, x, most), least), exact=True)
    large = b.fcmp_ordered(">", x, code.fill(1))
    power = _power(code, b.fsub(n, b.select(large, code.fill(1), code.fill(0))))
    return r, power, b.select(large, code.fill(2), code.fill(1))


def _infinite(code: Code, x: Value, most: float, found: Value) -> Value:
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(most)), code.fill(math.inf), found)


def log(code: Code, x: Value) -> Value:
    """With x = 2^k (1 + f), 1 + f around 1, and s = f / (2 + f): k ln(2) + f - f^2/2 + s (f^2/2 + R(s^2)).

    R is the rest of log(1 + f) = 2 s + 2/3 s^3 + 2/5 s^5 + ..., as in Sun's fdlibm.
    """
    b, real = code.b, code.real
    whole: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    root = ir.Constant(real.vector, [math.sqrt(0.5)] * real.lanes)
    digits = ir.Constant(whole, [MANTISSA[real.name]] * real.lanes)
    bits = b.bitcast(x, whole)
    k = b.ashr(b.sub(bits, b.bitcast(root, whole)), digits)
    f = b.fsub(b.bitcast(b.sub(bits, b.shl(k, digits)), real.vector), code.fill(1))
    k = b.sitofp(k, real.vector)
    s = b.fdiv(f, b.fadd(f, code.fill(2)))
    square, half = b.fmul(s, s), b.fmul(b.fmul(f, f), code.fill(0.5))
    rest = b.fmul(square, _polynomial(code, square, [2 / n for n in range(3, 2 * LOG_TERMS[real.name] + 3, 2)]))
    high, low = LN2[real.name]
    small = code.fma(s, b.fadd(half, rest), b.fmul(k, code.fill(low)))
    found = code.fma(k, code.fill(high), b.fsub(f, b.fsub(half, small)))
    found = b.select(b.fcmp_ordered("==", x, code.fill(math.inf)), x, found)
    none = b.select(b.fcmp_ordered("==", x, code.fill(0)), code.fill(-math.inf), code.fill(math.nan))
    return b.select(b.fcmp_ordered(">", x, code.fill(0)), found, none)


def log1p(code: Code, x: Value) -> Value:
    """log(u) of u = 1 + x, and what u has lost of x."""
    b = code.b
    u = b.fadd(x, code.fill(1))
    lost = b.fdiv(b.fsub(x, b.fsub(u, code.fill(1))), u)
    usual = b.and_(b.fcmp_ordered(">", u, code.fill(0)), b.fcmp_ordered("<", u, code.fill(math.inf)))
    return b.fadd(log(code, u), b.select(usual, lost, code.fill(0)))


def _no_less_than(code: Code, x: Value, limit: float) -> Value:
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(limit)), code.fill(limit), x)


def _no_more_than(code: Code, x: Value, limit: float) -> Value:
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(limit)), code.fill(limit), x)


def _reduced(code: Code, y: Value, exact: bool) -> tuple[Value, Value]:
    """R and n, in the last bits of a number, where y = n ln(2) + r; r loses nothing by a large n, if `exact`."""
    b, dtype = code.b, code.real.name
    # Adding 1.5 * 2^mantissa leaves n, rounded, in the last bits of the sum.
    shift = 1.5 * 2.0 ** MANTISSA[dtype]
    shifted = code.fma(y, code.fill(1 / math.log(2)), code.fill(shift))
    n = b.fsub(shifted, code.fill(shift))
    high = _rounded(math.log(2), dtype)
    r = code.fma(n, code.fill(-high), y)
    if exact:
        low = math.log(2) - high if dtype == "float32" else 2.319046813846299558e-17
        r = code.fma(n, code.fill(-low), r)
    return r, shifted


def _power(code: Code, n: Value) -> Value:
    """2^n, n in the last bits of a number: in the exponent's bits."""
    b, real = code.b, code.real
    whole: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    moved = b.shl(b.bitcast(n, whole), ir.Constant(whole, [MANTISSA[real.name]] * real.lanes))
    return b.bitcast(b.add(b.bitcast(code.fill(1), whole), moved), real.vector)


def _polynomial(code: Code, x: Value, coefficients: list[float]) -> Value:
    """The sum of c_k x^k, by Horner's scheme: the fewest operations, and other columns to fill the time it waits."""
    found = code.fill(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = code.fma(found, x, code.fill(coefficient))
    return found


def _coefficients(dtype: str) -> list[float]:
    """Of r^k, k >= 2, in expm1(r): Taylor's, but the highest terms replaced by what is nearest to them among the lower.

    That is, within |r| <= ln(2)/2 = a: r^k less its multiple of the Chebyshev polynomial T_k(r/a).
    """
    found = [1 / math.factorial(k) for k in range(2, SERIES[dtype] + 1)]
    half = math.log(2) / 2
    while len(found) > TERMS[dtype]:
        last, degree = found.pop(), len(found)
        chebyshev = _chebyshev(degree)
        scale = last * half**degree / chebyshev[degree]
        for k in range(degree):
            found[k] -= scale * chebyshev[k] / half**k
    return found


def _chebyshev(degree: int) -> list[int]:
    """The coefficients of T_n, for n >= 1: T_(k+1) = 2 x T_k - T_(k-1)."""
    before, found = [1], [0, 1]
    for _ in range(degree - 1):
        following = [0, *(2 * c for c in found)]
        for k, c in enumerate(before):
            following[k] -= c
        before, found = found, following
    return found


def _rounded(value: float, dtype: str) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0] if dtype == "float32" else value
    return rounded
