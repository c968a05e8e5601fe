"""How near is near: one table, the same on every machine, and the two checkers that read it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """The largest error of any entry, as a part of the largest entry of the reference."""

    outputs: float
    gradients: float


TOLERANCES = {
    # outputs: 32 roundings. A cell rounds a few times a step and forgets the old roundings: at most 6 were measured.
    # gradients: 256. Sums over T*B rows, which may cancel: mostly 1 was measured, at worst 80.
    torch.float32: Tolerance(outputs=3.8e-6, gradients=3e-5),
    torch.float64: Tolerance(outputs=7.1e-15, gradients=5.7e-14),
}

# Central differences err by eps^2 and by a rounding divided by eps: 1e-10 here. torch's own rtol is 1e-3, and would
# let pass what law 8 forbids.
FINITE_DIFFERENCES = {"eps": 1e-6, "atol": 1e-8, "rtol": 1e-5}


def close(actual: Tensor, expected: Tensor, kind: Literal["outputs", "gradients"]) -> None:
    """Raise AssertionError unless `actual` is `expected` within the table, in the dtype of both."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if actual.numel() == 0:
        return
    scale = expected.abs().max().item()
    error = (actual - expected).abs().max().item() / (scale or 1.0)
    tolerance = getattr(TOLERANCES[actual.dtype], kind)
    # Written so that NaN fails.
    assert error <= tolerance, f"{kind} of {actual.dtype}: relative error {error:.2g}, tolerance {tolerance}"


def all_close(actual: Sequence[Tensor], expected: Sequence[Tensor], kind: Literal["outputs", "gradients"]) -> None:
    for a, e in zip(actual, expected, strict=True):
        close(a, e, kind)


def gradcheck(f: Callable[..., Any], inputs: Sequence[Tensor], **also: bool) -> None:
    """Raise GradcheckError unless the gradients of f are those of finite differences."""
    assert torch.autograd.gradcheck(f, tuple(inputs), **FINITE_DIFFERENCES, **also)
