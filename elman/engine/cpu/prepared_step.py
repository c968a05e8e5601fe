"""Single steps of a stack, prepared once: for streams, preparing a sequence takes longer than the step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from ctypes import memmove
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from elman.engine.cpu.entry import plan_key
from elman.engine.cpu.kernel_cache import compiled_plan
from elman.engine.cpu.single_step import ForwardStep, can_step
from elman.engine.cpu.stacked_step import StackedStep, can_stack, stacked_step
from elman.engine.eager import as_tuple
from elman.engine.executor import CellSpec, Labels, PreparedStep


def prepare_step(specs: Sequence[CellSpec], x: Tensor, gradients: bool) -> PreparedStep | None:
    """A step of cells stacked on each other, for as many rows as x (B, D) has; None if it needs more than addresses."""
    keys = [key for key in (plan_key(spec, x) for spec in specs) if key is not None]
    if len(keys) < len(specs):
        return None
    if gradients:
        if not all(can_stack(key, x.dtype, len(x)) for key in keys):
            return None
        shapes = [[value.shape for value in spec.parameters.values()] for spec in specs]
        return DifferentiableStep(specs, x, StackedStep(keys, shapes, x, len(x)))
    plans = [compiled_plan(key, x.dtype) for key in keys]
    if not all(can_step(plan, len(x)) for plan in plans):
        return None
    return InferenceStep(specs, x, [ForwardStep(plan, x, len(x)) for plan in plans])


class _Prepared(ABC):
    """What both kinds check before they are called."""

    def __init__(self, specs: Sequence[CellSpec], x: Tensor) -> None:
        self._addresses: list[int] = []
        self._parameter_shapes = [parameter.shape for spec in specs for parameter in spec.parameters.values()]
        shapes = [
            (len(x), specs[0].input_size),
            *((len(specs), len(x), width) for width in as_tuple(specs[0].state_size)),
        ]
        self._shapes, self._dtype = [torch.Size(shape) for shape in shapes], x.dtype

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Whether the parameters, x and the states are what they must be; the step finds the parameters there then."""
        tensors = x, *states
        if len(tensors) != len(self._shapes) or not self._like(tensors, self._shapes):
            return False
        if not all(map(Tensor.is_contiguous, parameters)) or parameters[0].dtype is not self._dtype:
            return False
        addresses = list(map(Tensor.data_ptr, parameters))
        if addresses != self._addresses:
            if not self._like(parameters, self._parameter_shapes):
                return False
            self._move(addresses)
            self._addresses = addresses
        return True

    def _like(self, tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> bool:
        dtype = self._dtype
        for tensor, shape in zip(tensors, shapes, strict=True):
            if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu or tensor.is_neg():
                return False
        return True

    @abstractmethod
    def _move(self, addresses: list[int]) -> None:
        """Let the parameters of all layers be at these addresses."""


class InferenceStep(_Prepared):
    """A step without a gradient."""

    def __init__(self, specs: Sequence[CellSpec], x: Tensor, steps: Sequence[ForwardStep]) -> None:
        super().__init__(specs, x)
        bytes_ = [len(x) * width * x.element_size() for width in as_tuple(specs[0].state_size)]
        self._bytes = bytes_[0]
        self._steps = [(step, [k * size for size in bytes_]) for k, step in enumerate(steps)]
        self._ends = [0, *accumulate(len(spec.parameters) for spec in specs)]

    def _move(self, addresses: list[int]) -> None:
        for (step, _), (a, b) in zip(self._steps, pairwise(self._ends), strict=True):
            step.put_parameters(addresses[a:b])

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """As of every prepared step."""
        new = [torch.empty_like(state) for state in states]
        address, before, after = x.data_ptr(), [s.data_ptr() for s in states], [s.data_ptr() for s in new]
        for step, offsets in self._steps:
            step(address, before, after, offsets)
            address = after[0] + offsets[0]
        output = x.new_empty(shape)
        memmove(output.data_ptr(), address, self._bytes)  # a copy by torch takes ten times as long
        return output, new


class DifferentiableStep(_Prepared):
    """A step with its gradient."""

    def __init__(self, specs: Sequence[CellSpec], x: Tensor, stacked: StackedStep) -> None:
        super().__init__(specs, x)
        self._stacked = stacked

    def _move(self, addresses: list[int]) -> None:
        self._stacked.move(addresses)

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """As of every prepared step."""
        assert labels is not None
        return stacked_step(self._stacked, labels, x, states, parameters, shape)
