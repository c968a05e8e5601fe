"""Starts a backward pass from given cotangents."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def scalar_with_cotangents(new: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
    """A scalar whose gradients are those of the step, from given cotangents of what it makes.

    To give `torch.autograd.grad` cotangents imports sympy, which takes longer than to capture a cell; and the graph of
    a backward step is to begin with the cotangents themselves.
    """
    scalar: Tensor = _Seed.apply(len(new), *new, *cotangents)  # type: ignore[no-untyped-call]
    return scalar


class _Seed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        ctx.cotangents = tensors[count:]
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.cotangents, *(None for _ in ctx.cotangents))
