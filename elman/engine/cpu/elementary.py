"""Elementary functions on vectors, within 4 units in the last place: `docs/numerics.md` has the measurements.

They use expm1(r) for |r| <= ln(2)/2, from an economized Taylor series, and 2^n written into the bits of the exponent.
NaN propagates: it passes every clamp, because an ordered comparison with it is false.
"""

import math
import struct
from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import Code, Value

TAYLOR_DEGREE = {"float32": 9, "float64": 16}  # of the Taylor series before it is economized
TERMS = {"float32": 5, "float64": 11}  # that remain of those from r^2 on; the error is at most 0.2 ulp
MANTISSA_BITS = {"float32": 23, "float64": 52}
TANH_SATURATION = {"float32": 9.1, "float64": 19.2}  # from here on, tanh is within half an ulp of 1
# The exponential of the largest is finite, and that of its negative is a normal number.
SIGMOID_LIMIT = {"float32": 88.0, "float64": 709.0}
# From where down expm1 is within half an ulp of -1; the logarithms of the smallest normal and of the largest number.
EXP_RANGE = {"float32": (-18.0, -87.33654, 88.72283), "float64": (-39.0, -708.3964185322641, 709.782712893384)}
LN2 = {  # in two parts: the first ends in zero bits, so that its multiples are exact
    "float32": (0.693138122558594, 9.05800061445916e-06),
    "float64": (0.6931471803691238, 1.9082149292705877e-10),
}
LOG_TERMS = {"float32": 4, "float64": 10}


def tanh(code: Code, x: Value) -> Value:
    """Hyperbolic tangent: t / (t + 2) for t = expm1(2 |x|), with the sign of x."""
    b = code.b
    a = _clamp_max(code, code.intrinsic("fabs", x), TANH_SATURATION[code.real.name])
    # For float32 one part of ln(2) is exact enough: where n is large, t / (t + 2) hardly depends on t.
    r, n = _reduce_range(code, b.fadd(a, a), exact=code.real.name != "float32")
    p = code.fma(b.fmul(r, r), _polynomial(code, r, _coefficients(code.real.name)), r)
    power = _power_of_two(code, n)
    t = code.fma(power, p, b.fsub(power, code.fill(1)))
    return code.intrinsic("copysign", b.fdiv(t, b.fadd(t, code.fill(2))), x)


def sigmoid(code: Code, x: Value) -> Value:
    """Logistic function: 1 / (1 + exp(-x)); zero where that is below the smallest normal number."""
    limit = SIGMOID_LIMIT[code.real.name]
    x = _clamp_max(code, x, limit - 1)
    x = _clamp_min(code, x, -limit)
    r, n = _reduce_range(code, code.b.fneg(x), exact=True)
    exponential = code.b.fmul(_power_of_two(code, n), _polynomial(code, r, [1, 1, *_coefficients(code.real.name)]))
    return code.b.fdiv(code.fill(1), code.b.fadd(code.fill(1), exponential))


def exp(code: Code, x: Value) -> Value:
    """Exponential: 2^n (1 + expm1(r)); zero where that is below the smallest normal number."""
    _, low, high = EXP_RANGE[code.real.name]
    r, power, scale = _split_power(code, x, low, high)
    result = code.b.fmul(code.b.fmul(power, _polynomial(code, r, [1, 1, *_coefficients(code.real.name)])), scale)
    result = _overflow(code, x, high, result)
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(low)), code.fill(0), result)


def expm1(code: Code, x: Value) -> Value:
    """Exponential minus one: 2^n (exp(r) - 1) + (2^n - 1), which loses no digits where x is small."""
    low, _, high = EXP_RANGE[code.real.name]
    r, power, scale = _split_power(code, x, low, high)
    p = code.fma(code.b.fmul(r, r), _polynomial(code, r, _coefficients(code.real.name)), r)
    power_minus_one = code.b.fsub(power, code.b.fdiv(code.fill(1), scale))
    return _overflow(code, x, high, code.b.fmul(code.fma(power, p, power_minus_one), scale))


def _split_power(code: Code, x: Value, low: float, high: float) -> tuple[Value, Value, Value]:
    """Return r, and 2^n as a product of two factors: near the largest numbers, 2^n itself would overflow."""
    b = code.b
    r, n = _reduce_range(code, _clamp_min(code, _clamp_max(code, x, high), low), exact=True)
    is_large = b.fcmp_ordered(">", x, code.fill(1))
    power = _power_of_two(code, b.fsub(n, b.select(is_large, code.fill(1), code.fill(0))))
    return r, power, b.select(is_large, code.fill(2), code.fill(1))


def _overflow(code: Code, x: Value, high: float, result: Value) -> Value:
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(high)), code.fill(math.inf), result)


def log(code: Code, x: Value) -> Value:
    """Logarithm: k ln(2) + f - f^2/2 + s (f^2/2 + R(s^2)), for x = 2^k (1 + f) and s = f / (2 + f).

    1 + f is near 1. R is the remainder of log(1 + f) = 2 s + 2/3 s^3 + 2/5 s^5 + ..., as in Sun's fdlibm.
    """
    b, real = code.b, code.real
    integers: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    root = ir.Constant(real.vector, [math.sqrt(0.5)] * real.lanes)
    shift = ir.Constant(integers, [MANTISSA_BITS[real.name]] * real.lanes)
    bits = b.bitcast(x, integers)
    k = b.ashr(b.sub(bits, b.bitcast(root, integers)), shift)
    f = b.fsub(b.bitcast(b.sub(bits, b.shl(k, shift)), real.vector), code.fill(1))
    k = b.sitofp(k, real.vector)
    s = b.fdiv(f, b.fadd(f, code.fill(2)))
    square, half = b.fmul(s, s), b.fmul(b.fmul(f, f), code.fill(0.5))
    remainder = b.fmul(square, _polynomial(code, square, [2 / n for n in range(3, 2 * LOG_TERMS[real.name] + 3, 2)]))
    high, low = LN2[real.name]
    small = code.fma(s, b.fadd(half, remainder), b.fmul(k, code.fill(low)))
    result = code.fma(k, code.fill(high), b.fsub(f, b.fsub(half, small)))
    result = b.select(b.fcmp_ordered("==", x, code.fill(math.inf)), x, result)
    undefined = b.select(b.fcmp_ordered("==", x, code.fill(0)), code.fill(-math.inf), code.fill(math.nan))
    return b.select(b.fcmp_ordered(">", x, code.fill(0)), result, undefined)


def log1p(code: Code, x: Value) -> Value:
    """Logarithm of 1 + x: log(u) for u = 1 + x, plus a correction for what rounding u has lost of x."""
    b = code.b
    u = b.fadd(x, code.fill(1))
    lost = b.fdiv(b.fsub(x, b.fsub(u, code.fill(1))), u)
    in_range = b.and_(b.fcmp_ordered(">", u, code.fill(0)), b.fcmp_ordered("<", u, code.fill(math.inf)))
    return b.fadd(log(code, u), b.select(in_range, lost, code.fill(0)))


def _clamp_min(code: Code, x: Value, limit: float) -> Value:
    return code.b.select(code.b.fcmp_ordered("<", x, code.fill(limit)), code.fill(limit), x)


def _clamp_max(code: Code, x: Value, limit: float) -> Value:
    return code.b.select(code.b.fcmp_ordered(">", x, code.fill(limit)), code.fill(limit), x)


def _reduce_range(code: Code, y: Value, exact: bool) -> tuple[Value, Value]:
    """Return r and, in the last bits of a number, n, where y = n ln(2) + r; `exact` keeps r accurate for large n."""
    b, dtype = code.b, code.real.name
    # Adding 1.5 * 2^mantissa bits leaves n, rounded to an integer, in the last bits of the sum.
    shift = 1.5 * 2.0 ** MANTISSA_BITS[dtype]
    shifted = code.fma(y, code.fill(1 / math.log(2)), code.fill(shift))
    n = b.fsub(shifted, code.fill(shift))
    high = _round_to(math.log(2), dtype)
    r = code.fma(n, code.fill(-high), y)
    if exact:
        low = math.log(2) - high if dtype == "float32" else 2.319046813846299558e-17
        r = code.fma(n, code.fill(-low), r)
    return r, shifted


def _power_of_two(code: Code, n: Value) -> Value:
    """Compute 2^n, for n in the last bits of a number, by adding n to the exponent of 1."""
    b, real = code.b, code.real
    integers: Any = ir.VectorType(ir.IntType(8 * real.bytes), real.lanes)
    exponent = b.shl(b.bitcast(n, integers), ir.Constant(integers, [MANTISSA_BITS[real.name]] * real.lanes))
    return b.bitcast(b.add(b.bitcast(code.fill(1), integers), exponent), real.vector)


def _polynomial(code: Code, x: Value, coefficients: list[float]) -> Value:
    """Compute the sum of c_k x^k by Horner's scheme: the fewest operations; other columns hide its latency."""
    result = code.fill(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = code.fma(result, x, code.fill(coefficient))
    return result


def _coefficients(dtype: str) -> list[float]:
    """Return the coefficients of r^k, k >= 2, in expm1(r): an economized Taylor series for |r| <= ln(2)/2 = a.

    Each of the highest terms is replaced by its best approximation of lower degree: r^k minus the multiple of the
    Chebyshev polynomial T_k(r/a) with the same leading coefficient.
    """
    coefficients = [1 / math.factorial(k) for k in range(2, TAYLOR_DEGREE[dtype] + 1)]
    half = math.log(2) / 2
    while len(coefficients) > TERMS[dtype]:
        leading, degree = coefficients.pop(), len(coefficients)
        chebyshev = _chebyshev(degree)
        scale = leading * half**degree / chebyshev[degree]
        for k in range(degree):
            coefficients[k] -= scale * chebyshev[k] / half**k
    return coefficients


def _chebyshev(degree: int) -> list[int]:
    """Return the coefficients of T_n, for n >= 1, by T_(k+1) = 2 x T_k - T_(k-1)."""
    previous, current = [1], [0, 1]
    for _ in range(degree - 1):
        following = [0, *(2 * c for c in current)]
        for k, c in enumerate(previous):
            following[k] -= c
        previous, current = current, following
    return current


def _round_to(value: float, dtype: str) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0] if dtype == "float32" else value
    return rounded
