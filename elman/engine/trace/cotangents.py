"""Starts a backward pass from given cotangents."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def scalar_with_cotangents(outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
    """Return a scalar whose backward pass starts with the given cotangents of the outputs.

    `torch.autograd.grad(outputs, inputs, cotangents)` would compute the same gradients, but imports sympy, which takes
    longer than capturing a cell. Moreover, the graph of a backward step must start with the cotangents themselves.
    """
    scalar: Tensor = _Seed.apply(len(outputs), *outputs, *cotangents)  # type: ignore[no-untyped-call]
    return scalar


class _Seed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> Tensor:
        ctx.cotangents = tensors[count:]
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.cotangents, *(None for _ in ctx.cotangents))
