"""Random operations of a step: drawn before the loop, in the order in which the eager loop draws them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.torch_private import TorchDispatchMode

aten = torch.ops.aten

# The operations that draw, and the method that draws the same numbers into a tensor.
METHODS = {
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
OF_A_TENSOR = aten.bernoulli.default  # whose argument is a tensor of probabilities
NUMBERS = {aten.bernoulli_.float, aten.bernoulli.p, aten.uniform_.default, aten.normal_.default}


class RandomOp(NamedTuple):
    """Numbers for every row of every step, (B, *shape) at a time."""

    method: str
    numbers: tuple[float, ...]
    probability: float | None  # of which a whole tensor is given to the method
    shape: tuple[int, ...]
    dtype: torch.dtype | None = None  # where it is not that of x

    def into(self, step: Tensor) -> None:
        """Draw for one step."""
        given = self.numbers if self.probability is None else (torch.full_like(step, self.probability),)
        getattr(step, self.method)(*given)


def draw_all(draws: Sequence[RandomOp], x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    """All that a loop over x (T, B, D), or packed rows (N, D), draws, in the order in which it draws it."""
    lead = x.shape[:-1]
    found = [x.new_empty(*lead, *draw.shape, dtype=draw.dtype) for draw in draws]
    steps = [values.unbind(0) if sizes is None else values.split(sizes.tolist()) for values in found]
    for step in zip(*steps, strict=True):
        for draw, values in zip(draws, step, strict=True):
            draw.into(values)
    return [values.flatten(len(lead)).to(x.dtype) for values in found]


class ReplayRandomOps(TorchDispatchMode):
    """Whatever is drawn are numbers drawn before; `seen`, where there are none, are those that were drawn."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports the whole of torch.compile

    def __init__(self, numbers: Iterable[Tensor] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[Tensor] = []
        self._numbers: Iterator[Tensor] | None = None if numbers is None else iter(numbers)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in METHODS:
            if self._numbers is not None:
                result.copy_(next(self._numbers).view(result.shape))
            self.seen.append(result.clone())
        return result
