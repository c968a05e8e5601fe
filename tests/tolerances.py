"""How near is near: one table, the same on every machine, and the two checkers that read it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Task = Literal["outputs", "gradients"]


class Tolerance(NamedTuple):
    """The largest error of any entry, as a part of the largest entry of the reference."""

    outputs: float
    gradients: float


TOLERANCES = {
    # outputs: 32 eps. A cell rounds a few times per step and forgets the roundings of old steps: 6 eps was measured.
    # gradients: 256 eps. A weight's is a sum over T*B rows, which may cancel: mostly 1 eps was measured, 44 at worst.
    torch.float32: Tolerance(outputs=3.8e-6, gradients=3.0e-5),
    torch.float64: Tolerance(outputs=7.1e-15, gradients=5.7e-14),
}

# Factors of products are rounded to bfloat16 (eps is 2^-7), and so is every result. Errors of K terms average out: for
# outputs 0.6 eps was measured, for gradients 0.9.
HALF_TOLERANCES = {torch.bfloat16: Tolerance(outputs=1.0e-2, gradients=1.6e-2)}

# In bfloat16, by law: docs/numerics.md has this table with a reason for each.
_HALF = HALF_TOLERANCES[torch.bfloat16]
BFLOAT16_LAWS = {
    "1": _HALF,
    "1, rounded": TOLERANCES[torch.float32],
    "3": _HALF,
    "4": _HALF,
    "9": _HALF,
    "10": Tolerance(outputs=0.0, gradients=0.0),
    "13": _HALF,
    # They round the result of every operation: 5.3 eps was measured with layer normalization, else 1.6 eps.
    "other executors": Tolerance(outputs=5.0e-2, gradients=5.0e-2),
}

# What the tests draw is of order 1. A reference all below this is what a sum of such terms left when it cancelled,
# and its error is that of the terms.
CANCELLED = 0.1

# Central differences err by eps^2 and by a rounding divided by eps: 1e-10 here. torch's own rtol is 1e-3, and would
# let pass what law 8 forbids.
EPS, ATOL, RTOL = 1e-6, 1e-8, 1e-5

# Numbers that tutorials print, relative: scores and losses after some hundred steps of training, in which the last
# digits, which differ between CPUs and thread counts, grow.
PRINTED = 0.02


def close(actual: Tensor, expected: Tensor, kind: Task) -> None:
    """Raise AssertionError unless `actual` is `expected` within the table, in the dtype of both."""
    assert actual.dtype == expected.dtype
    within((TOLERANCES | HALF_TOLERANCES)[actual.dtype], actual, expected, kind)


def within(tolerances: Tolerance, actual: Tensor, expected: Tensor, kind: Task) -> None:
    """Raise AssertionError unless `actual` is `expected` within these tolerances."""
    assert actual.shape == expected.shape
    if actual.numel() == 0:
        return
    scale = max(expected.abs().max().item(), CANCELLED)
    error = (actual - expected).abs().max().item() / scale
    tolerance = getattr(tolerances, kind)
    # Written so that NaN fails.
    assert error <= tolerance, f"{kind} of {actual.dtype}: relative error {error:.2g}, tolerance {tolerance}"


def all_close(actual: Sequence[Tensor], expected: Sequence[Tensor], kind: Task) -> None:
    for a, e in zip(actual, expected, strict=True):
        close(a, e, kind)


def gradcheck(f: Callable[..., Any], inputs: Sequence[Tensor], **also: bool) -> None:
    """Raise GradcheckError unless the gradients of f are those of finite differences."""
    assert torch.autograd.gradcheck(f, tuple(inputs), eps=EPS, atol=ATOL, rtol=RTOL, **also)
