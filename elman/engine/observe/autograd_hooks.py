"""Records the gradient that arrives at every state of the eager loop, by hooks on the autograd graph."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from elman.engine.observe.events import BackwardEvent, CallRecord, is_batched, is_observed, notify
from elman.engine.torch_private import after_backward, backward_pass

Place = tuple[Node, int] | None  # of a value in autograd's graph: what made it, and which of its values it is


class GradientRecorder:
    """Where the states of a call lie in autograd's graph.

    Whatever stands behind the loop knows the tape, by a hook, and the tape knows what stands in it: so it is gone with
    the graph. Only if somebody looks when the gradient comes, it listens at the states; for good, if that gradient can
    be differentiated: a gradient of it comes to the states by other ways than the outputs.

    Args:
        ran: the call.
    """

    def __init__(self, ran: CallRecord) -> None:
        self.call, self.states = ran, (ran.state,) if isinstance(ran.state, Tensor) else ran.state
        self.T = 0
        self.steps: list[tuple[Place, ...]] = []  # where it does not listen for good
        self.given: dict[tuple[int, int], Tensor] = {}  # gradients, by step and state
        self.handles: list[RemovableHandle] = []
        self.task: int | None = None  # of autograd, while a backward pass is under way
        self.differentiable: int | None = None  # the first such whose gradient can be differentiated
        self.d_outputs: list[Tensor | None] = []
        self.d_finals: list[Tensor | None] = []

    def step(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Note the states after a step, as views: what arrives there has come from the next step, and from without.

        What goes from one state to another within the step stays within it.
        """
        views = [state.view_as(state) for state in states]
        self.steps.append(tuple(_place(state) for state in views))
        self.T += 1
        return views

    def end(self, outputs: Sequence[Tensor], finals: Sequence[Tensor]) -> list[Tensor]:
        """Listen at what the call returns: the outputs, and the final states, which come back as views."""
        self.d_outputs, self.d_finals = [None] * len(outputs), [None] * len(finals)
        views = [state.view_as(state) for state in finals]
        for found, tensors in ((self.d_outputs, outputs), (self.d_finals, views)):
            for i, tensor in enumerate(tensors):
                if (place := _place(tensor)) is not None:
                    _listen(place, self._keeper(found, i))
        return views

    def _keeper(self, found: list[Tensor | None], i: int) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            if torch.is_grad_enabled() and self.differentiable is None:
                self.differentiable = backward_pass()
                self._listen()
                # Whatever it listens at for good knows the tape, which must not know that in turn.
                self.steps.clear()
                self.handles.clear()
            self._kept(found, i, gradient)

        return keep

    def _kept(self, found: Any, key: Any, gradient: Tensor) -> None:
        """Keep a gradient, in a list or a dictionary, if somebody looks, and there are not many of it at once."""
        if is_observed() and not is_batched((gradient,)):
            self._open()
            found[key] = gradient.detach()

    def _open(self) -> None:
        """Begin with a backward pass, until it is over; one that broke off before left no end."""
        task = backward_pass()
        if task == self.task:
            return
        self._forget()
        self.task = task
        self._listen()
        after_backward(self._close)

    def _listen(self) -> None:
        def keeper(key: tuple[int, int]) -> Callable[[Tensor], None]:
            return lambda gradient: self._kept(self.given, key, gradient)

        for t, row in enumerate(self.steps):
            for i, place in enumerate(row):
                if place is not None:
                    self.handles.append(_listen(place, keeper((t, i))))

    def _close(self) -> None:
        d_states = tuple(self._rows(i, state) for i, state in enumerate(self.states))
        later = self.differentiable not in (None, self.task)
        seen = BackwardEvent(self.call, tuple(self.d_outputs), tuple(self.d_finals), d_states, later)
        self._forget()
        notify(seen)

    def _forget(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.given.clear()
        self.task = None
        # In place: the hooks have these lists.
        self.d_outputs[:], self.d_finals[:] = [None] * len(self.d_outputs), [None] * len(self.d_finals)

    def _rows(self, i: int, state: Tensor) -> Tensor:
        """Of one state, the gradients of all steps; zeros where none has come."""
        sizes, found = self.call.sizes, list[Tensor]()
        for t, count in enumerate([len(state)] * self.T if sizes is None else sizes.tolist()):
            given = self.given.get((t, i))
            found.append(state.new_zeros(count, state.shape[1]) if given is None else given)
        return torch.stack(found) if sizes is None else torch.cat(found)


def _place(tensor: Tensor) -> Place:
    return None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


def _listen(place: tuple[Node, int], keep: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `keep` with the gradient of a value, when there is one."""
    node, number = place

    def hook(gradients: Sequence[Any]) -> None:
        if gradients[number] is not None:
            keep(gradients[number])

    return node.register_prehook(hook)
