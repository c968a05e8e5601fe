"""Gradient checkpointing: saves a few states and runs the steps between them again in the backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from torch import Tensor, nn

from elman.bptt._memory import SavedSize, measure_saved_size, parse_size
from elman.bptt._windows import Windows, run_windows
from elman.bptt.mode import Mode
from elman.engine import Output, State
from elman.numbers import check_whole


@dataclass(frozen=True)
class Checkpointed(Mode):
    """The gradient of `Full` in little memory: that of the states between segments, and of the steps of one segment.

    In backward each segment runs again, from the state at its beginning: the price is a second forward pass.

    Chen, Xu, Zhang and Guestrin, arXiv:1604.06174; for recurrent networks Gruslys and others, arXiv:1606.03401.

    Args:
        segments: how many; "sqrt" for as many as each has steps.
        memory: instead of these, what may be kept for the backward step of one layer: "512MB", "2 GiB", or a number of
            bytes; there are as few segments as fit. The inputs, the outputs and the gradients of both are not counted.

    Raises:
        ValueError: for what is no number of segments or no amount of memory, or for both; in a call, if no number of
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
            raise ValueError(
                f"Checkpointed: memory: expected none beside segments={self.segments}, got {self.memory!r}"
            )
        if self.memory is not None and not parse_size(self.memory):
            expected = "an amount such as '512MB' or '2GiB', or a number of bytes"
            raise ValueError(f"Checkpointed: memory: expected {expected}, got {self.memory!r}")

    def run(
        self,
        cell: nn.Module,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        executor: str = "auto",
        sizes: Tensor | None = None,
    ) -> tuple[Output, State]:
        """Run a cell over a sequence and save only some of its states."""
        T = len(x) if sizes is None else len(sizes)
        if isinstance(self.segments, int):
            count = self.segments
        elif self.memory is None:
            count = ceil(T**0.5)
        else:
            count = self._fewest(T, measure_saved_size(cell, parameters, x, state, executor, sizes)) if T > 1 else 1
        begins = tuple(range(0, T, ceil(T / count)))
        return run_windows(cell, parameters, x, state, executor, sizes, Windows(begins, (*begins[1:], T)))

    def _fewest(self, T: int, kept: SavedSize) -> int:
        """How many segments of T steps fit into the memory at least."""
        bytes_of = {count: ceil(T / count) * kept.step + (count - 1) * kept.state for count in range(1, T + 1)}
        found = next((count for count, needed in bytes_of.items() if needed <= parse_size(self.memory)), None)
        if found is None:
            least = f"{min(bytes_of.values()):,} bytes"
            raise ValueError(f"Checkpointed: memory: expected at least {least} for {T:,} steps, got {self.memory!r}")
        return found
