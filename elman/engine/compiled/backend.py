"""What a backend supplies: which tensors it can compute with, and the programs of a plan, compiled."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from elman.engine.compiled.records import BackwardInputs, Forward, PlanInputs
from elman.engine.plan.planner import Plan


class CompiledLoop(ABC):
    """A plan compiled by a backend, for one dtype."""

    plan: Plan

    @abstractmethod
    def forward(self, inputs: PlanInputs, save: bool) -> Forward:
        """Run the forward loop over contiguous inputs; `save`: for `backward`."""

    @abstractmethod
    def backward(
        self, call_inputs: BackwardInputs, arriving: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        """Run the backward loop, and what comes after it, over contiguous tensors.

        Args:
            call_inputs: of the backward pass.
            arriving: of an observed plan, where to write the gradient that arrives at each state after every step.

        Returns:
            The gradients of x, of the initial states and of the parameters: of what is wanted.
        """


class Backend(ABC):
    """Compiles plans for a kind of device.

    Attributes:
        name: of its executor; part of the keys of its plans.
        device_type: of the tensors it computes with, as in `torch.device.type`.
        dtypes: that it computes in.
        variant: tells backends of one executor apart; part of the keys, too.
    """

    name: ClassVar[str]
    device_type: str
    dtypes: ClassVar[tuple[torch.dtype, ...]]
    variant: str = ""

    @abstractmethod
    def unsupported(self, tensors: Sequence[Tensor]) -> str:
        """Return why it cannot compute with tensors like these; "" if it can."""

    def autocast_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype to compute in under autocast, for parameters of a dtype: theirs.

        That is what torch does for operations that lose too much in half precision.
        """
        return dtype

    def state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype in which the loop keeps its states, for inputs of a dtype."""
        return dtype

    def saved_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of the other values saved for the backward loop, for inputs of a dtype."""
        return dtype

    def check(self, plan: Plan) -> None:
        """Raise `CannotCapture` if it cannot compile a plan."""
        del plan

    @abstractmethod
    def compile(self, plan: Plan, key: str, dtype: torch.dtype) -> CompiledLoop:
        """Compile a plan.

        Args:
            plan: what to compile.
            key: of the plan; equal plans have equal keys.
            dtype: one of `dtypes`.
        """

    def _unsupported_kind(self, tensor: Tensor, first: Tensor) -> str:
        """Return what about a tensor it does not support: its layout, its dtype or its dtype beside the first's."""
        if tensor.layout != torch.strided:
            return f"the {self.name} executor supports dense tensors only, got one of {tensor.layout}"
        if tensor.dtype not in self.dtypes or tensor.dtype != first.dtype:
            *names, last = (str(dtype).removeprefix("torch.") for dtype in self.dtypes)
            mixed = " and ".join(dict.fromkeys((str(first.dtype), str(tensor.dtype))))
            supported = f"{', '.join(names)} and {last}, the same for all tensors"
            return f"the {self.name} executor supports {supported}, got {mixed}"
        return ""
