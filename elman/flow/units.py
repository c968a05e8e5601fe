"""Saturated gates and dead units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elman.flow._recorded_call import RecordedCall

MARGIN = 0.05  # of the range of a gate: closer to either end, its derivative is below a fifth of its largest


@dataclass(frozen=True)
class Gate:
    """Statistics of a gate, or of a bounded state, over all steps, sequences and units.

    Args:
        mean: mean value at each step of the input, (T,).
        low: share of the values within 5 % of the lower end of the range, 0 or -1.
        high: share of the values within 5 % of the upper end, 1.
        signed: whether the lower end is -1.
    """

    mean: Tensor
    low: float
    high: float
    signed: bool

    @property
    def saturated(self) -> float:
        """Share of the values at either end."""
        return self.low + self.high

    @property
    def stuck(self) -> float:
        """Share of the values that block gradients: closed gates, and tanh near either end.

        Open gates are not counted: they pass on what they multiply, as a forget gate must to remember.
        """
        return self.saturated if self.signed else self.low


def summarize_gates(call: RecordedCall) -> dict[str, Gate]:
    """Return statistics of the bounded values that the cell names; of its bounded states, if it names none."""
    values: dict[str, list[Tensor]] = {}
    for replay, t in call.forward_steps():
        result = replay.result(t)
        states = dict(zip(call.label.names.states, result.states, strict=True))
        named = {f"{name}{call.label.names.suffix}": value for name, value in result.named.items()}
        for name, value in (named or states).items():
            values.setdefault(name, []).append(value.flatten(1))
    positions = [call.positions[call.rows(replay.event.call.begin + t)] for replay, t in call.forward_steps()]
    row_positions, names = torch.cat(positions), call.label.names.states
    all_gates = {name: _summarize(call, torch.cat(rows), row_positions, name in names) for name, rows in values.items()}
    return {call.name_format.format(name): gate for name, gate in all_gates.items() if gate is not None}


def _summarize(call: RecordedCall, values: Tensor, positions: Tensor, signed: bool) -> Gate | None:
    """Return statistics of values (rows, H) at positions of the padded input; None if they are not bounded."""
    values, positions = values[positions >= 0], positions[positions >= 0]
    if not len(values) or not (values.min() >= -1 and values.max() <= 1) or not values.any():
        return None
    bottom = -1 if signed or values.min() < 0 else 0
    margin = MARGIN * (1 - bottom)
    low, high = (values < bottom + margin), (values > 1 - margin)
    row_means = values.new_full((call.T * call.label.layout.B,), torch.nan, dtype=torch.float64)
    row_means[positions] = values.mean(1, dtype=torch.float64)
    mean = row_means.view(call.T, -1).nanmean(1)
    return Gate(mean, float(low.float().mean()), float(high.float().mean()), bottom < 0)


def find_dead_units(call: RecordedCall) -> dict[str, Tensor]:
    """Return for each state the indices of the units that are zero at every step of every sequence."""
    alive: list[Tensor] = [torch.zeros(d.shape[-1], dtype=torch.bool) for d in call.d_states]
    for replay, t, _ in call.steps():
        for i, state in enumerate(replay.result(t).states):
            alive[i] |= (state != 0).any(0).cpu() if len(state) else True
    return {name: (~units).nonzero().flatten() for name, units in zip(call.names, alive, strict=True)}
