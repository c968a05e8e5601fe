"""Runs the steps of a recorded call again, one by one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from elman.engine import State, as_tuple
from elman.engine.eager import run_step
from elman.engine.named import recording_names as naming
from elman.engine.observe.events import BackwardEvent
from elman.engine.outputs import output_tensors as outputs_of
from elman.engine.outputs import states_shown
from elman.engine.precision import uncast
from elman.engine.trace.random_ops import ReplayRandomOps

Row = tuple[Tensor, ...]


class ReplayedStep(NamedTuple):
    """What a step has computed."""

    outputs: Row
    states: Row
    shown: tuple[int | None, ...]  # of each output, which state it is, if it is one
    named: dict[str, Tensor]


class Replay:
    """A call whose backward pass was seen, and its steps t = 0 .. T-1, each with a row for every sequence that has it.

    A cell that draws random numbers gets those that it drew.

    Args:
        seen: what the engine told.
        parameters: by name, as they were.
    """

    def __init__(self, seen: BackwardEvent, parameters: Mapping[str, Tensor]) -> None:
        self.seen, self.cell, self.parameters = seen, seen.call.cell, parameters
        self._kept = [seen.call.x, *as_tuple(seen.call.state)]
        self._versions = [tensor._version for tensor in self._kept]

    # All this is for later: to cut a sequence into its steps takes as long as a small backward pass.

    @cached_property
    def x(self) -> Sequence[Tensor]:
        """The input of each step."""
        return self.by_step(self.seen.call.x.detach())

    @cached_property
    def d_states(self) -> list[Sequence[Tensor]]:
        """Of each state, what arrives at it after each step."""
        return [self.by_step(d) for d in self.seen.d_states]

    @cached_property
    def d_outputs(self) -> list[Sequence[Tensor] | None]:
        """The gradient of each output, of each step."""
        return [None if d is None else self.by_step(d.detach()) for d in self.seen.d_outputs]

    @cached_property
    def _draws(self) -> list[list[Tensor] | None]:
        """The random numbers of each step; None before they are known."""
        draws = [self.by_step(values) for values in self.seen.call.draws]
        return [[values[t] for values in draws] if draws else None for t in range(self.T)]

    @property
    def T(self) -> int:
        """How many steps there are."""
        return len(self.x)

    def by_step(self, values: Tensor) -> Sequence[Tensor]:
        """The rows of each step."""
        sizes = self.seen.call.sizes
        return values.unbind(0) if sizes is None else values.split(sizes.tolist())

    def d_finals(self, t: int, after: int = 0) -> list[Tensor | None]:
        """The gradients of the states in which sequences end with step t, with zeros for those that go on."""
        n, later = len(self.x[t]), after if t + 1 == self.T else len(self.x[t + 1])
        found: list[Tensor | None] = []
        for d in self.seen.d_finals:
            ends = d is not None and later < n
            found.append(torch.cat((torch.zeros_like(d[:later]), d[later:n])) if ends and d is not None else None)
        return found

    def own_d_outputs(self, t: int) -> list[Tensor | None]:
        """The gradients of the outputs of a step, of those that are no state: the others have arrived there."""
        return [None if d is None or i is not None else d[t] for d, i in zip(self.d_outputs, self.shown, strict=True)]

    @cached_property
    def before(self) -> list[Row]:
        """The states before every step."""
        return [states for states, _ in self._run]

    def made(self, t: int) -> ReplayedStep:
        """What step t has computed."""
        return self._run[t][1]

    @cached_property
    def named(self) -> list[dict[str, Tensor]]:
        """What the cell gives names to, of every step."""
        return [step.named for _, step in self._run]

    @cached_property
    def shown(self) -> tuple[int | None, ...]:
        """Of each output, which state it is; None for a value of its own."""
        return self.made(0).shown

    @cached_property
    def _run(self) -> list[tuple[Row, ReplayedStep]]:
        self._check()
        states: Row = tuple(state.detach() for state in as_tuple(self.seen.call.state))
        found = []
        with torch.no_grad(), torch.random.fork_rng([]):
            if self.seen.call.random is not None:
                torch.set_rng_state(self.seen.call.random)
            for t in range(self.T):
                states = tuple(state[: len(self.x[t])] for state in states)
                step = self.step(t, self.x[t], states, self.parameters)
                found.append((states, step))
                states = step.states
        return found

    def step(self, t: int, x: Tensor, states: Row, parameters: Mapping[str, Tensor], times: int = 1) -> ReplayedStep:
        """Take step t, for rows that stand there so many times, one set after the other."""
        state: State = states[0] if isinstance(self.seen.call.state, Tensor) else states
        with self.seen.call.conditions.restored("flow"), self._given(t, times), naming() as named:
            output, new = run_step(self.cell, parameters, x, state)
        return ReplayedStep(tuple(outputs_of(output)), as_tuple(new), states_shown(output, as_tuple(new)), dict(named))

    def _check(self) -> None:
        if self._versions != [tensor._version for tensor in self._kept]:
            raise RuntimeError(
                "flow: expected the input and the initial state as they were in the backward pass, got some that were "
                "changed in place since; ask before, or record a copy"
            )

    @contextmanager
    def _given(self, t: int, times: int) -> Iterator[None]:
        drawn = self._draws[t]
        if drawn is None:
            with ReplayRandomOps() as numbers:
                yield
            self._draws[t] = numbers.drawn
        elif drawn:
            # The numbers are drawn, and then those that are given put in their place.
            with (
                torch.random.fork_rng([]),
                ReplayRandomOps([values.repeat(times, *[1] * (values.dim() - 1)) for values in drawn]),
            ):
                yield
        else:
            yield

    def back(
        self,
        t: int,
        d_states: Sequence[Tensor],
        d_outputs: Sequence[Tensor | None] = (),
        rows: slice = slice(None),
        of_x: bool = False,
    ) -> Row:
        """The gradients of the states before step t, of many gradients of what it makes.

        Args:
            t: the step.
            d_states: of the states after it, (n, rows, H) each.
            d_outputs: of its outputs, in the same way.
            rows: of the step's, those that are meant.
            of_x: that of the input too, behind the others.
        """
        n = len(d_states[0])
        x = self.x[t][rows]
        x = x.repeat(n, *[1] * (x.dim() - 1)).requires_grad_(of_x)
        given = tuple(state[rows].repeat(n, 1).requires_grad_() for state in self.before[t])
        with torch.enable_grad():
            step = self.step(t, x, given, self.parameters, times=n)
        cotangents = [None if d is None else d.flatten(0, 1) for d in (*d_states, *d_outputs)]
        wanted = (*given, x) if of_x else given
        return tuple(d.unflatten(0, (n, -1)) for d in _gradients(step, wanted, cotangents))

    def of_parameters(
        self, t: int, d_states: Sequence[Tensor], d_outputs: Sequence[Tensor | None] = ()
    ) -> dict[str, Tensor]:
        """What step t alone makes of the gradients of its parameters, of those (rows, H) of what it makes."""
        own = self.seen.call.parameters
        named = {name: self.parameters[name].detach().requires_grad_() for name in own if own[name].requires_grad}
        with torch.enable_grad():
            step = self.step(t, self.x[t], self.before[t], {**self.parameters, **named})
        return dict(zip(named, _gradients(step, [*named.values()], (*d_states, *d_outputs)), strict=True))


def _gradients(step: ReplayedStep, inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """Those of the inputs of a step, of gradients of its states and, if there are more, of its outputs."""
    pairs = zip((*step.states, *step.outputs), cotangents, strict=False)
    asked = [(value, d) for value, d in pairs if d is not None and value.requires_grad]
    if not asked:
        return [torch.zeros_like(value) for value in inputs]
    with uncast(inputs[0].device.type):
        return torch.autograd.grad(
            [value for value, _ in asked], inputs, [d for _, d in asked], allow_unused=True, materialize_grads=True
        )
