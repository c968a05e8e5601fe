"""Gradient flow during training."""

from collections.abc import Iterator
from typing import NamedTuple

from elman.flow.diagnosis import NUM_SEQUENCES, NUM_STEPS
from elman.flow.jacobians import count_sequences
from elman.flow.recording import Recording
from elman.flow.units import summarize_gates


class HistoryRow(NamedTuple):
    """The gradient flow of one cell at one training step.

    Attributes:
        name: the state in which gradients live longest.
        steps: number of steps followed back from the last one.
        horizon: number of steps back after which less than 1 % of a gradient is left; `steps` if more is left.
        growth: growth factor of a gradient per step back.
        largest: the largest size of a gradient on its way back, relative to its size at the last step.
        first: norm of the gradient that arrives at the state after the first step, over all sequences.
        last: the same for the last step.
        stuck: the largest share of the values of a gate that block gradients.
        norm: norm of the gradient of all parameters.
        clipped: 1 if that gradient was clipped.
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
        """Return all fields but the name."""
        return {key: float(value) for key, value in self._asdict().items() if key != "name"}


def rows_of(recording: Recording, norm: float, clipped: float) -> Iterator[HistoryRow]:
    """Return a row for each call of a recording that has a sequence with a step."""
    for call in filter(count_sequences, recording.calls.values()):
        jacobians = recording.jacobians(call.names[0], NUM_SEQUENCES, NUM_STEPS)
        name, decay = jacobians.longest
        norms = recording.over_sequences(name)
        stuck = max((gate.stuck for gate in summarize_gates(call).values()), default=0.0)
        steps, horizon = len(decay) - 1, jacobians.horizon[name]
        yield HistoryRow(
            name, steps, steps if horizon is None else horizon, jacobians.rate(name), float(decay.max()),
            float(norms[0]), float(norms[-1]), stuck, norm, clipped,
        )  # fmt: skip
