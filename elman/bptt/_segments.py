"""A call of the engine, parts of which can run again as they did before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from torch import Tensor

from elman.bptt._outside_tensors import substituted
from elman.engine import Inputs, Output, State, as_tuple, run
from elman.engine.inputs import split_by_step
from elman.engine.observe.events import current_label, labeled
from elman.engine.outputs import output_tensors
from elman.engine.replay import Conditions
from elman.engine.rng_state import RngStates


class Segments:
    """A call of the engine without its tensors, which autograd saves.

    Args:
        inputs: the call.
        executor: as in `elman.engine.run`.
        outside: tensors that the steps read beside the inputs.
    """

    def __init__(self, inputs: Inputs, executor: str, outside: Sequence[Tensor] = ()) -> None:
        self.cell, self.executor, self.sizes, self.outside = inputs.cell, executor, inputs.sizes, outside
        self.names = tuple(inputs.parameters)
        self.has_single_state, self.num_states = isinstance(inputs.state, Tensor), len(inputs.states)
        self.output_names: tuple[str, ...] | None = None  # of several outputs; known once steps have run
        #: the row at which each step begins, and the number of rows
        self.begins = range(len(inputs.x) + 1) if inputs.sizes is None else (0, *accumulate(inputs.sizes.tolist()))
        self.rng_states = RngStates(inputs.x.device)
        self.conditions = Conditions.of(inputs.cell, inputs.x.device.type)
        self.label = current_label()

    @property
    def steps(self) -> int:
        """T."""
        return len(self.begins) - 1

    def rows(self, begin: int, end: int) -> slice:
        """The rows of x, and of the outputs, of steps begin .. end."""
        return slice(self.begins[begin], self.begins[end])

    def by_step(self, values: Tensor) -> Sequence[Tensor]:
        """The rows of each step, (B, ...), or fewer where sequences have ended."""
        return split_by_step(values, self.sizes)

    def run(
        self, x: Tensor, begin: int, end: int, states: Sequence[Tensor], values: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run steps begin .. end.

        Args:
            x: the rows of these steps.
            begin: the first step.
            end: one past the last step.
            states: before the first step.
            values: of the parameters, then of the outside tensors.

        Returns:
            The outputs of these steps and the states after them.
        """
        parameters, outside = values[: len(self.names)], values[len(self.names) :]
        sizes = None if self.sizes is None else self.sizes[begin:end]
        state: State = states[0] if self.has_single_state else tuple(states)
        inputs = Inputs(self.cell, dict(zip(self.names, parameters, strict=True)), x, state, sizes)
        with labeled(self.label and self.label._replace(begin=begin)), substituted(self.outside, outside):
            output, state = run(inputs, self.executor)
            if self.outside:  # a state may be one of these tensors
                state = tuple(s.view_as(s) for s in as_tuple(state))
        self.output_names = tuple(output) if isinstance(output, dict) else None
        return tuple(output_tensors(output)), as_tuple(state)

    def results(self, values: Sequence[Tensor]) -> tuple[Output, State]:
        """Outputs and final states, side by side, in the form in which the cell returns them."""
        outputs, finals = values[: -self.num_states], values[-self.num_states :]
        names = self.output_names
        output = outputs[0] if names is None else dict(zip(names, outputs, strict=True))
        return output, finals[0] if self.has_single_state else tuple(finals)

    @contextmanager
    def restored(self, window: int) -> Iterator[None]:
        """A context in which a window runs as it did at first: random numbers, autocast, training or evaluation.

        Raises:
            RuntimeError: if another attribute of the cell has changed since then.
        """
        with self.conditions.restored("bptt"), self.rng_states.drawing_from(window):
            yield
