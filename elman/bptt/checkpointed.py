"""Gradient checkpointing: saves a few states and runs the steps between them again in the backward pass."""

from dataclasses import dataclass
from math import ceil

from typing_extensions import override

from elman.bptt._memory import SavedSize, measure_saved_size, parse_size
from elman.bptt._windows import Windows, run_windows
from elman.bptt.mode import Mode
from elman.engine import Inputs, Output, State
from elman.io.validate import check_whole


@dataclass(frozen=True)
class Checkpointed(Mode):
    """Gradient checkpointing: the gradient of `Full`, with tensors saved for one segment of the sequence at a time.

    The forward pass saves the states between segments. The backward pass runs each segment again from the state at its
    beginning, which costs a second forward pass.

    Chen, Xu, Zhang and Guestrin, arXiv:1604.06174; for recurrent networks Gruslys and others, arXiv:1606.03401.

    Args:
        segments: the number of segments; "sqrt" for as many segments as each has steps.
        memory: in place of `segments`, what one layer may save for its backward pass: "512MB", "2 GiB", or a number of
            bytes. There are as few segments as fit. Inputs, outputs and their gradients are not counted.

    Raises:
        ValueError: for an invalid number of segments or amount of memory, or for both; in a call, if no number of
            segments fits into the memory.

    >>> import elman, torch
    >>> layer = elman.LSTM(3, 5, bptt=Checkpointed())
    >>> outputs, (h, c) = layer(torch.randn(2500, 2, 3))  # 50 segments of 50 steps
    >>> h.sum().backward()
    >>> layer.bptt = Checkpointed(memory="100KB")
    """

    segments: int | str = "sqrt"
    memory: int | str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.segments, str) and self.segments == "sqrt"):
            segments = check_whole("Checkpointed: segments", self.segments, 1, "at least 1, or 'sqrt'")
            object.__setattr__(self, "segments", segments)
        if self.memory is not None and self.segments != "sqrt":
            raise ValueError(f"Checkpointed: memory: expected None with segments={self.segments}, got {self.memory!r}")
        if self.memory is not None and not parse_size(self.memory):
            expected = "an amount such as '512MB' or '2GiB', or a number of bytes"
            raise ValueError(f"Checkpointed: memory: expected {expected}, got {self.memory!r}")

    @override
    def run(self, inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
        T = inputs.steps
        if isinstance(self.segments, int):
            count = self.segments
        elif self.memory is None:
            count = ceil(T**0.5)
        else:
            count = self._min_segments(T, measure_saved_size(inputs, executor)) if T > 1 else 1
        begins = tuple(range(0, T, ceil(T / count)))
        return run_windows(inputs, executor, Windows(begins, (*begins[1:], T)))

    def _min_segments(self, T: int, saved: SavedSize) -> int:
        """The smallest number of segments of T steps that fits into the memory."""
        sizes = {
            count: saved.call + ceil(T / count) * saved.step + (count - 1) * saved.state for count in range(1, T + 1)
        }
        fitting = (count for count, size in sizes.items() if size <= parse_size(self.memory))
        if (count := next(fitting, None)) is None:
            least = f"{min(sizes.values()):,} bytes"
            raise ValueError(f"Checkpointed: memory: expected at least {least} for {T:,} steps, got {self.memory!r}")
        return count
