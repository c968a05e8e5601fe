"""Random operations of a step: drawn before the loop, in the order in which the eager loop would draw them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.inputs import split_by_step
from elman.engine.torch_private import DispatchMode

aten = torch.ops.aten

# Random operations, each with the in-place method of a tensor that draws the same numbers.
RANDOM_METHODS = {
    aten.bernoulli_.float: "bernoulli_",
    aten.bernoulli.p: "bernoulli_",
    aten.bernoulli.default: "bernoulli_",
    aten.uniform_.default: "uniform_",
    aten.normal_.default: "normal_",
    aten.rand_like.default: "uniform_",
    aten.randn_like.default: "normal_",
    aten.rand.default: "uniform_",
    aten.randn.default: "normal_",
}
PROBABILITY_TENSOR = aten.bernoulli.default  # takes a tensor of probabilities
# These take a tensor and numbers, such as a probability or a mean and a standard deviation.
WITH_NUMBERS = {aten.bernoulli_.float, aten.bernoulli.p, aten.uniform_.default, aten.normal_.default}


class RandomOp(NamedTuple):
    """A random operation of a step, which draws numbers of shape (B, *shape) at every step."""

    method: str
    numbers: tuple[float, ...]
    probability: float | None  # passed to the method as a tensor filled with it
    shape: tuple[int, ...]
    dtype: torch.dtype | None = None  # None for the dtype of x

    def fill(self, values: Tensor) -> None:
        """Draw the numbers of one step into a tensor."""
        arguments = self.numbers if self.probability is None else (torch.full_like(values, self.probability),)
        getattr(values, self.method)(*arguments)


def draw_all(draws: Sequence[RandomOp], x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """Draw all random numbers of a loop over x (T, B, D), in the order in which the eager loop draws them.

    Returns the numbers of each operation, (T, B, width), in the dtype of x. For packed rows (N, D), pass the batch size
    of every step as `sizes`; the numbers are then (N, width).
    """
    leading_sizes = x.shape[:-1]
    sequences = [x.new_empty(*leading_sizes, *draw.shape, dtype=draw.dtype) for draw in draws]
    steps = [split_by_step(values, sizes) for values in sequences]
    for step in zip(*steps, strict=True):
        for draw, values in zip(draws, step, strict=True):
            draw.fill(values)
    return [values.flatten(len(leading_sizes)).to(x.dtype) for values in sequences]


class ReplayRandomOps(DispatchMode):
    """A mode that replaces the results of random operations by given numbers, and records them in `drawn`.

    Args:
        numbers: The results, in order; None to let the operations draw.
    """

    def __init__(self, numbers: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        self.drawn: list[Tensor] = []
        self._numbers: Iterator[Tensor] | None = None if numbers is None else iter(numbers)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in RANDOM_METHODS:
            if self._numbers is not None:
                result.copy_(next(self._numbers).view(result.shape))
            self.drawn.append(result.clone())
        return result
