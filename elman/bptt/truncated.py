"""Truncated backpropagation through time: gradients that go back a given number of steps."""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from elman.bptt._windows import Windows, run_windows
from elman.bptt.mode import Mode
from elman.engine import Inputs, Output, State
from elman.io.validate import check_whole


@dataclass(frozen=True)
class Truncated(Mode):
    """Truncated BPTT: every k1 steps, the gradient of the last k1 outputs goes back k2 steps.

    This is BPTT(h; h') of Williams and Peng, with h = k2 and h' = k1. For a sequence of T steps, windows end at e = k1,
    2 k1, ... and at T. Each covers the outputs since the end of the window before, and the last also the final state;
    their gradient goes back to step max(0, e - k2), whose state is taken as a constant. The gradient is the sum over
    all windows: x gets gradients from every window that contains it, the initial state from those that begin at step 0.
    Packed sequences have windows of their own, as if each were run alone. The layers of a stack share their windows; in
    a bidirectional stack, each direction of each layer has its own.

    Outputs and final states are those of `Full`. Saves tensors for k2 steps and one state every k1 steps; the backward
    pass runs each window again. If k2 >= T, the gradient is that of `Full`.

    Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
    Neural Computation 2 (1990).

    Args:
        k1: steps from the end of a window to the end of the next.
        k2: steps of a window, at least k1. None: k1, so that windows do not overlap.

    Raises:
        ValueError: for a k1 or k2 that is not a whole number, or too small.

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
        """Return whether windows overlap: layers must share them, so that no gradient goes back further.

        Args:
            steps: T.
            ragged: the sequences have several lengths.
        """
        k2 = self.k1 if self.k2 is None else self.k2
        return k2 < steps and (ragged or k2 > self.k1 or steps % self.k1 > 0)

    @override
    def run(self, inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
        return run_windows(inputs, executor, self._windows(inputs))

    def _windows(self, inputs: Inputs) -> Windows:
        k2 = self.k1 if self.k2 is None else self.k2
        step, length, lengths = _steps(inputs)
        ends = torch.minimum((step // self.k1 + 1) * self.k1, length)
        of_outputs, of_finals = ((end - k2).clamp(min=0) for end in (ends, lengths))
        begins = of_outputs.unique().tolist()
        window_ends = (int(ends[of_outputs == 0].max()), *(begin + k2 for begin in begins[1:]))
        device = inputs.x.device
        return Windows(tuple(begins), window_ends, of_outputs.to(device), of_finals.to(device))


def _steps(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """For each row of the outputs, its step and the length of its sequence; and the lengths of all sequences."""
    sizes = inputs.sizes
    if sizes is None:
        T = torch.tensor(inputs.steps)
        return torch.arange(inputs.steps), T, T
    lengths = (sizes > torch.arange(len(inputs.states[0])).unsqueeze(1)).sum(1)
    step = torch.arange(len(sizes)).repeat_interleave(sizes)
    row = torch.arange(len(step)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return step, lengths[row], lengths
