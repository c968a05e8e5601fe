"""What is compared with what."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

import elman


class Shape(NamedTuple):
    """Of a batch of sequences, and the layer that reads it."""

    T: int
    B: int
    D: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Pair(NamedTuple):
    """A layer of ours, torch's own, and how many gates of width H a step of it computes."""

    ours: Callable[..., nn.Module]
    theirs: Callable[..., nn.Module]
    gates: int


PAIRS = {
    "lstm": Pair(elman.LSTM, nn.LSTM, 4),
    "gru": Pair(elman.GRU, nn.GRU, 3),
    "rnn-tanh": Pair(elman.RNN, nn.RNN, 1),
    "rnn-relu": Pair(partial(elman.RNN, nonlinearity="relu"), partial(nn.RNN, nonlinearity="relu"), 1),
}
SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (28, 64, 28, 128), (64, 32, 128, 256), (128, 1, 64, 64), (128, 1, 256, 256), (128, 16, 64, 64),
        (128, 32, 128, 128), (128, 32, 256, 256), (200, 32, 64, 128), (64, 64, 512, 512), (32, 128, 1024, 1024),
    )
)  # fmt: skip

# How far from the same layer in double precision the numbers of ours may be: as a part of their norm (sums of up to
# T*B = 6,400 terms were seen to err by 3e-6), or so many times as far as torch.nn's own. The second is for relu: where
# its argument is nearly zero, a rounding decides whether a gradient passes, and torch's own err by 3e-4.
AGREEMENT, TIMES = 5e-5, 10


class Rivals(NamedTuple):
    """Two layers with the same parameters, an input and a cotangent."""

    layers: tuple[nn.Module, nn.Module]
    x: Tensor
    dy: Tensor

    def forward(self, which: int) -> Tensor:
        """The outputs, without a graph."""
        with torch.no_grad():
            outputs: Tensor = self.layers[which](self.x)[0]
        return outputs

    def both_ways(self, which: int) -> list[Tensor]:
        """Forward and backward: the outputs and the gradients of x and of every parameter."""
        layer = self.layers[which]
        layer.zero_grad()
        self.x.grad = None
        outputs = layer(self.x)[0]
        outputs.backward(self.dy)
        return [outputs, *([self.x.grad] if self.x.grad is not None else []), *(p.grad for p in layer.parameters())]


def rivals(cell: str, shape: Shape, input_gradient: bool = True) -> Rivals:
    """A pair at a shape, with random numbers."""
    torch.manual_seed(0)
    T, B, D, H = shape
    pair = PAIRS[cell]
    ours, theirs = pair.ours(D, H, executor="native"), pair.theirs(D, H)
    theirs.load_state_dict(ours.state_dict())
    return Rivals((ours, theirs), torch.randn(T, B, D, requires_grad=input_gradient), torch.randn(T, B, H))


def disagreement(two: Rivals) -> tuple[float, float]:
    """The error of ours, of outputs and gradients, where it is largest beside what it may be; and what it may be."""
    exact = deepcopy(two.layers[1]).double()
    x = two.x.detach().double().requires_grad_(two.x.requires_grad)
    truth = Rivals((exact, exact), x, two.dy.double()).both_ways(1)
    ours, theirs = ([_error(a, b) for a, b in zip(two.both_ways(k), truth, strict=True)] for k in (0, 1))
    bounds = [max(AGREEMENT, TIMES * error) for error in theirs]
    worst = max(range(len(ours)), key=lambda i: ours[i] / bounds[i])
    return ours[worst], bounds[worst]


def _error(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b).norm() / b.norm().clamp(min=1e-30)).item())


def flops(cell: str, shape: Shape, input_gradient: bool = True) -> tuple[int, int]:
    """Of the matrix products: forward, and forward and backward."""
    T, B, D, H = shape
    one = 2 * T * B * PAIRS[cell].gates * H
    forward = one * (D + H)
    return forward, forward + one * (H + (D + H) + D * input_gradient)


def parse(text: str) -> tuple[Shape, ...]:
    """Shapes as they are written: "T,B,D,H", several with spaces between.

    Raises:
        ValueError: if that is not what it is.
    """
    shapes = [Shape(*map(int, one.split(","))) if one.count(",") == 3 else None for one in text.split()]
    if not shapes or any(shape is None or min(shape) < 1 for shape in shapes):
        raise ValueError(text)
    return tuple(shape for shape in shapes if shape is not None)


TURN = 0.02  # seconds, at least, before it is the other's turn


def medians(
    functions: Sequence[Callable[[], object]], seconds: float, least: int = 5, pause: float = 0.0
) -> list[float]:
    """The median time of each, measured in turns.

    The first call of a turn is not counted: it finds memory and caches as the other function left them, which no
    program that uses one of the two would meet. Where each has threads of its own, which wait actively for more work,
    a `pause` before each turn, in seconds, lets them fall asleep.
    """
    from statistics import median
    from time import perf_counter, sleep

    times: list[list[float]] = [[] for _ in functions]
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[0]) < least:
        for function, taken in zip(functions, times, strict=True):
            sleep(pause)
            function()
            turn = perf_counter() + TURN
            while True:
                begin = perf_counter()
                function()
                taken.append(perf_counter() - begin)
                if perf_counter() > turn:
                    break
    return [median(taken) for taken in times]
