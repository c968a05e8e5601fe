"""The executor protocol. `elman.engine.EXECUTORS` is the registry."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from elman.engine.inputs import CellSpec, Inputs
from elman.engine.observe.events import CallLabel
from elman.engine.outputs import Output, State

Labels = Callable[[Tensor], Sequence[CallLabel]]  # of the calls for one step, one for each cell; x is (1, B, D)


class Unsupported(NamedTuple):
    """An executor's answer to a call that it cannot run; nothing has been computed.

    Attributes:
        reason: in words, for an error or a warning.
        warn: whether `auto` warns that a slower executor runs the call. A dtype or a device is the user's choice; what
            is in the way in a cell may be news.
    """

    reason: str
    warn: bool = True


class PreparedStep(Protocol):
    """One step of a stack of cells for a number of rows, prepared; its calls must not overlap."""

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Whether it was prepared for such tensors; it must be asked before every call."""

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """The output in a shape, and the states (L, B, H) after the step.

        Args:
            labels: what observers of the backward pass see; None without gradients.
            x: (B, D).
            states: (L, B, H) each.
            parameters: of all cells, one after the other.
            shape: of the output: B and H, and axes of size 1.
        """


class Executor(ABC):
    """A way to run a cell over a sequence, forward and backward.

    A new one is a file with a subclass, and an entry in `elman.engine.EXECUTORS`.

    Attributes:
        name: as in `elman.GRU(3, 5, executor=name)`.
        follows_autocast: its operations are those of torch, in whose precision autocast has a say. The results of
            others are cast to the dtypes that it would give them.
    """

    name: ClassVar[str]
    follows_autocast: ClassVar[bool] = False

    @property
    def available(self) -> bool:
        """Whether it can run in this process at all."""
        return True

    @abstractmethod
    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """Run a cell over a sequence.

        Returns:
            The outputs of all steps, (T, B, ...), or (N, ...), and the state after the last of each sequence. Where a
            step has no output, they are the first of its states. Or why it cannot, before anything is computed.
        """

    @abstractmethod
    def unsupported(self, spec: CellSpec) -> str:
        """Why it cannot run a cell; "" if it can."""

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """How it computes a cell, line by line, for `elman.explain`; `shape` is (T, B) if known."""
        yield from ()

    def prepare_step(self, specs: Sequence[CellSpec], x: Tensor, gradients: bool) -> PreparedStep | None:
        """One step of cells stacked on each other, with its preparation done once for rows like x (B, D).

        Returns:
            None where a step has to be run as a sequence of length one.
        """
        del specs, x, gradients
        return None

    def __repr__(self) -> str:
        return f"<executor {self.name!r}>"

    def __reduce__(self) -> Any:
        return type(self), ()
