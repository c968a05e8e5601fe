"""One step of a stack without what a sequence is prepared by: in streams, that would be most of it."""

from collections.abc import Sequence
from ctypes import memmove
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from elman.through_time import EXECUTORS, each

if TYPE_CHECKING:
    from elman.layers.stack import Stack
    from elman.through_time.native.step import Step

PLAIN = {Tensor, nn.Parameter}


class Prepared:
    """A stack's step for B rows: what can be known before it is called. Its calls must not overlap."""

    def __init__(self, layer: "Stack", steps: "Sequence[Step]", B: int, dtype: torch.dtype) -> None:
        self._names = [full for names in layer._names for _, full in names]
        self._addresses = [layer.get_parameter(name).data_ptr() for name in self._names]
        shapes = [(B, layer.input_size), *((layer.num_layers, B, width) for width in layer._widths)]
        self._shapes, self._dtype = [torch.Size(shape) for shape in shapes], dtype
        bytes_ = [B * width * dtype.itemsize for width in layer._widths]
        self._output, self._bytes = (B, layer.output_size), bytes_[0]
        self._steps = [(step, [k * size for size in bytes_]) for k, step in enumerate(steps)]

    def fits(self, layer: "Stack", x: Tensor, states: Sequence[Tensor]) -> bool:
        """Whether the layer's parameters are where they were, and x and the states are what they must be."""
        tensors, dtype, own = (x, *states), self._dtype, layer._parameters
        if len(tensors) != len(self._shapes) or not PLAIN.issuperset(map(type, tensors)):
            return False
        for tensor, shape in zip(tensors, self._shapes, strict=True):
            if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu or tensor.is_neg():
                return False
        parameters: list[Any] = [own.get(name) for name in self._names]
        if not PLAIN.issuperset(map(type, parameters)):
            return False
        same: bool = list(map(Tensor.data_ptr, parameters)) == self._addresses
        return same and all(map(Tensor.is_contiguous, parameters))

    def __call__(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The output and the states after a step."""
        new = [torch.empty_like(state) for state in states]
        address, before, after = x.data_ptr(), [s.data_ptr() for s in states], [s.data_ptr() for s in new]
        for step, offsets in self._steps:
            step(address, before, after, offsets)
            address = after[0] + offsets[0]
        output = x.new_empty(self._output)
        memmove(output.data_ptr(), address, self._bytes)  # a copy by torch takes ten times as long
        return output, new


class Steps:
    """The prepared steps of one stack, which a copy of it does not share."""

    def __init__(self) -> None:
        self._free: dict[Any, list[Prepared]] = {}

    def __reduce__(self) -> tuple[type["Steps"], tuple[()]]:
        return Steps, ()

    def __call__(self, layer: "Stack", x: Tensor, hx: Any) -> tuple[Tensor, list[Tensor]] | None:
        """A step that nobody wants a gradient of, or None where it has to take the way of a sequence."""
        if torch.is_grad_enabled() or type(x) not in PLAIN or x.dim() != 2 or _somebody_watches(layer):
            return None
        states = [x.new_zeros(layer.num_layers, len(x), w) for w in layer._widths] if hx is None else each(hx)
        if not PLAIN.issuperset(map(type, states)):
            return None
        x, states = x.contiguous(), [state.contiguous() for state in states]
        ready: Prepared | None
        free = self._free.setdefault((len(x), layer.executor, layer.training), [])
        try:
            ready = free.pop()  # nobody else has it now; who comes meanwhile makes their own
        except IndexError:
            ready = None
        if ready is None or not ready.fits(layer, x, states):
            ready = _prepare(layer, x)
            if ready is None or not ready.fits(layer, x, states):
                return None
        found = ready(x, states)
        free.append(ready)
        return found


def _somebody_watches(layer: "Stack") -> bool:
    """Whether anything besides the layer's equations is to happen, or be seen."""
    return bool(
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
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


def _prepare(layer: "Stack", x: Tensor) -> Prepared | None:
    own = layer._parameters.keys() >= {full for names in layer._names for _, full in names}  # none parametrized
    if not own or layer.executor == "loop" or "native" not in EXECUTORS:
        return None
    from elman.through_time.native.run import step_of

    steps = [
        step_of(step, layer._values_of(step, k), cell.input_size, cell.state_size, x)
        for k, (step, cell) in enumerate(zip(layer._steps, layer._cells, strict=True))
    ]
    found = [step for step in steps if step is not None]
    return Prepared(layer, found, len(x), x.dtype) if len(found) == len(steps) else None
