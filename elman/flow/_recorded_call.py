"""One recorded call of a layer: its backward pass in one piece, or in several windows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from elman.engine.observe.events import BackwardEvent
from elman.flow._replay import Replay
from elman.layers._layer_call import LayerCall


class RecordedCall:
    """What the engine told of one label: of all steps at once, or of every window of a gradient mode.

    Args:
        label: of the layer.
    """

    def __init__(self, label: LayerCall) -> None:
        self.label, self.form = label, "{}"  # of the names of its states
        self._windows: dict[int, Replay] = {}  # by the steps at which they begin

    def add(self, seen: BackwardEvent) -> None:
        """One more of them. The parameters are kept as they are now: an optimizer changes them in place.

        What another backward pass sends through the same window is added up: the steps are the same.
        """
        before = self._windows.get(seen.call.begin)
        if before is not None:
            seen = _added(before.seen, seen)
            parameters = before.parameters
        else:
            parameters = {name: value.detach().clone() for name, value in seen.call.parameters.items()}
        self._windows[seen.call.begin] = Replay(seen, parameters)
        for worked_out in ("d_states", "of_weights", "replays"):
            self.__dict__.pop(worked_out, None)

    @property
    def names(self) -> list[str]:
        """Of the states, in the model."""
        return [self.form.format(state) for state in self.label.names.states]

    def parameter(self, name: str) -> str:
        """Of the name that the engine has for a parameter, the one in the model."""
        return self.form.format(self.label.names.parameter(name))

    @property
    def T(self) -> int:
        """Steps of the longest sequence."""
        return len(self._first) - 1

    @cached_property
    def d_states(self) -> list[Tensor]:
        """The gradient that arrives at each state after every step of the input, (T, B, H), all windows together."""
        return [
            self.padded([replay.seen.d_states[i] for replay in self.replays])
            for i in range(len(self.label.names.states))
        ]

    def padded(self, parts: list[Tensor]) -> Tensor:
        """Values (T, B, ...) of the whole input, of those that each replay has for its rows; added up."""
        layout = self.label.layout
        sizes = layout.sizes
        lead = (layout.T, layout.B) if sizes is None else (int(sizes.sum()),)
        if len(parts) == 1 and parts[0].shape[: len(lead)] == lead:
            return self.label.padded(parts[0])  # a copy would take as long as a small backward pass
        rows = parts[0].new_zeros(*lead, *parts[0].shape[len(lead) :])
        for part, replay in zip(parts, self.replays, strict=True):
            begin = replay.seen.call.begin if sizes is None else int(sizes[: replay.seen.call.begin].sum())
            rows[begin : begin + len(part)] += part
        return self.label.padded(rows)

    @cached_property
    def _first(self) -> list[int]:
        """Of the rows of all steps, in the order of reading, the first of each."""
        layout = self.label.layout
        return [0, *accumulate([layout.B] * layout.T if layout.sizes is None else layout.sizes.tolist())]

    def rows(self, step: int) -> slice:
        """Those of a step, in the order of reading."""
        return slice(self._first[step], self._first[step + 1])

    @cached_property
    def places(self) -> Tensor:
        """Of each row, in the order of reading, where it lies in the padded input, step * B + sequence; or -1."""
        sizes, count = self.label.layout.sizes, self._first[-1]
        numbers = torch.arange(1, count + 1, device=self.replays[0].seen.d_states[0].device)
        padded = self.label.padded(
            numbers if sizes is not None else numbers.view(self.T, self.label.layout.B)
        ).flatten()
        real = padded.nonzero().flatten()
        return numbers.new_full((count,), -1).index_copy(0, padded[real] - 1, real)

    def place(self, replay: Replay, t: int, row: int) -> tuple[int, int]:
        """The step of the input and the sequence of the batch that a row of a step is."""
        return divmod(int(self.places[self.rows(replay.seen.call.begin + t)][row]), self.label.layout.B)

    @cached_property
    def steps_of_input(self) -> Tensor:
        """Of each row, in the order of reading, its step of the input; or -1."""
        return self.places.div(self.label.layout.B, rounding_mode="floor")

    def apart(self, step: int) -> list[tuple[int, Tensor]]:
        """The steps of the input that the rows of a step are, and which rows are; one, but for ragged ends."""
        steps = self.steps_of_input[self.rows(step)]
        return [(at, steps == at) for at in steps.unique().tolist() if at >= 0]

    @cached_property
    def replays(self) -> list[Replay]:
        """The windows, the first of the sequence first."""
        return [self._windows[begin] for begin in sorted(self._windows)]

    def groups(self) -> list[list[Replay]]:
        """The replays, in order, through which the same gradient goes back, from the last to the first of each."""
        chained = self.replays[0].seen.call.chained
        return [self.replays] if chained else [[replay] for replay in self.replays]

    def forward(self) -> list[tuple[Replay, int]]:
        """Every step of the layer once, in order: a replay that has it, and its number there."""
        found = {step: (replay, t) for replay, t, step in self.steps()}
        return [found[step] for step in sorted(found)]

    def steps(self) -> Iterator[tuple[Replay, int, int]]:
        """Every step of every window: its replay, its number there, and its number among those of the layer."""
        for replay in self.replays:
            for t in range(replay.T):
                yield replay, t, replay.seen.call.begin + t

    @cached_property
    def of_weights(self) -> Mapping[str, Tensor]:
        """The norm of what each step of the input contributes to the gradient of each parameter, (T,)."""
        totals: dict[str, list[Tensor | float]] = {}
        for replay, t, step in self.steps():
            for at, here in self.apart(step):
                d_states = [at_rows(here, d[t]) for d in replay.d_states]
                d_outputs = [None if d is None else at_rows(here, d) for d in replay.own_d_outputs(t)]
                for name, value in replay.of_parameters(t, d_states, d_outputs).items():
                    of_steps = totals.setdefault(self.parameter(name), [0.0] * self.T)
                    of_steps[at] = of_steps[at] + value
        zero = torch.zeros((), dtype=torch.float64)
        norm = torch.linalg.vector_norm
        return {
            name: torch.stack([norm(v, dtype=torch.float64) if isinstance(v, Tensor) else zero for v in values])
            for name, values in totals.items()
        }


def _added(one: BackwardEvent, other: BackwardEvent) -> BackwardEvent:
    """What two backward passes send through the same steps."""
    return replace(
        one,
        d_outputs=tuple(map(summed, one.d_outputs, other.d_outputs)),
        d_finals=tuple(map(summed, one.d_finals, other.d_finals)),
        d_states=tuple(a + b for a, b in zip(one.d_states, other.d_states, strict=True)),
        later=one.later or other.later,
    )


def summed(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of gradients, of which None is zero."""
    return b if a is None else a if b is None else a.detach() + b.detach()


def at_rows(here: Tensor, d: Tensor) -> Tensor:
    """The gradients (rows, ...) of some rows, and zeros for the others."""
    return d if here.all() else d.where(here.view(-1, *[1] * (d.dim() - 1)), 0)
