"""Saturated gates and dead units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from elman.flow._recorded_call import RecordedCall

EDGE = 0.05  # of the range of a gate, at either end: there its derivative is below a fifth of its largest


@dataclass(frozen=True)
class Gate:
    """The values of a gate, or of a state between fixed ends, over all steps, sequences and units.

    Args:
        mean: of each step of the input, (T,).
        low: share of the values within 5 % of the lower end of the range, 0 or -1.
        high: share within 5 % of the upper end, 1.
        signed: the lower end is -1.
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
        """Share of the values that pass no gradient on: a gate that is shut, a tanh at either end.

        A gate that is open lets what it multiplies pass, as the forget gate must to remember.
        """
        return self.saturated if self.signed else self.low


def gates(call: RecordedCall) -> dict[str, Gate]:
    """Of what the cell gives names to; of a cell that names nothing, of its states; where these have fixed ends."""
    values: dict[str, list[Tensor]] = {}
    for replay, t in call.forward():
        states = dict(zip(call.label.names.states, replay.made(t).states, strict=True))
        named = {f"{name}{call.label.names.suffix}": value for name, value in replay.named[t].items()}
        for name, value in (named or states).items():
            values.setdefault(name, []).append(value.flatten(1))
    at = torch.cat([call.places[call.rows(replay.seen.call.begin + t)] for replay, t in call.forward()])
    found = {
        name: _gate(call, torch.cat(rows), at, signed=name in call.label.names.states) for name, rows in values.items()
    }
    return {call.form.format(name): gate for name, gate in found.items() if gate is not None}


def _gate(call: RecordedCall, values: Tensor, places: Tensor, signed: bool) -> Gate | None:
    """Of values (rows, H), which lie at places of the padded input."""
    values, places = values[places >= 0], places[places >= 0]
    if not len(values) or not (values.min() >= -1 and values.max() <= 1) or not values.any():
        return None
    bottom = -1 if signed or values.min() < 0 else 0
    edge = EDGE * (1 - bottom)
    low, high = (values < bottom + edge), (values > 1 - edge)
    of_rows = values.new_full((call.T * call.label.layout.B,), torch.nan, dtype=torch.float64)
    of_rows[places] = values.mean(1, dtype=torch.float64)
    mean = of_rows.view(call.T, -1).nanmean(1)
    return Gate(mean, float(low.float().mean()), float(high.float().mean()), bottom < 0)


def dead(call: RecordedCall) -> dict[str, Tensor]:
    """Of every state, the units that are zero at every step of every sequence."""
    alive: list[Tensor] = [torch.zeros(d.shape[-1], dtype=torch.bool) for d in call.d_states]
    for replay, t, _ in call.steps():
        for i, state in enumerate(replay.made(t).states):
            alive[i] |= (state != 0).any(0).cpu() if len(state) else True
    return {name: (~units).nonzero().flatten() for name, units in zip(call.names, alive, strict=True)}
