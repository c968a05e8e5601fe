"""Notifies observers of backward passes: the gradient that arrives at every state."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.inputs import Inputs
from elman.engine.outputs import State
from elman.engine.replay import Conditions
from elman.engine.rng_state import RngState, get_rng_state
from elman.engine.torch_private import in_torch_func, is_vmapped


class CallLabel(NamedTuple):
    """The label of a call of the engine, or of some of its steps; for the fields see `CallRecord`."""

    label: Any
    begin: int = 0
    chained: bool = False
    draws: Sequence[Tensor] = ()
    later: bool = False


@dataclass(frozen=True, eq=False)
class CallRecord:
    """A call of the engine that may have a backward pass.

    Args:
        label: the label set by `labeled`.
        begin: index of the first step of this call among the steps of the label.
        chained: whether the gradient of the initial state flows on to the call that ends there.
        draws: the random numbers of all steps, if they were drawn before the loop.
        later: whether an earlier backward pass of this call, by another run of its steps, had create_graph=True.
        parameters: see `elman.engine.Inputs`.
        x: see `elman.engine.Inputs`.
        state: see `elman.engine.Inputs`.
        sizes: see `elman.engine.Inputs`.
        conditions: what the steps depend on besides these.
        random: states of torch's generators before the call, if the steps draw from it themselves.
    """

    label: Any
    begin: int
    chained: bool
    draws: Sequence[Tensor]
    later: bool
    parameters: Mapping[str, Tensor]
    x: Tensor
    state: State
    sizes: Tensor | None
    conditions: Conditions
    random: RngState | None = None

    @property
    def cell(self) -> nn.Module:
        """The cell that was run."""
        return self.conditions.cell


@dataclass(frozen=True, eq=False)
class BackwardEvent:
    """A backward pass of a call.

    Args:
        call: the call.
        d_outputs: gradients of the outputs, (T, B, ...) or packed (N, ...); None for an output without a gradient.
        d_finals: gradients of the states after the last step.
        d_states: the whole gradient that arrives at each state after every step, (T, B, H) or packed (N, H).
        later: whether an earlier pass of this call had create_graph=True. A gradient of its gradients reaches the
            states and the parameters by other paths than the outputs and the final states.
    """

    call: CallRecord
    d_outputs: tuple[Tensor | None, ...]
    d_finals: tuple[Tensor | None, ...]
    d_states: tuple[Tensor, ...]
    later: bool = False


Observer = Callable[[BackwardEvent], None]


class _CurrentLabel(threading.local):
    """The label of this thread's calls."""

    label: CallLabel | None = None


_current = _CurrentLabel()
_observers: list[Observer] = []


class _Labeled:
    def __init__(self, label: CallLabel | None) -> None:
        self.label = label

    def __enter__(self) -> None:
        self.outer, _current.label = _current.label, self.label

    def __exit__(self, *_: object) -> None:
        _current.label = self.outer


def labeled(label: CallLabel | None) -> AbstractContextManager[None]:
    """Return a context manager that gives calls of the engine within a label, which observers get."""
    return nullcontext() if torch.compiler.is_compiling() else _Labeled(label)


def current_label() -> CallLabel | None:
    """Return the label for calls of this thread; None under torch.compile, where they cannot be observed."""
    return None if torch.compiler.is_compiling() else _current.label


def record_call(inputs: Inputs) -> CallRecord | None:
    """Make the record of a call of the eager loop; None if it has no label or no backward pass."""
    label = current_label()
    if label is None or not torch.is_grad_enabled() or in_torch_func():
        return None
    conditions = Conditions.of(inputs.cell, inputs.x.device.type)
    return CallRecord(
        *label, inputs.parameters, inputs.x, inputs.state, inputs.sizes, conditions, get_rng_state(inputs.x.device)
    )


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Within, call `observer` with the backward pass of every labeled call."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def is_observed() -> bool:
    """Return whether there are observers."""
    return bool(_observers)


def is_batched(cotangents: Iterable[Tensor | None]) -> bool:
    """Return whether cotangents are batched by torch.vmap, or by torch.autograd.grad(is_grads_batched=True)."""
    tensors = [d for d in cotangents if d is not None]
    return in_torch_func() or any(map(is_vmapped, tensors))


def notify(event: BackwardEvent) -> None:
    """Call all observers with an event."""
    for observer in list(_observers):
        observer(event)
