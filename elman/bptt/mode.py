"""The base class of gradient modes, and the full gradient."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from elman.engine import Inputs, Output, State, run


class Mode(ABC):
    """Base class of gradient modes, which compute gradients through time. All modes have the same forward results.

    Attributes:
        online: gradients are computed forward in time, with the steps: the mode sees a stack as one cell, and the
            states it returns carry their derivatives on to the next call.

    >>> import elman, torch
    >>> class Detached(Mode):
    ...     '''No gradient flows through the layer.'''
    ...     def run(self, inputs, executor="auto"):
    ...         with torch.no_grad():
    ...             return elman.engine.run(inputs, executor)
    >>> outputs, h = elman.GRU(3, 5, bptt=Detached())(torch.randn(7, 2, 3))
    >>> outputs.requires_grad
    False
    """

    online: ClassVar[bool] = False

    def joint(self, steps: int, ragged: bool) -> bool:
        """Return whether a stack must run as one cell, and not layer by layer.

        Args:
            steps: T.
            ragged: the sequences have several lengths.
        """
        return self.online

    @abstractmethod
    def run(self, inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
        """Run a cell over a sequence, as `elman.engine.run` does, with the gradients of this mode.

        Args:
            inputs: the cell, its parameters, the sequence and the initial state.
            executor: "auto", "native", "torch", "triton" or "loop"; `elman env` lists those that are available.

        Returns:
            The outputs of all steps, (T, B, ...), or (N, ...), and the state after the last of each sequence.

        Raises:
            ValueError: for an unknown executor, or for inputs that the mode cannot take.
            RuntimeError: if the executor asked for, or the mode, cannot run this.
        """


@dataclass(frozen=True)
class Full(Mode):
    """Backpropagation through all steps. Saves tensors for every step of the sequence.

    >>> import elman, torch
    >>> layer = elman.GRU(3, 5)
    >>> layer.bptt
    Full()
    >>> layer.bptt = elman.bptt.Full()
    """

    @override
    def run(self, inputs: Inputs, executor: str = "auto") -> tuple[Output, State]:
        return run(inputs, executor)
