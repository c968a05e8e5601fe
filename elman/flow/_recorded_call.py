"""One recorded call of a layer: its backward pass as a whole, or in several windows."""

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
    """The backward events of one label: one for all steps, or one for each window of a gradient mode.

    "Engine order" below is the order in which the engine reads rows: step by step, the longest sequence first, and
    each sequence from its end if the direction is reversed.

    Args:
        label: the label that the layer gave the call.
    """

    def __init__(self, label: LayerCall) -> None:
        self.label, self.name_format = label, "{}"  # makes names in the layer names in the model
        self._windows: dict[int, Replay] = {}  # by first step

    def add(self, event: BackwardEvent) -> None:
        """Add an event. Copies the parameters, which an optimizer changes in place.

        Gradients that another backward pass sends through the same window are added up: the steps are the same.
        """
        earlier = self._windows.get(event.call.begin)
        if earlier is not None:
            event = _add_events(earlier.event, event)
            parameters = earlier.parameters
        else:
            parameters = {name: value.detach().clone() for name, value in event.call.parameters.items()}
        self._windows[event.call.begin] = Replay(event, parameters)
        for cached in ("d_states", "weight_norms", "replays"):
            self.__dict__.pop(cached, None)

    @property
    def names(self) -> list[str]:
        """The names of the states in the model."""
        return [self.name_format.format(state) for state in self.label.names.states]

    def parameter_name(self, name: str) -> str:
        """Return the name in the model of a parameter, given its name in the engine."""
        return self.name_format.format(self.label.names.parameter(name))

    @property
    def T(self) -> int:
        """The number of steps of the longest sequence."""
        return len(self._offsets) - 1

    @cached_property
    def d_states(self) -> list[Tensor]:
        """The gradient that arrives at each state after every step of the input, (T, B, H), over all windows."""
        return [
            self.padded([replay.event.d_states[i] for replay in self.replays])
            for i in range(len(self.label.names.states))
        ]

    def padded(self, parts: list[Tensor]) -> Tensor:
        """Sum the values that each replay has for its rows to values (T, B, ...) of the whole input."""
        layout = self.label.layout
        sizes = layout.sizes
        lead = (layout.T, layout.B) if sizes is None else (int(sizes.sum()),)
        if len(parts) == 1 and parts[0].shape[: len(lead)] == lead:
            return self.label.padded(parts[0])  # a copy would take as long as a small backward pass
        rows = parts[0].new_zeros(*lead, *parts[0].shape[len(lead) :])
        for part, replay in zip(parts, self.replays, strict=True):
            begin = replay.event.call.begin if sizes is None else int(sizes[: replay.event.call.begin].sum())
            rows[begin : begin + len(part)] += part
        return self.label.padded(rows)

    @cached_property
    def _offsets(self) -> list[int]:
        """The index of the first row of each step, in engine order, and the number of all rows."""
        layout = self.label.layout
        return [0, *accumulate([layout.B] * layout.T if layout.sizes is None else layout.sizes.tolist())]

    def rows(self, step: int) -> slice:
        """Return which rows, in engine order, belong to a step."""
        return slice(self._offsets[step], self._offsets[step + 1])

    @cached_property
    def positions(self) -> Tensor:
        """The position of each row, in engine order, in the padded input: step * B + sequence; -1 if it has none."""
        sizes, count = self.label.layout.sizes, self._offsets[-1]
        numbers = torch.arange(1, count + 1, device=self.replays[0].event.d_states[0].device)
        padded = self.label.padded(
            numbers if sizes is not None else numbers.view(self.T, self.label.layout.B)
        ).flatten()
        real = padded.nonzero().flatten()
        return numbers.new_full((count,), -1).index_copy(0, padded[real] - 1, real)

    def locate(self, replay: Replay, t: int, row: int) -> tuple[int, int]:
        """Return the step of the input and the sequence of the batch that a row of step t of a replay belongs to."""
        return divmod(int(self.positions[self.rows(replay.event.call.begin + t)][row]), self.label.layout.B)

    @cached_property
    def input_steps(self) -> Tensor:
        """The step of the input that each row, in engine order, belongs to; -1 if it belongs to none."""
        return self.positions.div(self.label.layout.B, rounding_mode="floor")

    def masks_by_input_step(self, step: int) -> list[tuple[int, Tensor]]:
        """Return the steps of the input that the rows of a step belong to, each with the mask of its rows.

        There is only one, unless ragged sequences are read from their ends.
        """
        steps = self.input_steps[self.rows(step)]
        return [(input_step, steps == input_step) for input_step in steps.unique().tolist() if input_step >= 0]

    @cached_property
    def replays(self) -> list[Replay]:
        """The replays of the windows, in order of time."""
        return [self._windows[begin] for begin in sorted(self._windows)]

    def chains(self) -> list[list[Replay]]:
        """Group the replays by gradient: in each group the gradient flows from the last replay back to the first."""
        chained = self.replays[0].event.call.chained
        return [self.replays] if chained else [[replay] for replay in self.replays]

    def forward_steps(self) -> list[tuple[Replay, int]]:
        """Return each step of the layer once, in order: a replay that has it, and its index in that replay."""
        by_step = {step: (replay, t) for replay, t, step in self.steps()}
        return [by_step[step] for step in sorted(by_step)]

    def steps(self) -> Iterator[tuple[Replay, int, int]]:
        """Iterate over all steps of all windows: the replay, the index in the replay, and the index in the layer."""
        for replay in self.replays:
            for t in range(replay.T):
                yield replay, t, replay.event.call.begin + t

    @cached_property
    def weight_norms(self) -> Mapping[str, Tensor]:
        """The norm of what each step of the input contributes to the gradient of each parameter, (T,)."""
        totals: dict[str, list[Tensor | float]] = {}
        for replay, t, step in self.steps():
            for input_step, mask in self.masks_by_input_step(step):
                d_states = [mask_rows(mask, d[t]) for d in replay.d_states]
                d_outputs = [None if d is None else mask_rows(mask, d) for d in replay.own_d_outputs(t)]
                for name, gradient in replay.parameter_gradients(t, d_states, d_outputs).items():
                    by_step = totals.setdefault(self.parameter_name(name), [0.0] * self.T)
                    by_step[input_step] = by_step[input_step] + gradient
        zero = torch.zeros((), dtype=torch.float64)
        norm = torch.linalg.vector_norm
        return {
            name: torch.stack([norm(v, dtype=torch.float64) if isinstance(v, Tensor) else zero for v in by_step])
            for name, by_step in totals.items()
        }


def _add_events(a: BackwardEvent, b: BackwardEvent) -> BackwardEvent:
    """Add up the gradients that two backward passes send through the same steps."""
    return replace(
        a,
        d_outputs=tuple(map(add_gradients, a.d_outputs, b.d_outputs)),
        d_finals=tuple(map(add_gradients, a.d_finals, b.d_finals)),
        d_states=tuple(x + y for x, y in zip(a.d_states, b.d_states, strict=True)),
        later=a.later or b.later,
    )


def add_gradients(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Add gradients, where None stands for zero."""
    return b if a is None else a if b is None else a.detach() + b.detach()


def mask_rows(mask: Tensor, d: Tensor) -> Tensor:
    """Set the gradients (rows, ...) of the rows outside the mask to zero."""
    return d if mask.all() else d.where(mask.view(-1, *[1] * (d.dim() - 1)), 0)
