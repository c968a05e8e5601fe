"""Truncated backpropagation through time: gradients that go back a given number of steps."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from elman.bptt._windows import Windows, run_windows
from elman.bptt.mode import Mode
from elman.engine import Output, State
from elman.numbers import check_whole


@dataclass(frozen=True)
class Truncated(Mode):
    """Every k1 steps, the errors of the newest k1 outputs go back k2 steps from there: BPTT(h; h'), h = k2, h' = k1.

    For a sequence of T steps, windows end at e = k1, 2 k1, ... and at T. Each belongs to the outputs since the end of
    the one before, of the last also to the final state; their gradient goes back to step max(0, e - k2), whose state
    counts as a constant. The gradient is the sum over all windows. So x gets gradients from every window that it is
    in, and the initial state from those that begin at step 0. Of packed sequences, each has windows of its own, as if
    it were alone. The layers of a stack go back over the same windows; of a bidirectional one, each direction of each
    layer over its own.

    Outputs and final states are those of `Full`. Memory for k2 steps and for one state every k1 steps; in backward,
    each window runs again. With k2 of T or more, this is `Full`.

    Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
    Neural Computation 2 (1990).

    Args:
        k1: steps from the end of a window to the end of the next.
        k2: steps of a window, at least k1. None: k1, so that the sequence falls into segments.

    Raises:
        ValueError: for what are no whole numbers, or too small.

    >>> import elman, torch
    >>> layer = elman.GRU(3, 5, bptt=Truncated(k1=2, k2=4))
    >>> x = torch.randn(9, 1, 3, requires_grad=True)
    >>> layer(x)[0][8].sum().backward()  # of the window that ends at 9 and begins at 5
    >>> x.grad.ne(0).any(-1).squeeze().tolist()
    [False, False, False, False, False, True, True, True, True]
    """

    k1: int
    k2: int | None = None

    def __post_init__(self) -> None:
        k1 = check_whole("Truncated: k1", self.k1, 1)
        object.__setattr__(self, "k1", k1)
        if self.k2 is not None:
            object.__setattr__(self, "k2", check_whole("Truncated: k2", self.k2, k1, f"at least k1={k1}"))

    def joint(self, steps: int, ragged: bool) -> bool:
        """Whether windows overlap: then all layers go back over the same steps, and no layer further."""
        k2 = self.k1 if self.k2 is None else self.k2
        return k2 < steps and (ragged or k2 > self.k1 or steps % self.k1 > 0)

    def run(
        self,
        cell: nn.Module,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        executor: str = "auto",
        sizes: Tensor | None = None,
    ) -> tuple[Output, State]:
        """Run a cell over a sequence, with gradients that stay within the windows."""
        return run_windows(cell, parameters, x, state, executor, sizes, self._windows(x, state, sizes))

    def _windows(self, x: Tensor, state: State, sizes: Tensor | None) -> Windows:
        k2 = self.k1 if self.k2 is None else self.k2
        step, length, lengths = _steps(x, state, sizes)
        ends = torch.minimum((step // self.k1 + 1) * self.k1, length)
        of_outputs, of_finals = ((of - k2).clamp(min=0) for of in (ends, lengths))
        begins = of_outputs.unique().tolist()
        last = (int(ends[of_outputs == 0].max()), *(begin + k2 for begin in begins[1:]))
        return Windows(tuple(begins), last, of_outputs.to(x.device), of_finals.to(x.device))


def _steps(x: Tensor, state: State, sizes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row of the outputs, its step and the length of its sequence; and the lengths of all sequences."""
    if sizes is None:
        T = torch.tensor(len(x))
        return torch.arange(len(x)), T, T
    B = len(state if isinstance(state, Tensor) else state[0])
    lengths = (sizes > torch.arange(B).unsqueeze(1)).sum(1)
    step = torch.arange(len(sizes)).repeat_interleave(sizes)
    row = torch.arange(len(step)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return step, lengths[row], lengths
