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
def maximum(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """The larger of two numbers; NaN if one of them is NaN."""
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def minimum(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """The smaller of two numbers; NaN if one of them is NaN."""
    return tl.where((a < b) | (a != a), a, b)


if INTERPRETED:

    def _by_numpy(function: Any) -> Callable[..., Any]:
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

    def dot(left: Any, right: Any, total: Any, precision: Any) -> Any:
        """Add a matrix product to a tile, with the left factor rounded to the dtype of the right one."""
        left = left.to(right.dtype).to(total.dtype)  # NumPy has no bfloat16
        return tl.dot(left, right.to(total.dtype), total, input_precision=precision, out_dtype=total.dtype)

    def power(x: Any, exponent: Any) -> Any:
        """X to a power, a number or a tile."""
        x = x + exponent * 0
        exponent = x * 0 + exponent
        return _by_numpy(lambda a: np.power(a, exponent.handle.data))(x)

else:

    @triton.jit
    def dot(left: tl.tensor, right: tl.tensor, total: tl.tensor, precision: tl.constexpr) -> tl.tensor:
        """Add a matrix product to a tile, with the left factor rounded to the dtype of the right one."""
        return tl.dot(left.to(right.dtype), right, total, input_precision=precision, out_dtype=total.dtype)

    @triton.jit
    def exp(x: tl.tensor) -> tl.tensor:
        return libdevice.exp(x)

    @triton.jit
    def expm1(x: tl.tensor) -> tl.tensor:
        return libdevice.expm1(x)

    @triton.jit
    def log(x: tl.tensor) -> tl.tensor:
        return libdevice.log(x)

    @triton.jit
    def log1p(x: tl.tensor) -> tl.tensor:
        return libdevice.log1p(x)

    @triton.jit
    def sqrt(x: tl.tensor) -> tl.tensor:
        return libdevice.sqrt(x)

    @triton.jit
    def sin(x: tl.tensor) -> tl.tensor:
        return libdevice.sin(x)

    @triton.jit
    def cos(x: tl.tensor) -> tl.tensor:
        return libdevice.cos(x)

    @triton.jit
    def atan(x: tl.tensor) -> tl.tensor:
        return libdevice.atan(x)

    @triton.jit
    def sinh(x: tl.tensor) -> tl.tensor:
        return libdevice.sinh(x)

    @triton.jit
    def cosh(x: tl.tensor) -> tl.tensor:
        return libdevice.cosh(x)

    @triton.jit
    def tanh(x: tl.tensor) -> tl.tensor:
        return libdevice.tanh(x)

    @triton.jit
    def sigmoid(x: tl.tensor) -> tl.tensor:
        return 1 / (1 + libdevice.exp(-x))

    @triton.jit
    def rint(x: tl.tensor) -> tl.tensor:
        return libdevice.rint(x)

    @triton.jit
    def trunc(x: tl.tensor) -> tl.tensor:
        return libdevice.trunc(x)

    @triton.jit
    def erf(x: tl.tensor) -> tl.tensor:
        return libdevice.erf(x)

    @triton.jit
    def power(x: tl.tensor, exponent: tl.tensor) -> tl.tensor:
        """X to a power, a number or a tile."""
        return libdevice.pow(x + exponent * 0, x * 0 + exponent)
