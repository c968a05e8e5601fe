"""One step of a stack without what a sequence is prepared by: in streams, that would be most of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from ctypes import memmove
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from elman.bptt import Full
from elman.engine import EXECUTORS, as_tuple
from elman.engine.observe.events import CallLabel
from elman.layers._layer_call import LayerCall
from elman.layers._sequence_layout import SequenceLayout

if TYPE_CHECKING:
    from elman.engine.cpu.single_step import ForwardStep
    from elman.engine.cpu.stacked_step import StackedStep
    from elman.layers.stack import Stack

PLAIN = {Tensor, nn.Parameter}
REQUIRES_GRAD = attrgetter("requires_grad")
MAX_PREPARED = 16  # kinds of steps that stay prepared, each with scratch memory


class PreparedStep(ABC):
    """A stack's step for B rows: what can be known before it is called. Its calls must not overlap."""

    def __init__(self, layer: "Stack", parameters: Sequence[Tensor], B: int, dtype: torch.dtype) -> None:
        self._addresses: list[int] = []
        self._parameter_shapes = [parameter.shape for parameter in parameters]
        shapes = [(B, layer.input_size), *((layer.num_layers, B, width) for width in layer._widths)]
        self._shapes, self._dtype = [torch.Size(shape) for shape in shapes], dtype

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

    @abstractmethod
    def __call__(
        self, layer: "Stack", x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], shape: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """The output, in a shape, and the states after a step."""


class InferenceStep(PreparedStep):
    """A step without a gradient."""

    def __init__(
        self, layer: "Stack", parameters: Sequence[Tensor], B: int, dtype: torch.dtype, steps: "Sequence[ForwardStep]"
    ) -> None:
        super().__init__(layer, parameters, B, dtype)
        bytes_ = [B * width * dtype.itemsize for width in layer._widths]
        self._bytes = bytes_[0]
        self._steps = [(step, [k * size for size in bytes_]) for k, step in enumerate(steps)]
        self._ends = [0, *accumulate(map(len, layer._names))]

    def _move(self, addresses: list[int]) -> None:
        for (step, _), (a, b) in zip(self._steps, pairwise(self._ends), strict=True):
            step.put_parameters(addresses[a:b])

    def __call__(
        self, layer: "Stack", x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], shape: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """As there."""
        new = [torch.empty_like(state) for state in states]
        address, before, after = x.data_ptr(), [s.data_ptr() for s in states], [s.data_ptr() for s in new]
        for step, offsets in self._steps:
            step(address, before, after, offsets)
            address = after[0] + offsets[0]
        output = x.new_empty(shape)
        memmove(output.data_ptr(), address, self._bytes)  # a copy by torch takes ten times as long
        return output, new


class DifferentiableStep(PreparedStep):
    """A step with its gradient."""

    def __init__(
        self, layer: "Stack", parameters: Sequence[Tensor], B: int, dtype: torch.dtype, stacked: "StackedStep"
    ) -> None:
        super().__init__(layer, parameters, B, dtype)
        from elman.engine.cpu.stacked_step import stacked_step

        self._stacked, self._step = stacked, stacked_step

    def _move(self, addresses: list[int]) -> None:
        self._stacked.move(addresses)

    def __call__(
        self, layer: "Stack", x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], shape: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """As there."""
        return self._step(self._stacked, _Pieces(layer), x, states, parameters, shape)


class _Pieces:
    """What is said of the calls of the engine for one step, of each layer: made when somebody looks, and only once."""

    def __init__(self, layer: "Stack") -> None:
        self._layer, self._steps = layer, layer._steps
        self._numbers = [LayerCall.new_number() for _ in self._steps]
        self._made: list[CallLabel] = []

    def __call__(self, x: Tensor) -> list[CallLabel]:
        """Of a step with the input x, (1, B, D)."""
        if not self._made:
            layout = SequenceLayout(x, batch_first=False)
            self._made = [
                CallLabel(LayerCall(self._layer, (k,), layout, step, depth=k, number=number))
                for k, (step, number) in enumerate(zip(self._steps, self._numbers, strict=True))
            ]
        return self._made


class StepCache:
    """The prepared steps of one stack, which a copy of it does not share."""

    def __init__(self) -> None:
        self._free: dict[Any, list[PreparedStep]] = {}

    def __reduce__(self) -> tuple[type["StepCache"], tuple[()]]:
        return StepCache, ()

    def __call__(self, layer: "Stack", x: Tensor, hx: Any, time: int | None = None) -> tuple[Tensor, Any] | None:
        """A step, or None where it has to take the way of a sequence.

        Args:
            layer: the stack, in one direction.
            x: (B, D).
            hx: as in a call.
            time: the axis of time in the output, if it has one.
        """
        if type(x) not in PLAIN or x.dim() != 2 or _somebody_watches(layer):
            return None
        states = [x.new_zeros(layer.num_layers, len(x), w) for w in layer._widths] if hx is None else as_tuple(hx)
        own = layer._parameters
        parameters: list[Any] = [own.get(full) for names in layer._names for _, full in names]
        if not PLAIN.issuperset(map(type, states)) or not PLAIN.issuperset(map(type, parameters)):
            return None  # a computed parameter among others
        graded = torch.is_grad_enabled() and any(map(REQUIRES_GRAD, (*parameters, x, *states)))
        if graded and type(layer.bptt) is not Full:
            return None
        x, states = x.contiguous(), [state.contiguous() for state in states]
        ready: PreparedStep | None
        key = len(x), layer.executor, layer.training, graded
        if key not in self._free and len(self._free) >= MAX_PREPARED:
            self._free.pop(next(iter(self._free)), None)
        free = self._free.setdefault(key, [])
        try:
            ready = free.pop()  # nobody else has it now; who comes meanwhile makes their own
        except IndexError:
            ready = None
        if ready is None or not ready.fits(parameters, x, states):
            ready = _prepare(layer, x, parameters, graded)
            if ready is None or not ready.fits(parameters, x, states):
                return None
        shape = [len(x), layer.output_size]
        if time is not None:
            shape.insert(time, 1)
        output, last = ready(layer, x, states, parameters, shape)
        free.append(ready)
        return output, last[0] if len(last) == 1 else tuple(last)


def _somebody_watches(layer: "Stack") -> bool:
    """Whether anything besides the layer's equations is to happen, or be seen."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._autograd._profiler_enabled()
        or torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (layer.training and _draws(layer))
    )


def has_hooks(layer: "Stack") -> bool:
    """Whether a call of the layer calls hooks, as a step of it must too."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or _global_forward_hooks or _global_forward_pre_hooks)


def _draws(layer: "Stack") -> bool:
    """Whether random numbers are drawn in training."""
    return any((layer.dropout, layer.weight_drop, layer.recurrent_dropout, layer.locked_dropout, *layer.zoneout))


def _prepare(layer: "Stack", x: Tensor, parameters: Sequence[Tensor], graded: bool) -> PreparedStep | None:
    if layer.executor == "loop" or "native" not in EXECUTORS:
        return None
    from elman.engine.cpu.entry import stacked_of, step_of

    cells = [
        (step, layer._values_of(step, k), cell.input_size, cell.state_size)
        for k, (step, cell) in enumerate(zip(layer._steps, layer._cells, strict=True))
    ]
    if graded:
        stacked = stacked_of(cells, x)
        return None if stacked is None else DifferentiableStep(layer, parameters, len(x), x.dtype, stacked)
    found = [step for step in (step_of(*of, x) for of in cells) if step is not None]
    return InferenceStep(layer, parameters, len(x), x.dtype, found) if len(found) == len(cells) else None
