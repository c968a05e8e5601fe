"""Runs small calls of a stack, among them single steps, by prepared calls of the executor."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from elman.bptt import Full
from elman.engine import CellSpec, as_tuple, choose
from elman.engine.executor import MAX_PREPARED_ROWS, PreparedCall
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
MAX_PREPARED = 16  # prepared calls of a layer, each with scratch memory


class _Labels:
    """The labels of a call, one for each layer: made when an observer asks, and only once."""

    def __init__(self, layer: "Stack") -> None:
        self._layer, self._steps = layer, layer._steps
        self._numbers = [LayerCall.new_number() for _ in self._steps]
        self._labels: list[CallLabel] = []

    def __call__(self, x: Tensor) -> list[CallLabel]:
        """Labels of a call with the input x, (T, B, D)."""
        if not self._labels:
            layout = SequenceLayout(x, batch_first=False)
            self._labels = [
                CallLabel(LayerCall(self._layer, (k,), layout, step, depth=k, number=number))
                for k, (step, number) in enumerate(zip(self._steps, self._numbers, strict=True))
            ]
        return self._labels


class PreparedCalls:
    """The prepared calls of one stack, which a copy of it does not share."""

    def __init__(self) -> None:
        self._free: dict[Any, list[PreparedCall]] = {}
        self._refused = set[Any]()  # calls that the executor does not prepare: a long one may need too much memory

    def __reduce__(self) -> tuple[type["PreparedCalls"], tuple[()]]:
        return PreparedCalls, ()

    def __call__(self, layer: "Stack", input: Tensor, hx: Any) -> tuple[Tensor, Any] | None:
        """Run a call; returns None where it has to be run without preparation.

        Args:
            layer: the stack, in one direction.
            input: of a call, or (B, D) for one step.
            hx: as in a call.
        """
        is_small = 0 < input.numel() <= MAX_PREPARED_ROWS * layer.input_size
        if not is_small or type(input) not in PLAIN or _needs_full_call(layer):
            return None
        is_sequence = input.dim() == 3
        x = input.transpose(0, 1) if is_sequence and layer.batch_first else input
        B = x.shape[-2]
        states = [x.new_zeros(layer.num_layers, B, w) for w in layer._widths] if hx is None else as_tuple(hx)
        registered = layer._parameters
        parameters: list[Any] = [registered.get(full) for names in layer._names for _, full in names]
        if not PLAIN.issuperset(map(type, states)) or not PLAIN.issuperset(map(type, parameters)):
            return None  # a computed parameter, for example
        with_gradients = torch.is_grad_enabled() and any(map(REQUIRES_GRAD, (*parameters, x, *states)))
        if with_gradients and type(layer.bptt) is not Full:
            return None
        x, states = x.contiguous(), [state.contiguous() for state in states]
        is_one_step = not is_sequence or len(x) == 1
        key = B, is_one_step, layer.executor, layer.training, with_gradients, x.dtype, x.device
        if (key, x.shape) in self._refused:
            return None
        if key not in self._free and len(self._free) >= MAX_PREPARED:
            self._free.pop(next(iter(self._free)), None)
        free = self._free.setdefault(key, [])
        try:
            prepared: PreparedCall | None = free.pop()  # not shared: other threads prepare their own meanwhile
        except IndexError:
            prepared = None
        if prepared is None or not prepared.fits(parameters, x, states):
            prepared = _prepare(layer, x, with_gradients)
            if prepared is None and all(p.dtype is x.dtype and p.device == x.device for p in parameters):
                self._refused.add((key, x.shape))
            if prepared is None or not prepared.fits(parameters, x, states):
                return None
        transposes = layer.batch_first and not is_one_step and B > 1
        shape = [*(x if transposes or not is_sequence else input).shape[:-1], layer.output_size]
        outputs, last = prepared(_Labels(layer) if with_gradients else None, x, states, parameters, shape)
        free.append(prepared)
        return outputs.transpose(0, 1) if transposes else outputs, last[0] if len(last) == 1 else tuple(last)


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
    """Return True if a call of the layer calls hooks; then a step must call them too."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or has_global_forward_hooks())


def _draws(layer: "Stack") -> bool:
    """Whether random numbers are drawn in training."""
    return any((layer.dropout, layer.weight_drop, layer.recurrent_dropout, layer.locked_dropout, *layer.zoneout))


def _prepare(layer: "Stack", x: Tensor, with_gradients: bool) -> PreparedCall | None:
    weights = layer._weights()
    specs = [
        CellSpec(step, layer._parameters_of(weights, step, k), cell.input_size, cell.state_size)
        for k, (step, cell) in enumerate(zip(layer._steps, layer._cells, strict=True))
    ]
    return choose(layer.executor, specs)[0].prepare(specs, x, with_gradients)
