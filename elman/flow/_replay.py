"""Runs the steps of a recorded call again, one by one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from elman.engine import State, as_tuple
from elman.engine.eager import run_step
from elman.engine.inputs import split_by_step
from elman.engine.named import recording_names
from elman.engine.observe.events import BackwardEvent
from elman.engine.outputs import output_state_indices
from elman.engine.outputs import output_tensors as outputs_of
from elman.engine.precision import uncast
from elman.engine.rng_state import get_rng_state, rng_state
from elman.engine.trace.random_ops import ReplayRandomOps

Tensors = tuple[Tensor, ...]


class ReplayedStep(NamedTuple):
    """The values that a step computed.

    Attributes:
        outputs: (rows, ...) each.
        states: after the step, (rows, H) each.
        output_state_indices: for each output, the index of the state that it is; None if it is not a state.
        named: the values that the cell named with `elman.named`.
    """

    outputs: Tensors
    states: Tensors
    output_state_indices: tuple[int | None, ...]
    named: dict[str, Tensor]


class Replay:
    """A call with a recorded backward pass, and its steps t = 0 .. T-1, each with one row per sequence still active.

    A cell that draws random numbers gets the same numbers again.

    Args:
        event: the backward pass.
        parameters: values at the time of the backward pass, by name.
    """

    def __init__(self, event: BackwardEvent, parameters: Mapping[str, Tensor]) -> None:
        self.event, self.cell, self.parameters = event, event.call.cell, parameters
        self._inputs = [event.call.x, *as_tuple(event.call.state)]
        self._versions = [tensor._version for tensor in self._inputs]

    # The properties are lazy because splitting a sequence into its steps takes as long as a small backward pass.

    @cached_property
    def x(self) -> Sequence[Tensor]:
        """The input of each step."""
        return self.split_by_step(self.event.call.x.detach())

    @cached_property
    def d_states(self) -> list[Sequence[Tensor]]:
        """For each state, the gradient that arrives at it after each step."""
        return [self.split_by_step(d) for d in self.event.d_states]

    @cached_property
    def d_outputs(self) -> list[Sequence[Tensor] | None]:
        """For each output, its gradient at each step."""
        return [None if d is None else self.split_by_step(d.detach()) for d in self.event.d_outputs]

    @cached_property
    def _draws(self) -> list[list[Tensor] | None]:
        """The random numbers of each step; None until they are known."""
        draws = [self.split_by_step(values) for values in self.event.call.draws]
        return [[values[t] for values in draws] if draws else None for t in range(self.T)]

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.x)

    def split_by_step(self, values: Tensor) -> Sequence[Tensor]:
        """Split values (T, B, ...) or packed (N, ...) into the rows of each step."""
        return split_by_step(values, self.event.call.sizes)

    def d_finals(self, t: int, next_rows: int = 0) -> list[Tensor | None]:
        """Return the gradients of the final states of the sequences that end with step t, and zeros for the others.

        Args:
            t: the step.
            next_rows: if t is the last step, the number of sequences that continue in the next replay.
        """
        n, later = len(self.x[t]), next_rows if t + 1 == self.T else len(self.x[t + 1])
        gradients: list[Tensor | None] = []
        for d in self.event.d_finals:
            ends = d is not None and later < n
            gradients.append(torch.cat((torch.zeros_like(d[:later]), d[later:n])) if ends and d is not None else None)
        return gradients

    def own_d_outputs(self, t: int) -> list[Tensor | None]:
        """Return the gradients of the outputs of step t that are not states: those of the others are in `d_states`."""
        pairs = zip(self.d_outputs, self.output_state_indices, strict=True)
        return [None if d is None or i is not None else d[t] for d, i in pairs]

    @cached_property
    def states_before(self) -> list[Tensors]:
        """The states before each step."""
        return [states for states, _ in self._run]

    def result(self, t: int) -> ReplayedStep:
        """Return the values that step t computed."""
        return self._run[t][1]

    @cached_property
    def output_state_indices(self) -> tuple[int | None, ...]:
        """For each output, the index of the state that it is; None if it is not a state."""
        return self.result(0).output_state_indices

    @cached_property
    def _run(self) -> list[tuple[Tensors, ReplayedStep]]:
        """The states before each step, and its result."""
        self._check_inputs()
        states: Tensors = tuple(state.detach() for state in as_tuple(self.event.call.state))
        steps = []
        call = self.event.call
        with torch.no_grad(), rng_state(call.random or get_rng_state(call.x.device), call.x.device):
            for t in range(self.T):
                states = tuple(state[: len(self.x[t])] for state in states)
                step = self.step(t, self.x[t], states, self.parameters)
                steps.append((states, step))
                states = step.states
        return steps

    def step(
        self, t: int, x: Tensor, states: Tensors, parameters: Mapping[str, Tensor], repeats: int = 1
    ) -> ReplayedStep:
        """Run step t on `repeats` copies of its rows, one behind the other."""
        state: State = states[0] if isinstance(self.event.call.state, Tensor) else states
        with (
            self.event.call.conditions.restored("flow"),
            self._replaying_random_numbers(t, repeats),
            recording_names() as named,
        ):
            output, new = run_step(self.cell, parameters, x, state)
        indices = output_state_indices(output, as_tuple(new))
        return ReplayedStep(tuple(outputs_of(output)), as_tuple(new), indices, dict(named))

    def _check_inputs(self) -> None:
        if self._versions != [tensor._version for tensor in self._inputs]:
            raise RuntimeError(
                "flow: expected the input and the initial state of the backward pass, got tensors that were changed in "
                "place since; read the recording before the change, or pass copies to the layer"
            )

    @contextmanager
    def _replaying_random_numbers(self, t: int, repeats: int) -> Iterator[None]:
        draws = self._draws[t]
        if draws is None:
            with ReplayRandomOps() as recorder:
                yield
            self._draws[t] = recorder.drawn
        elif draws:
            # The cell draws new numbers, which `ReplayRandomOps` overwrites; afterwards the generators are as before.
            device = self.event.call.x.device
            with (
                rng_state(get_rng_state(device), device),
                ReplayRandomOps([values.repeat(repeats, *[1] * (values.dim() - 1)) for values in draws]),
            ):
                yield
        else:
            yield

    def backward(
        self,
        t: int,
        d_states: Sequence[Tensor],
        d_outputs: Sequence[Tensor | None] = (),
        rows: slice = slice(None),
        input_gradient: bool = False,
    ) -> Tensors:
        """Backpropagate n cotangents through step t at once; return the gradients of the states before it.

        Args:
            t: the step.
            d_states: cotangents of the states after it, (n, rows, H) each.
            d_outputs: cotangents of its outputs, (n, rows, ...) each.
            rows: the rows of the step that the cotangents belong to.
            input_gradient: also return the gradient of the input, as the last one.
        """
        n = len(d_states[0])
        x = self.x[t][rows]
        x = x.repeat(n, *[1] * (x.dim() - 1)).requires_grad_(input_gradient)
        states = tuple(state[rows].repeat(n, 1).requires_grad_() for state in self.states_before[t])
        with torch.enable_grad():
            step = self.step(t, x, states, self.parameters, repeats=n)
        cotangents = [None if d is None else d.flatten(0, 1) for d in (*d_states, *d_outputs)]
        inputs = (*states, x) if input_gradient else states
        return tuple(d.unflatten(0, (n, -1)) for d in _gradients(step, inputs, cotangents))

    def parameter_gradients(
        self, t: int, d_states: Sequence[Tensor], d_outputs: Sequence[Tensor | None] = ()
    ) -> dict[str, Tensor]:
        """Return what step t contributes to the gradients of its parameters, given the cotangents of its results."""
        parameters = self.event.call.parameters
        needed = [name for name, value in parameters.items() if value.requires_grad]
        leaves = {name: self.parameters[name].detach().requires_grad_() for name in needed}
        with torch.enable_grad():
            step = self.step(t, self.x[t], self.states_before[t], {**self.parameters, **leaves})
        return dict(zip(leaves, _gradients(step, [*leaves.values()], (*d_states, *d_outputs)), strict=True))


def _gradients(step: ReplayedStep, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """Return the gradients of the inputs of a step, given cotangents of its states and, optionally, its outputs."""
    pairs = zip((*step.states, *step.outputs), cotangents, strict=False)
    roots = [(value, d) for value, d in pairs if d is not None and value.requires_grad]
    if not roots:
        return [torch.zeros_like(value) for value in inputs]
    with uncast(inputs[0].device.type):
        return torch.autograd.grad(
            [value for value, _ in roots], inputs, [d for _, d in roots], allow_unused=True, materialize_grads=True
        )
