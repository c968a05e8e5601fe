"""A call of the engine, parts of which can run again as they did before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from torch import Tensor, nn

from elman.bptt._outside_tensors import substituted
from elman.engine import Output, State, as_tuple, run
from elman.engine.observe.events import current_label, labeled
from elman.engine.replay import Conditions
from elman.engine.rng_state import RngStates


class Segments:
    """A cell and all that is no tensor of a call.

    Args:
        cell: as in `elman.engine.run`.
        names: of the parameters.
        states: how many there are in a tuple; None for a tensor.
        executor: as in `elman.engine.run`.
        sizes: as in `elman.engine.run`.
        x: as in `elman.engine.run`.
        elsewhere: tensors that the steps read beside these.
    """

    def __init__(
        self,
        cell: nn.Module,
        names: Sequence[str],
        states: int | None,
        executor: str,
        sizes: Tensor | None,
        x: Tensor,
        elsewhere: Sequence[Tensor] = (),
    ) -> None:
        self.cell, self.names, self.executor, self.sizes = cell, names, executor, sizes
        self.single, self.states = states is None, states or 1
        self.outputs: tuple[str, ...] | None = None  # their names, where they have any
        self.first = range(len(x) + 1) if sizes is None else (0, *accumulate(sizes.tolist()))  # row of each step
        self.drawn = RngStates(x.device)
        self.elsewhere = elsewhere
        self.conditions = Conditions.of(cell, x.device.type)
        self.piece = current_label()

    @property
    def steps(self) -> int:
        """T."""
        return len(self.first) - 1

    def rows(self, begin: int, end: int) -> slice:
        """Of x and of the outputs, those of steps begin .. end."""
        return slice(self.first[begin], self.first[end])

    def by_step(self, values: Tensor) -> Sequence[Tensor]:
        """The rows of each step, (B, ...) or as many as there are."""
        return values.unbind(0) if self.sizes is None else values.split(self.sizes.tolist())

    def run(
        self, x: Tensor, begin: int, end: int, states: Sequence[Tensor], values: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The outputs of steps begin .. end, whose rows of the input are x, and the states after them.

        `values` are those of the parameters, and of the tensors from elsewhere.
        """
        parameters, others = values[: len(self.names)], values[len(self.names) :]
        sizes = None if self.sizes is None else self.sizes[begin:end]
        named = dict(zip(self.names, parameters, strict=True))
        state: State = states[0] if self.single else tuple(states)
        with labeled(self.piece and self.piece._replace(begin=begin)), substituted(self.elsewhere, others):
            output, state = run(self.cell, named, x, state, self.executor, sizes)
            if self.elsewhere:  # a state may be one of these tensors
                state = tuple(s.view_as(s) for s in as_tuple(state))
        if isinstance(output, dict):
            self.outputs = tuple(output)
            return tuple(output.values()), as_tuple(state)
        return (output,), as_tuple(state)

    def output(self, values: Sequence[Tensor]) -> Output:
        """Outputs in the form in which the cell gives them."""
        return values[0] if self.outputs is None else dict(zip(self.outputs, values, strict=True))

    @contextmanager
    def as_before(self, window: int) -> Iterator[None]:
        """Within, all is as the window had it at first: random numbers, precision, training or evaluation.

        Raises:
            RuntimeError: if another attribute of the cell has changed since then.
        """
        with self.conditions.restored("bptt"), self.drawn.drawing_from(window):
            yield
