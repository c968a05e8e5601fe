"""Gradient flow in the course of a training."""

from collections.abc import Iterator
from typing import NamedTuple

from elman.flow.diagnosis import SEQUENCES, STEPS
from elman.flow.jacobians import sequences_of
from elman.flow.recording import Recording
from elman.flow.units import gates


class HistoryRow(NamedTuple):
    """Of one cell, at one step of the training.

    name: of the state in which a gradient lives longest.
    steps: back from the last, that were looked at.
    horizon: after how many of them less than 1 % of a gradient is left; `steps` where more is left after all.
    growth: how many times larger a gradient becomes with each step back.
    largest: how many times larger it is where it is largest.
    first: norm of the gradient that arrives at the state after the first step, of all sequences.
    last: at the last step.
    stuck: the largest share of the values of a gate that pass no gradient on.
    norm: of the whole gradient of all parameters.
    clipped: 1 if that was scaled down.
    """

    name: str
    steps: int
    horizon: int
    growth: float
    largest: float
    first: float
    last: float
    stuck: float
    norm: float
    clipped: float

    def numbers(self) -> dict[str, float]:
        """All but the name."""
        return {key: float(value) for key, value in self._asdict().items() if key != "name"}


def rows_of(recording: Recording, norm: float, clipped: float) -> Iterator[HistoryRow]:
    """A row for every cell of a recording that has read anything."""
    for call in filter(sequences_of, recording.calls.values()):
        found = recording.jacobians(call.names[0], SEQUENCES, STEPS)
        name, left = found.longest
        arriving = recording.over_sequences(name)
        stuck = max((gate.stuck for gate in gates(call).values()), default=0.0)
        steps, horizon = len(left) - 1, found.horizon[name]
        yield HistoryRow(
            name, steps, steps if horizon is None else horizon, found.rate(name), float(left.max()),
            float(arriving[0]), float(arriving[-1]), stuck, norm, clipped,
        )  # fmt: skip
