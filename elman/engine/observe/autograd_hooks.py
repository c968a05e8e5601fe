"""Records the gradient that arrives at every state of the eager loop, by hooks on the autograd graph."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from elman.engine.observe.events import BackwardEvent, CallRecord, is_batched, is_observed, notify
from elman.engine.torch_private import after_backward, backward_pass

GraphOutput = tuple[Node, int] | None  # of a value in autograd's graph: its node, and the index of the node's output


class GradientRecorder:
    """Records the gradients at the states of one call, by hooks on autograd's graph.

    The hooks on the graph refer to the recorder, and the recorder to nodes of the graph, so it lives as long as the
    graph. It adds hooks at the states only when a gradient arrives and there are observers. They stay if that gradient
    can be differentiated, since a gradient of it reaches the states by other paths than the outputs.

    Args:
        call: the call with the states.
    """

    def __init__(self, call: CallRecord) -> None:
        self.call, self.states = call, (call.state,) if isinstance(call.state, Tensor) else call.state
        self.T = 0
        self.steps: list[tuple[GraphOutput, ...]] = []  # the states of each step; empty once their hooks are permanent
        self.gradients: dict[tuple[int, int], Tensor] = {}  # by step and state
        self.handles: list[RemovableHandle] = []
        self.task: int | None = None  # autograd's number of the backward pass that is running
        self.differentiable: int | None = None  # the first task whose gradients can be differentiated
        self.d_outputs: list[Tensor | None] = []
        self.d_finals: list[Tensor | None] = []

    def step(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Register the states after a step; return views of them, which the loop must go on with.

        The gradient of a view comes from the next step and from outside, not from other states of the same step.
        """
        views = [state.view_as(state) for state in states]
        self.steps.append(tuple(_graph_output(state) for state in views))
        self.T += 1
        return views

    def end(self, outputs: Sequence[Tensor], finals: Sequence[Tensor]) -> list[Tensor]:
        """Add hooks to the outputs and the final states; return views of the final states."""
        self.d_outputs, self.d_finals = [None] * len(outputs), [None] * len(finals)
        views = [state.view_as(state) for state in finals]
        for gradients, tensors in ((self.d_outputs, outputs), (self.d_finals, views)):
            for i, tensor in enumerate(tensors):
                if (graph_output := _graph_output(tensor)) is not None:
                    _add_hook(graph_output, self._make_hook(gradients, i))
        return views

    def _make_hook(self, gradients: list[Tensor | None], i: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if torch.is_grad_enabled() and self.differentiable is None:
                self.differentiable = backward_pass()
                self._add_state_hooks()
                # Nodes with permanent hooks refer to the recorder, so a reference back to them would be a cycle.
                self.steps.clear()
                self.handles.clear()
            self._record(gradients, i, gradient)

        return hook

    def _record(self, gradients: Any, key: Any, gradient: Tensor) -> None:
        """Record a gradient in a list or a dictionary, if there are observers and it is not batched."""
        if is_observed() and not is_batched((gradient,)):
            self._open()
            gradients[key] = gradient.detach()

    def _open(self) -> None:
        """Start recording a backward pass, until it ends. Discard an earlier one, which may have ended in an error."""
        task = backward_pass()
        if task == self.task:
            return
        self._clear()
        self.task = task
        self._add_state_hooks()
        after_backward(self._close)

    def _add_state_hooks(self) -> None:
        def make_hook(key: tuple[int, int]) -> Callable[[Tensor], None]:
            return lambda gradient: self._record(self.gradients, key, gradient)

        for t, states in enumerate(self.steps):
            for i, graph_output in enumerate(states):
                if graph_output is not None:
                    self.handles.append(_add_hook(graph_output, make_hook((t, i))))

    def _close(self) -> None:
        d_states = tuple(self._collect(i, state) for i, state in enumerate(self.states))
        later = self.call.later or self.differentiable not in (None, self.task)
        event = BackwardEvent(self.call, tuple(self.d_outputs), tuple(self.d_finals), d_states, later)
        self._clear()
        notify(event)

    def _clear(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.gradients.clear()
        self.task = None
        # In place, since the hooks write to these lists.
        self.d_outputs[:], self.d_finals[:] = [None] * len(self.d_outputs), [None] * len(self.d_finals)

    def _collect(self, i: int, state: Tensor) -> Tensor:
        """Return the gradients of one state at all steps, with zeros for steps where none arrived."""
        sizes, gradients = self.call.sizes, list[Tensor]()
        for t, count in enumerate([len(state)] * self.T if sizes is None else sizes.tolist()):
            gradient = self.gradients.get((t, i))
            gradients.append(state.new_zeros(count, state.shape[1]) if gradient is None else gradient)
        return torch.stack(gradients) if sizes is None else torch.cat(gradients)


def _graph_output(tensor: Tensor) -> GraphOutput:
    return None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


def _add_hook(graph_output: tuple[Node, int], function: Callable[[Tensor], None]) -> RemovableHandle:
    """Call a function with the gradient of a value, if it gets one."""
    node, index = graph_output

    def hook(gradients: Sequence[Any]) -> None:
        if gradients[index] is not None:
            function(gradients[index])

    return node.register_prehook(hook)
