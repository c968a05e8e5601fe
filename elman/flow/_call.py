"""A layer's call whose backward pass was recorded, in one piece or in several windows."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from elman.flow._replay import Replay
from elman.layers._label import Label
from elman.through_time.observed import Seen


class Call:
    """What the engine told of one label: of all steps at once, or of every window of a gradient mode.

    Args:
        label: of the layer.
    """

    def __init__(self, label: Label) -> None:
        self.label, self.form = label, "{}"  # of the names of its states
        self.passes: list[list[Replay]] = []  # of each backward pass its windows, the first of the sequence first

    def add(self, seen: Seen) -> None:
        """One more of them. The parameters are kept as they are now: an optimizer changes them in place."""
        parameters = {name: value.detach().clone() for name, value in seen.ran.parameters.items()}
        replay = Replay(seen, parameters)
        # A backward pass sees the windows from the last to the first.
        if not self.passes or seen.ran.begin >= self.passes[-1][0].seen.ran.begin:
            self.passes.append([])
        self.passes[-1].insert(0, replay)
        for worked_out in ("d_states", "of_weights"):
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
        """Steps that were seen."""
        return max(replay.seen.ran.begin + replay.T for replay in self.replays)

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
        rows = parts[0].new_zeros(*lead, *parts[0].shape[len(lead) :])
        for part, replay in zip(parts, self.replays, strict=True):
            begin = replay.seen.ran.begin if sizes is None else int(sizes[: replay.seen.ran.begin].sum())
            rows[begin : begin + len(part)] += part
        return self.label.padded(rows)

    def place(self, replay: Replay, t: int, row: int) -> tuple[int, int]:
        """The step of the input and the sequence of the batch that a row of a step is."""
        parts = []
        for other in self.replays:
            mark = torch.zeros_like(other.seen.d_states[0][..., 0])
            if other is replay:
                other.by_step(mark)[t][row] = 1
            parts.append(mark)
        step, sequence = self.padded(parts).nonzero()[0].tolist()
        return step, sequence

    @property
    def replays(self) -> list[Replay]:
        """Those of all passes."""
        return [replay for windows in self.passes for replay in windows]

    def groups(self) -> list[list[Replay]]:
        """The replays, in order, through which the same gradient goes back, from the last to the first of each."""
        chained = self.replays[0].seen.ran.chained
        return self.passes if chained else [[replay] for replay in self.replays]

    def forward(self) -> list[tuple[Replay, int]]:
        """Every step of the layer once, in order: a replay that has it, and its number there."""
        found = {step: (replay, t) for replay, t, step in self.steps()}
        return [found[step] for step in sorted(found)]

    def steps(self) -> Iterator[tuple[Replay, int, int]]:
        """Every step of every window: its replay, its number there, and its number among those of the layer."""
        for replay in self.replays:
            for t in range(replay.T):
                yield replay, t, replay.seen.ran.begin + t

    @cached_property
    def of_weights(self) -> Mapping[str, Tensor]:
        """The norm of what each step contributes to the gradient of each parameter, (T,)."""
        totals: dict[str, list[Tensor | float]] = {}
        for replay, t, step in self.steps():
            d_states = [d[t] for d in replay.d_states]
            for name, value in replay.of_parameters(t, d_states, replay.own_d_outputs(t)).items():
                of_steps = totals.setdefault(self.parameter(name), [0.0] * self.T)
                of_steps[step] = of_steps[step] + value
        zero = torch.zeros((), dtype=torch.float64)
        norm = torch.linalg.vector_norm
        return {
            name: torch.stack([norm(v, dtype=torch.float64) if isinstance(v, Tensor) else zero for v in values])
            for name, values in totals.items()
        }
