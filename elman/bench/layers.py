"""Layer pairs and shapes of the benchmarks, their numerical comparison, and the timer."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from statistics import median
from time import perf_counter, sleep
from typing import NamedTuple

import torch
from torch import Tensor, nn

import elman


class Shape(NamedTuple):
    """Sizes of a batch of sequences and of the layer.

    Attributes:
        T: number of time steps.
        B: batch size.
        D: input size.
        H: hidden size.
    """

    T: int
    B: int
    D: int
    H: int

    def __str__(self) -> str:
        return ",".join(map(str, self))


class Pair(NamedTuple):
    """A layer of elman and the equivalent layer of torch.nn.

    Attributes:
        ours: constructor of elman's layer.
        theirs: constructor of torch.nn's layer.
        gates: number of gates of width H that the cell computes per step.
    """

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

# Tolerances for elman's values against torch.nn in double precision: AGREEMENT is the relative error of the norm (sums
# of up to T*B = 6,400 terms had errors of 3e-6), TIMES a multiple of the error of torch.nn in single precision. The
# larger one applies. TIMES is needed for relu: near zero, rounding decides whether a gradient passes, and torch.nn
# itself has errors of 3e-4.
AGREEMENT, TIMES = 5e-5, 10

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# In bfloat16 both implementations round, and torch.nn rounds in more places.
BFLOAT16_AGREEMENT, BFLOAT16_TIMES = 8e-3, 1


class Implementations(NamedTuple):
    """Two implementations of a layer with the same parameters, an input and a cotangent.

    Attributes:
        layers: elman's layer and torch.nn's.
        x: input, (T, B, D).
        dy: cotangent of the outputs, (T, B, H).
    """

    layers: tuple[nn.Module, nn.Module]
    x: Tensor
    dy: Tensor

    def forward(self, which: int) -> Tensor:
        """Return the outputs, computed without autograd.

        Args:
            which: index into `layers`.
        """
        with torch.no_grad():
            outputs: Tensor = self.layers[which](self.x)[0]
        return outputs

    def forward_backward(self, which: int) -> list[Tensor]:
        """Run forward and backward.

        Args:
            which: index into `layers`.

        Returns:
            The outputs, the gradient of x if it is computed, and the gradient of every parameter.
        """
        layer = self.layers[which]
        layer.zero_grad()
        self.x.grad = None
        outputs = layer(self.x)[0]
        outputs.backward(self.dy)
        return [outputs, *([self.x.grad] if self.x.grad is not None else []), *(p.grad for p in layer.parameters())]


def implementations(
    cell: str, shape: Shape, input_gradient: bool = True, dtype: torch.dtype = torch.float32
) -> Implementations:
    """Create both implementations of a layer, with the same random parameters and a random input.

    Args:
        cell: a name in `PAIRS`.
        shape: the sizes.
        input_gradient: whether to compute the gradient of x.
        dtype: of parameters, input and cotangent.
    """
    torch.manual_seed(0)
    T, B, D, H = shape
    pair = PAIRS[cell]
    ours, theirs = pair.ours(D, H, executor="native").to(dtype), pair.theirs(D, H).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    x, dy = torch.randn(T, B, D).to(dtype), torch.randn(T, B, H).to(dtype)
    return Implementations((ours, theirs), x.requires_grad_(input_gradient), dy)


def disagreement(both: Implementations) -> tuple[float, float]:
    """Compare elman's outputs and gradients with torch.nn in double precision.

    Args:
        both: the two implementations.

    Returns:
        The relative error of the value whose error is largest relative to its tolerance, and that tolerance.
    """
    double_layer = deepcopy(both.layers[1]).double()
    x = both.x.detach().double().requires_grad_(both.x.requires_grad)
    reference = Implementations((double_layer, double_layer), x, both.dy.double()).forward_backward(1)
    ours, theirs = (
        [_relative_error(a, b) for a, b in zip(both.forward_backward(k), reference, strict=True)] for k in (0, 1)
    )
    is_half = both.x.dtype == torch.bfloat16
    agreement, times = (BFLOAT16_AGREEMENT, BFLOAT16_TIMES) if is_half else (AGREEMENT, TIMES)
    bounds = [max(agreement, times * error) for error in theirs]
    worst = max(range(len(ours)), key=lambda i: ours[i] / bounds[i])
    return ours[worst], bounds[worst]


def _relative_error(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b).norm() / b.norm().clamp(min=1e-30)).item())


def flops(cell: str, shape: Shape, input_gradient: bool = True) -> tuple[int, int]:
    """Count the floating-point operations of the matrix products.

    Args:
        cell: a name in `PAIRS`.
        shape: the sizes.
        input_gradient: whether the gradient of x is computed.

    Returns:
        The operations of the forward pass, and of forward and backward together.
    """
    T, B, D, H = shape
    flops_per_feature = 2 * T * B * PAIRS[cell].gates * H
    forward = flops_per_feature * (D + H)
    return forward, forward + flops_per_feature * (H + (D + H) + D * input_gradient)


def parse(text: str) -> tuple[Shape, ...]:
    """Parse shapes.

    Args:
        text: shapes of the form "T,B,D,H", separated by spaces.

    Raises:
        ValueError: if the text does not have this form, or if a size is smaller than 1.
    """
    shapes = [Shape(*map(int, sizes.split(","))) if sizes.count(",") == 3 else None for sizes in text.split()]
    if not shapes or any(shape is None or min(shape) < 1 for shape in shapes):
        raise ValueError(text)
    return tuple(shape for shape in shapes if shape is not None)


MIN_TURN = 0.02  # minimum seconds that a function runs before the next one is measured


def medians(
    functions: Sequence[Callable[[], object]],
    seconds: float,
    least: int = 5,
    pause: float = 0.0,
    clock: Callable[[], float] = perf_counter,
) -> list[float]:
    """Measure the median time per call of several functions, in alternating turns.

    The first call of a turn is not counted, because the other function has just used memory and caches, which does not
    happen in a program that uses only one of them.

    Args:
        functions: the functions to time.
        seconds: total time to spend.
        least: minimum number of counted calls of each function.
        pause: seconds to sleep before each turn, so that threads of the other function that busy-wait go to sleep.
        clock: measures a call: `perf_counter`, or `process_time` for the processor time of all threads.

    Returns:
        The median time of each function, in seconds.
    """
    times: list[list[float]] = [[] for _ in functions]
    end = perf_counter() + seconds
    while perf_counter() < end or len(times[0]) < least:
        for function, durations in zip(functions, times, strict=True):
            sleep(pause)
            function()
            end_of_turn = perf_counter() + MIN_TURN
            while True:
                begin = clock()
                function()
                durations.append(clock() - begin)
                if perf_counter() > end_of_turn:
                    break
    return [median(durations) for durations in times]
