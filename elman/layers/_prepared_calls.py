"""Runs small calls of a layer, among them single steps, by prepared calls of the executor."""

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.bptt import Full
from elman.engine import choose
from elman.engine.executor import MAX_PREPARED_ROWS, PreparedCall
from elman.engine.observe.events import CallLabel
from elman.engine.trace.python_state import Scratch
from elman.engine.torch_private import (
    in_dispatch_mode,
    in_forward_mode,
    in_function_mode,
    in_torch_func,
    is_profiling,
)
from elman.layers._layer_call import LayerCall
from elman.layers._sequence_layout import RaggedLayout, SequenceLayout, check_lengths

if TYPE_CHECKING:
    from elman.layers._layer import Layer

PLAIN = {Tensor, nn.Parameter}
REQUIRES_GRAD = attrgetter("requires_grad")
MAX_PREPARED = 16  # prepared calls of a layer, each with scratch memory
MAX_REFUSED = 256  # calls of a layer that are known to be refused
FIRST = itemgetter(0)


class Cells(NamedTuple):
    """The cells that a call of a layer runs.

    Attributes:
        key: hashable. With equal keys, the cells compute the same of tensors of the same shapes.
        calls: for each cell, the key of its `LayerCall` and the module that runs its steps; in the order of
            `Executor.prepare`.
        as_state: makes the state that the layer returns of the states after the last step.
        directions: of each layer.
    """

    key: Any
    calls: Sequence[tuple[Any, nn.Module]]
    as_state: Callable[[list[Tensor]], Any]
    directions: int = 1


# The cells, all their parameters, of which one that is computed is None, and the initial states.
LayerInputs = tuple[Cells, Sequence[Any], Sequence[Any]]


class _Labels:
    """The layout of a call, and its labels, one for each cell: made when an observer asks, and only once."""

    def __init__(self, layer: "Layer", cells: Cells, lengths: NDArray[np.int64] | None) -> None:
        self._layer, self._cells, self._lengths = layer, cells, lengths
        self._numbers = [LayerCall.new_number() for _ in cells.calls]
        self._labels: list[CallLabel] = []
        self._layout: SequenceLayout | None = None

    def __call__(self, x: Tensor) -> tuple[SequenceLayout, list[CallLabel]]:
        """Layout and labels of a call with the input x, (T, B, D)."""
        if self._layout is None:
            lengths = self._lengths
            layout = SequenceLayout(x, False) if lengths is None else RaggedLayout(x, lengths, False)
            self._layout = layout
            for i, ((key, step), number) in enumerate(zip(self._cells.calls, self._numbers, strict=True)):
                depth, direction = divmod(i, self._cells.directions)
                call = LayerCall(self._layer, key, layout, step, direction == 1, depth, number)
                self._labels.append(CallLabel(call))
        return self._layout, self._labels


class PreparedCalls(Scratch):
    """The prepared calls of one layer, which a copy of it does not share."""

    def __init__(self) -> None:
        self._free: dict[Any, list[PreparedCall]] = {}
        self._refused = set[Any]()  # calls that the executor does not prepare: a long one may need too much memory

    def __call__(
        self, layer: "Layer", input: Tensor, state: Any, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Any] | None:
        """Run a call that is not compiled; returns None where it has to be run without preparation.

        Args:
            layer: the layer.
            input: (T, B, D), or (B, D) for one step.
            state: as in a call.
            lengths: as in a call.
        """
        is_small = 0 < input.numel() <= MAX_PREPARED_ROWS * input.shape[-1]
        if not is_small or type(input) not in PLAIN or _needs_full_call():
            return None
        is_sequence = input.dim() == 3
        x = input.transpose(0, 1) if is_sequence and layer.batch_first else input
        inputs = layer._layer_inputs(x, state)
        if inputs is None:
            return None
        cells, parameters, states = inputs
        B = x.shape[-2]
        if not PLAIN.issuperset(map(type, states)) or not PLAIN.issuperset(map(type, parameters)):
            return None  # a computed parameter, for example
        with_gradients = torch.is_grad_enabled() and any(map(REQUIRES_GRAD, (*parameters, x, *states)))
        if with_gradients and type(layer.bptt) is not Full:
            return None
        is_one_step = not is_sequence or x.shape[0] == 1
        key = B, is_one_step, layer.executor, cells.key, with_gradients, x.dtype, x.device
        if (key, x.shape) in self._refused:
            return None
        ends = None if lengths is None else check_lengths(type(layer).__name__, lengths, B, len(x))
        if ends is not None:
            count = int(ends.sum())
            if count == 0:
                return None  # the engine needs at least one step
            ends = ends if count < B * len(x) else None
        if ends is None or x.stride(-1) != 1:  # the executor copies the rows of ragged sequences from any strides
            x = x.contiguous()
        states = [state.contiguous() for state in states]
        if key not in self._free and len(self._free) >= MAX_PREPARED:
            self._free.pop(next(iter(self._free)), None)
        free = self._free.setdefault(key, [])
        try:
            prepared: PreparedCall | None = free.pop()  # not shared: other threads prepare their own meanwhile
        except IndexError:
            prepared = None
        if prepared is None or not prepared.fits(parameters, x, states):
            if any(p.dtype is not x.dtype or p.device != x.device for p in parameters):
                return None
            specs = layer._cell_specs(cells, parameters)
            prepared = choose(layer.executor, specs)[0].prepare(
                specs, x, layer._state_lead(), with_gradients, cells.directions
            )
            if prepared is None:
                if len(self._refused) >= MAX_REFUSED:
                    self._refused.clear()
                self._refused.add((key, x.shape))
            if prepared is None or not prepared.fits(parameters, x, states):
                return None
        transposes = layer.batch_first and ((not is_one_step and B > 1) or ends is not None)
        shape = [*(x if transposes or not is_sequence else input).shape[:-1], states[0].shape[-1] * cells.directions]
        labels = _Labels(layer, cells, ends) if with_gradients else None
        outputs, last = prepared(labels, x, states, parameters, shape, ends)
        free.append(prepared)
        return outputs.transpose(0, 1) if transposes else outputs, cells.as_state(last)


def _needs_full_call() -> bool:
    """Return True if a mode or a transform of torch is active, under which no call is prepared."""
    return bool(
        in_dispatch_mode()
        or in_function_mode()
        or is_profiling()
        or torch.is_autocast_enabled("cpu")
        or in_forward_mode()
        or in_torch_func()
    )
