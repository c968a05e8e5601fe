"""The records that pass between autograd and a backend: inputs and results of a plan, forward and backward."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class PlanInputs(NamedTuple):
    """The inputs of a plan.

    Attributes:
        x: (T, B, D), or packed rows (N, D).
        states: before the first step, (B, H) each.
        parameters: in the order of the plan.
        draws: the random numbers of all steps, one tensor for each operation that draws.
        sizes: of packed rows, as in `elman.engine.Inputs`.
    """

    x: Tensor
    states: Sequence[Tensor]
    parameters: Sequence[Tensor]
    draws: Sequence[Tensor] = ()
    sizes: Tensor | None = None

    def contiguous(self) -> "PlanInputs":
        """The same inputs with contiguous x and states, as kernels read them."""
        states = [state.contiguous() for state in self.states]
        return PlanInputs(self.x.contiguous(), states, self.parameters, self.draws, self.sizes)


class Forward(NamedTuple):
    """The results of a plan's forward loop.

    Attributes:
        outputs: the first state of every step, (T, B, H) or (N, H).
        finals: the states after the last step of each sequence.
        saved: for the backward loop: the saved values of all steps, and the sequences of other states that it reads.
    """

    outputs: Tensor
    finals: list[Tensor]
    saved: list[Tensor]


class Cotangents(NamedTuple):
    """The gradients of the outputs, with any strides, and of each final state."""

    outputs: Tensor | None
    finals: Sequence[Tensor | None]


class Wanted(NamedTuple):
    """Which gradients are wanted: of x, of the initial states, of the parameters."""

    x: bool
    states: bool
    parameters: bool


class BackwardInputs(NamedTuple):
    """The inputs of a plan's backward pass.

    Attributes:
        cotangents: of the results of the forward loop.
        inputs: of the forward loop.
        outputs: of the forward loop.
        saved: by the forward loop.
        wanted: which gradients are asked for.
    """

    cotangents: Cotangents
    inputs: PlanInputs
    outputs: Tensor
    saved: Sequence[Tensor]
    wanted: Wanted
