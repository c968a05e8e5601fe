"""Tells observers about backward passes: the gradient that arrives at every state."""

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
from elman.engine.torch_private import in_torch_func, is_vmapped


class CallLabel(NamedTuple):
    """The label of a call of the engine, or of some of its steps; the fields are those of `CallRecord`."""

    label: Any
    begin: int = 0
    chained: bool = False
    draws: Sequence[Tensor] = ()


@dataclass(frozen=True, eq=False)
class CallRecord:
    """A call of the engine that may have a backward pass.

    Args:
        label: given by `labeled`.
        begin: of the steps of that label, the one at which this call begins.
        chained: the gradient of its initial state goes on to the call that ends there.
        draws: the random numbers of all steps, where they were drawn before the loop.
        parameters: as in `elman.engine.Inputs`.
        x: as in `elman.engine.Inputs`.
        state: as in `elman.engine.Inputs`.
        sizes: as in `elman.engine.Inputs`.
        conditions: what the steps depend on beside these.
        random: the state of torch's generator before it, where the steps draw from that themselves.
    """

    label: Any
    begin: int
    chained: bool
    draws: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    x: Tensor
    state: State
    sizes: Tensor | None
    conditions: Conditions
    random: Tensor | None = None

    @property
    def cell(self) -> nn.Module:
        """Whose steps were run."""
        return self.conditions.cell


@dataclass(frozen=True, eq=False)
class BackwardEvent:
    """A backward pass of such a call.

    Args:
        ran: the call.
        d_outputs: the gradients of its outputs, (T, B, ...) or packed (N, ...); None where nothing reaches one.
        d_finals: those of the states after the last step.
        d_states: the gradient that arrives at each state after every step, by whatever way: (T, B, H) or packed (N, H).
        later: of this call, a gradient was taken before that can be differentiated (create_graph=True). One of that
            gradient comes to the states and the parameters by other ways than the outputs and the final states.
    """

    call: CallRecord
    d_outputs: tuple[Tensor | None, ...]
    d_finals: tuple[Tensor | None, ...]
    d_states: tuple[Tensor, ...]
    later: bool = False


Observer = Callable[[BackwardEvent], None]


class _CurrentLabel(threading.local):
    """The label of this thread's calls."""

    now: CallLabel | None = None


_label = _CurrentLabel()
_observers: list[Observer] = []


class _Labeled:
    def __init__(self, piece: CallLabel | None) -> None:
        self.piece = piece

    def __enter__(self) -> None:
        self.before, _label.now = _label.now, self.piece

    def __exit__(self, *_: object) -> None:
        _label.now = self.before


def labeled(piece: CallLabel | None) -> AbstractContextManager[None]:
    """Give calls of the engine within a label, which observers see."""
    return nullcontext() if torch.compiler.is_compiling() else _Labeled(piece)


def current_label() -> CallLabel | None:
    """The label of calls made now; None under torch.compile, where nobody can observe them."""
    return None if torch.compiler.is_compiling() else _label.now


def record_call(inputs: Inputs) -> CallRecord | None:
    """Make the record of a call of the eager loop; None if it has no label or no backward pass."""
    label = current_label()
    if label is None or not torch.is_grad_enabled() or in_torch_func():
        return None
    conditions = Conditions.of(inputs.cell, inputs.x.device.type)
    return CallRecord(
        *label, inputs.parameters, inputs.x, inputs.state, inputs.sizes, conditions, torch.get_rng_state()
    )


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Within, call `observer` with the backward pass of every call that has a label."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def is_observed() -> bool:
    """Whether there are observers."""
    return bool(_observers)


def is_batched(cotangents: Iterable[Tensor | None]) -> bool:
    """Whether cotangents are batched: by torch.vmap, or by torch.autograd.grad(is_grads_batched=True)."""
    some = [d for d in cotangents if d is not None]
    return in_torch_func() or any(map(is_vmapped, some))


def notify(event: BackwardEvent) -> None:
    """Call all observers."""
    for observer in list(_observers):
        observer(event)
