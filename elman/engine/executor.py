"""The executor protocol. `elman.engine.EXECUTORS` is the registry."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.engine.inputs import CellSpec, Inputs
from elman.engine.observe.events import CallLabel
from elman.engine.outputs import Output, State

MAX_PREPARED_ROWS = 8192  # steps times batch: preparing larger calls takes a small part of them
MAX_STEP_ROWS = 32  # of a prepared step forward whose numbers of a row do not depend on how many rows there are


class RowLayout(Protocol):
    """Converts between (T, B, ...) and the rows of the engine, as the layouts of layers do.

    Attributes:
        sizes: as in `Inputs`.
    """

    sizes: Tensor | None

    def to_rows(self, input: Tensor) -> Tensor:
        """Convert an input."""

    def from_rows(self, rows: Tensor) -> Tensor:
        """Convert outputs back."""

    def reverse(self, rows: Tensor) -> Tensor:
        """Reverse every sequence in time."""

    def to_engine_state(self, state: Tensor) -> Tensor:
        """Bring a state (..., B, H) into the order of the engine."""

    def from_engine_state(self, state: Tensor, initial: Tensor) -> Tensor:
        """Bring a final state back into the order of the batch."""


# Makes the layout of a call and the label of each cell's call, for an input (T, B, D).
Labels = Callable[[Tensor], tuple[RowLayout, Sequence[CallLabel]]]


class Unsupported(NamedTuple):
    """An executor's answer to a call that it cannot run; nothing has been computed.

    Attributes:
        reason: for an error or a warning.
        warn: whether `auto` warns that a slower executor runs the call; False for a dtype or device of the user.

    >>> Unsupported("the native executor supports CPU tensors only, got a tensor on cuda:0", warn=False).warn
    False
    """

    reason: str
    warn: bool = True


class StackInputs(NamedTuple):
    """A call of stacked cells.

    Attributes:
        cells: of each layer, from the lowest up. Each layer reads the outputs of the one below.
        parameters: of each layer, forward, then reverse if there are two directions; as in `Inputs`.
        x: as in `Inputs`.
        states: as those of `Inputs`, for all layers and directions in the order of `parameters`: (L, B, H) each.
        sizes: as in `Inputs`.
        replay: runs the cells one by one on the eager loop, with other values of x, the states and the parameters;
            returns the outputs, and the states after the last step in the shapes of `states`. Its last argument is
            `CallLabel.later`.

    >>> import torch
    >>> cell = nn.GRUCell(3, 5)
    >>> parameters = [dict(cell.named_parameters())]
    >>> inputs = StackInputs([cell], parameters, torch.randn(7, 2, 3), [torch.zeros(1, 2, 5)], None, print)
    >>> len(inputs.tensors)
    6
    """

    cells: Sequence[nn.Module]
    parameters: Sequence[Mapping[str, Tensor]]
    x: Tensor
    states: Sequence[Tensor]
    sizes: Tensor | None
    replay: Callable[[Tensor, Sequence[Tensor], Sequence[Mapping[str, Tensor]], bool], tuple[Tensor, ...]]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, the states and the parameters."""
        return (self.x, *self.states, *(value for values in self.parameters for value in values.values()))


class PreparedCall(Protocol):
    """Prepared calls of stacked cells, for one batch size. They must not overlap."""

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Return True if the call can run with these tensors; must be called before every call."""

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int], lengths: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the cells over a sequence.

        Args:
            labels: for observers of the backward pass; None without gradients.
            x: (T, B, D), or (B, D) for one step; contiguous, or with lengths only the columns.
            states: (*lead, B, H) each, with the `lead` of `Executor.prepare`.
            parameters: of all cells, in the order of `Executor.prepare`.
            shape: of the outputs: T, B and H, or 2 * H with two directions; without T for one step; axes of size 1 in
                any order.
            lengths: (B,), of which one at least is not zero; behind the end of a sequence the outputs are zero. The
                shape of the outputs is T, B and H, then.

        Returns:
            The outputs in that shape, and the states (*lead, B, H) after the last step.
        """


class Executor(ABC):
    """A way to run a cell over a sequence, forward and backward.

    A new one is a file with a subclass, and an entry in `elman.engine.EXECUTORS`.

    Attributes:
        name: as in `elman.GRU(3, 5, executor=name)`.
        any_cell: it is meant to run any cell, so that a user wants to know why it does not run one.
        runs_stacks: it may run all layers of a stack at once, by `run_stack`.
        follows_autocast: it runs operations of torch, whose precision autocast chooses. The results of other executors
            are cast to the dtypes that autocast would give them.

    >>> import torch
    >>> from elman.engine import eager
    >>> class Counting(Executor):
    ...     name, calls = "counting", 0
    ...     def run(self, inputs):
    ...         self.calls += 1
    ...         return eager.run(inputs)
    ...     def unsupported(self, spec):
    ...         return ""
    >>> executor, cell = Counting(), torch.nn.GRUCell(3, 5)
    >>> inputs = Inputs(cell, dict(cell.named_parameters()), torch.randn(7, 2, 3), torch.zeros(2, 5))
    >>> outputs, h = executor.run(inputs)
    >>> outputs.shape, executor.calls
    (torch.Size([7, 2, 5]), 1)
    """

    name: ClassVar[str]
    any_cell: ClassVar[bool] = True
    runs_stacks: ClassVar[bool] = False
    follows_autocast: ClassVar[bool] = False

    @property
    def unavailable(self) -> str:
        """Why the executor cannot run anything in this process; "" if it can."""
        return ""

    @abstractmethod
    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        """Run a cell over a sequence.

        Args:
            inputs: the cell, its parameters, the sequence and the initial state.

        Returns:
            The outputs of all steps, (T, B, ...), or (N, ...), and the state after the last of each sequence. If a step
            has no output, they are its first state. Or why it cannot run the call, before anything is computed.
        """

    @abstractmethod
    def unsupported(self, spec: CellSpec) -> str:
        """Return why it cannot run a cell of these sizes, `spec`; "" if it can."""

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        """Yield lines that describe how it runs a cell, for `elman.describe`.

        Args:
            spec: the cell and its sizes.
            shape: (T, B) if known.
        """
        yield from ()

    def supports(self, like: Tensor) -> bool:
        """Return True if it computes in the dtype of a parameter, and on its device.

        Args:
            like: the parameter.
        """
        del like
        return True

    def run_stack(self, inputs: StackInputs) -> tuple[Tensor, list[Tensor]] | Unsupported | None:
        """Run stacked cells over a sequence.

        Args:
            inputs: the cells, their parameters, the sequence and the initial states.

        Returns:
            The outputs of the last layer, (T, B, H) or (N, H), those of two directions side by side, and the states
            after the last step; or why it cannot run the call; or None if the cells have to be run one by one.
        """
        del inputs
        return None

    def prepare(
        self, specs: Sequence[CellSpec], x: Tensor, lead: tuple[int, ...], gradients: bool, directions: int = 1
    ) -> PreparedCall | None:
        """Prepare calls of stacked cells for sequences with the rows of x, and at least its length.

        Args:
            specs: the cells, from the lowest layer up; of two directions, first the one that reads from the beginning.
            x: (T, B, D), or (B, D) for one step.
            lead: the sizes of the states before the batch size: the number of cells, or () for those of one.
            gradients: whether the calls have a backward pass.
            directions: of each layer, 1 or 2; the layer above reads the outputs of both side by side.

        Returns:
            The prepared calls; None for calls that `run` must run.
        """
        del specs, x, lead, gradients, directions
        return None

    def __repr__(self) -> str:
        return f"<executor {self.name!r}>"

    def __reduce__(self) -> Any:
        return type(self), ()
