"""The base class of gradient modes, and the full gradient."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from elman.engine import Output, State, run


class Mode(ABC):
    """A way for the gradient to go back through time. What is computed forward is the same in all.

    One that is `online` goes forward instead, with the steps: it sees a stack as one cell, and its states carry on what
    they know of their past.
    """

    online: ClassVar[bool] = False

    def joint(self, steps: int, ragged: bool) -> bool:
        """Whether a stack must be one cell to it: else every layer is run by itself.

        Args:
            steps: T.
            ragged: there are sequences of several lengths.
        """
        return self.online

    @abstractmethod
    def run(
        self,
        cell: nn.Module,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        executor: str = "auto",
        sizes: Tensor | None = None,
    ) -> tuple[Output, State]:
        """Run a cell over a sequence; arguments as of `elman.engine.run`. The gradients are those of this mode."""


@dataclass(frozen=True)
class Full(Mode):
    """The whole gradient, back to the first step. Memory for every step of the sequence.

    >>> import elman, torch
    >>> layer = elman.GRU(3, 5)
    >>> layer.bptt
    Full()
    >>> layer.bptt = elman.bptt.Full()
    """

    def run(
        self,
        cell: nn.Module,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        executor: str = "auto",
        sizes: Tensor | None = None,
    ) -> tuple[Output, State]:
        """Run a cell over a sequence."""
        return run(cell, parameters, x, state, executor, sizes)
