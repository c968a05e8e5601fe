"""Runs single steps of a stack by prepared steps of the executor."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from elman.bptt import Full
from elman.engine import CellSpec, as_tuple, choose
from elman.engine.executor import PreparedStep
from elman.engine.observe.events import CallLabel
from elman.engine.torch_private import (
    has_global_forward_hooks,
    in_dispatch_mode,
    in_forward_mode,
    in_function_mode,
    in_torch_func,
    is_profiling,
    is_tracing,
)
from elman.layers._layer_call import LayerCall
from elman.layers._sequence_layout import SequenceLayout

if TYPE_CHECKING:
    from elman.layers.stack import Stack

PLAIN = {Tensor, nn.Parameter}
REQUIRES_GRAD = attrgetter("requires_grad")
MAX_PREPARED = 16  # prepared steps in a cache, each with scratch memory


class _Labels:
    """The labels of the calls of one step, one for each layer: made when an observer asks, and only once."""

    def __init__(self, layer: "Stack") -> None:
        self._layer, self._steps = layer, layer._steps
        self._numbers = [LayerCall.new_number() for _ in self._steps]
        self._labels: list[CallLabel] = []

    def __call__(self, x: Tensor) -> list[CallLabel]:
        """Labels of a step with the input x, (1, B, D)."""
        if not self._labels:
            layout = SequenceLayout(x, batch_first=False)
            self._labels = [
                CallLabel(LayerCall(self._layer, (k,), layout, step, depth=k, number=number))
                for k, (step, number) in enumerate(zip(self._steps, self._numbers, strict=True))
            ]
        return self._labels


class StepCache:
    """The prepared steps of one stack, which a copy of it does not share."""

    def __init__(self) -> None:
        self._free: dict[Any, list[PreparedStep]] = {}

    def __reduce__(self) -> tuple[type["StepCache"], tuple[()]]:
        return StepCache, ()

    def __call__(self, layer: "Stack", x: Tensor, hx: Any, time: int | None = None) -> tuple[Tensor, Any] | None:
        """Run a step; returns None where it has to be run as a sequence of length one.

        Args:
            layer: the stack, in one direction.
            x: (B, D).
            hx: as in a call.
            time: the axis of time in the output, if it has one.
        """
        if type(x) not in PLAIN or x.dim() != 2 or _needs_full_call(layer):
            return None
        states = [x.new_zeros(layer.num_layers, len(x), w) for w in layer._widths] if hx is None else as_tuple(hx)
        registered = layer._parameters
        parameters: list[Any] = [registered.get(full) for names in layer._names for _, full in names]
        if not PLAIN.issuperset(map(type, states)) or not PLAIN.issuperset(map(type, parameters)):
            return None  # a computed parameter, for example
        with_gradients = torch.is_grad_enabled() and any(map(REQUIRES_GRAD, (*parameters, x, *states)))
        if with_gradients and type(layer.bptt) is not Full:
            return None
        x, states = x.contiguous(), [state.contiguous() for state in states]
        prepared: PreparedStep | None
        key = len(x), layer.executor, layer.training, with_gradients
        if key not in self._free and len(self._free) >= MAX_PREPARED:
            self._free.pop(next(iter(self._free)), None)
        free = self._free.setdefault(key, [])
        try:
            prepared = free.pop()  # not shared: other threads prepare their own meanwhile
        except IndexError:
            prepared = None
        if prepared is None or not prepared.fits(parameters, x, states):
            prepared = _prepare(layer, x, with_gradients)
            if prepared is None or not prepared.fits(parameters, x, states):
                return None
        shape = [len(x), layer.output_size]
        if time is not None:
            shape.insert(time, 1)
        output, last = prepared(_Labels(layer) if with_gradients else None, x, states, parameters, shape)
        free.append(prepared)
        return output, last[0] if len(last) == 1 else tuple(last)


def _needs_full_call(layer: "Stack") -> bool:
    """Whether compilers, modes, transforms or random numbers need the call of a sequence."""
    return bool(
        torch.compiler.is_compiling()
        or is_tracing()
        or in_dispatch_mode()
        or in_function_mode()
        or is_profiling()
        or torch.is_autocast_enabled("cpu")
        or in_forward_mode()
        or in_torch_func()
        or (layer.training and _draws(layer))
    )


def has_hooks(layer: "Stack") -> bool:
    """Whether a call of the layer calls hooks, as a step of it must too."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or has_global_forward_hooks())


def _draws(layer: "Stack") -> bool:
    """Whether random numbers are drawn in training."""
    return any((layer.dropout, layer.weight_drop, layer.recurrent_dropout, layer.locked_dropout, *layer.zoneout))


def _prepare(layer: "Stack", x: Tensor, with_gradients: bool) -> PreparedStep | None:
    specs = [
        CellSpec(step, layer._parameters_of(step, k), cell.input_size, cell.state_size)
        for k, (step, cell) in enumerate(zip(layer._steps, layer._cells, strict=True))
    ]
    return choose(layer.executor, specs)[0].prepare_step(specs, x, with_gradients)
