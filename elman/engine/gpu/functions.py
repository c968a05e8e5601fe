"""Elementary functions that the generated kernels call, for tiles of any shape, in the precision of their argument.

Kernels that are compiled take them from CUDA's libdevice, whose functions are within a few units in the last place.
Triton's interpreter has no libdevice, so there NumPy computes them.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.language.extra import libdevice

#: kernels are run by Triton's interpreter, on tensors of the CPU
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def maximum(a: Any, b: Any) -> Any:
    """The larger of two numbers; NaN if one of them is NaN."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def minimum(a: Any, b: Any) -> Any:
    """The smaller of two numbers; NaN if one of them is NaN."""
    return tl.where((a < b) | (a != a), a, b)


if INTERPRETED:

    def _by_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
        from triton.runtime.interpreter import TensorHandle

        def compute(x: Any, *others: Any) -> Any:
            with np.errstate(all="ignore"):
                numbers = function(x.handle.data, *(getattr(y, "handle", y) for y in others))
            handle = TensorHandle(numbers.astype(x.handle.data.dtype), x.handle.dtype)
            return tl.core.tensor(handle, x.type)

        return compute

    def _sigmoid(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    exp, expm1, log, log1p, sqrt = map(_by_numpy, (np.exp, np.expm1, np.log, np.log1p, np.sqrt))
    sin, cos, atan, sinh, cosh = map(_by_numpy, (np.sin, np.cos, np.arctan, np.sinh, np.cosh))
    tanh, sigmoid, rint, trunc = map(_by_numpy, (np.tanh, _sigmoid, np.rint, np.trunc))
    erf = _by_numpy(np.vectorize(math.erf))

    def power(x: Any, exponent: Any) -> Any:
        """X to a power, a number or a tile."""
        x = x + exponent * 0
        exponent = x * 0 + exponent
        return _by_numpy(lambda a: np.power(a, exponent.handle.data))(x)

else:

    @triton.jit
    def exp(x: Any) -> Any:
        return libdevice.exp(x)

    @triton.jit
    def expm1(x: Any) -> Any:
        return libdevice.expm1(x)

    @triton.jit
    def log(x: Any) -> Any:
        return libdevice.log(x)

    @triton.jit
    def log1p(x: Any) -> Any:
        return libdevice.log1p(x)

    @triton.jit
    def sqrt(x: Any) -> Any:
        return libdevice.sqrt(x)

    @triton.jit
    def sin(x: Any) -> Any:
        return libdevice.sin(x)

    @triton.jit
    def cos(x: Any) -> Any:
        return libdevice.cos(x)

    @triton.jit
    def atan(x: Any) -> Any:
        return libdevice.atan(x)

    @triton.jit
    def sinh(x: Any) -> Any:
        return libdevice.sinh(x)

    @triton.jit
    def cosh(x: Any) -> Any:
        return libdevice.cosh(x)

    @triton.jit
    def tanh(x: Any) -> Any:
        return libdevice.tanh(x)

    @triton.jit
    def sigmoid(x: Any) -> Any:
        return 1 / (1 + libdevice.exp(-x))

    @triton.jit
    def rint(x: Any) -> Any:
        return libdevice.rint(x)

    @triton.jit
    def trunc(x: Any) -> Any:
        return libdevice.trunc(x)

    @triton.jit
    def erf(x: Any) -> Any:
        return libdevice.erf(x)

    @triton.jit
    def power(x: Any, exponent: Any) -> Any:
        """X to a power, a number or a tile."""
        return libdevice.pow(x + exponent * 0, x * 0 + exponent)
