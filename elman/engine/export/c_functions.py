"""The functions that exported C calls: exponentials in plain C that compilers turn into vector instructions.

Those of the C library are scalar, and a loop that calls them stays so. exp and sigmoid reduce the argument to
|r| <= ln(2)/2, evaluate a polynomial there and write 2^n into the bits of the exponent, as `cpu.elementary` does. tanh
is a minimax ratio of polynomials, which takes a third fewer operations: a step takes 8 to 10 % less time. Errors are
below 1.5 units in the last place for exp, 3 for sigmoid and 5 for tanh (`tests/export/test_c.py`). Below the smallest
normal number, results may be zero. NaN propagates: a comparison with it is false.
"""

import re
from collections.abc import Iterable

_DEFINITIONS = {
    "elman_bits": """
static inline float elman_bits(uint32_t bits)
{
    union { uint32_t i; float f; } u;
    u.i = bits;
    return u.f;
}""",
    "elman_choose": """
/* condition ? a : b, without a branch, which compilers would copy the rest of a loop for */
static inline float elman_choose(int condition, float a, float b)
{
    union { float f; uint32_t i; } u, v;
    const uint32_t mask = 0u - (uint32_t)condition;
    u.f = a;
    v.f = b;
    u.i = (u.i & mask) | (v.i & ~mask);
    return u.f;
}""",
    "elman_power": """
/* 2^n, for the whole number n in the last bits of a float */
static inline float elman_power(float shifted)
{
    union { float f; uint32_t i; } u;
    u.f = shifted;
    u.i = (u.i << 23) + 0x3f800000u;
    return u.f;
}""",
    "elman_expm1_reduced": """
/* exp(r) - 1 for |r| <= ln(2) / 2 */
static inline float elman_expm1_reduced(float r)
{
    const float p = 0.041666467f + r * (0.008363175f + r * 0.0013933574f);
    return r + r * r * (0.5f + r * (0.16666576f + r * p));
}""",
    "elman_exp": """
static inline float elman_exp(float x)
{
    const float high = elman_choose(x > 88.72283f, 88.72283f, x);
    const float y = elman_choose(high < -87.33654f, -87.33654f, high);
    const float shifted = y * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = (y - n * 0.693138122558594f) - n * 9.05800061445916e-06f;
    const float half = elman_choose(y > 1.0f, 1.0f, 0.0f); /* 2^128 is no float: it is 2^127 times 2 */
    const float value = (1.0f + elman_expm1_reduced(r)) * elman_power(shifted - half) * (1.0f + half);
    const float bounded = elman_choose(x > 88.72283f, elman_bits(0x7f800000u), value);
    return elman_choose(x < -87.33654f, 0.0f, bounded);
}""",
    "elman_sigmoid": """
static inline float elman_sigmoid(float x)
{
    const float high = elman_choose(x > 87.0f, 87.0f, x);
    const float y = -elman_choose(high < -88.0f, -88.0f, high);
    const float shifted = y * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = (y - n * 0.693138122558594f) - n * 9.05800061445916e-06f;
    return 1.0f / (1.0f + (1.0f + elman_expm1_reduced(r)) * elman_power(shifted));
}""",
    "elman_tanh": """
/* a ratio of two polynomials, beyond whose last point tanh is 1 */
static inline float elman_tanh(float x)
{
    const float low = elman_choose(x < -7.9f, -7.9f, x);
    const float a = elman_choose(low > 7.9f, 7.9f, low);
    const float s = a * a;
    const float p = 0.0029921068f + s * (9.939269e-06f + s * (-1.4906464e-08f + s * 2.4105684e-11f));
    const float q = 1.0f + s * (0.46318236f + s * (0.024053134f + s * 0.00023808813f));
    return a * (1.0f + s * (0.1298492f + s * p)) / q;
}""",
    "elman_maximum": """
static inline float elman_maximum(float a, float b)
{
    return a > b || a != a ? a : b;
}""",
    "elman_minimum": """
static inline float elman_minimum(float a, float b)
{
    return a < b || a != a ? a : b;
}""",
}

_TWO_ARGUMENTS = {"powf"}
_LIBRARY = re.compile(
    r"\b(powf|expm1f|logf|log1pf|sqrtf|fabsf|floorf|ceilf|rintf|truncf|sinf|cosf|atanf|sinhf|coshf|erff)\("
)


def functions_called(text: str) -> list[str]:
    """Return the definitions of the functions that a text calls, and of those that these call, in order."""
    used: set[str] = set()
    pending = [text]
    while pending:
        part = pending.pop()
        for name, definition in _DEFINITIONS.items():
            if name not in used and re.search(rf"\b{name}\(", part):
                used.add(name)
                pending.append(definition)
    return [definition.strip() for name, definition in _DEFINITIONS.items() if name in used]


def library_functions(text: str) -> list[str]:
    """Return the declarations of the functions of math.h that a text calls.

    They are declared rather than included, which C allows: a compiler without a C library has no math.h, and computes
    most of them by instructions of its own.
    """
    names: Iterable[str] = sorted(set(_LIBRARY.findall(text)))
    return [f"float {name}({'float, float' if name in _TWO_ARGUMENTS else 'float'});" for name in names]
