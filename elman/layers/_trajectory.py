"""Every state, and every named value, of every step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.layers._around import OUTPUT, STATE
from elman.through_time import Output


class Trajectory(NamedTuple):
    """What a layer has done at every step; time is always the first axis but in `outputs`.

    outputs: as the layer returns them.
    states: the states after every step, so that `states[t]`, or `[s[t] for s in states]`, is a state of the layer.
    named: the values that the cell gives a name to, its gates, (T, B, H); of a stack (T, L, B, H).
    """

    outputs: Any
    states: Any
    named: dict[str, Tensor]


def real_steps(name: str, lengths: Tensor | Sequence[int] | None, x: Tensor) -> Tensor | None:
    """Which steps (T, B) of a padded sequence are real; None if all are.

    Raises:
        ValueError: for lengths that are no B whole numbers from 0 to T.
    """
    if lengths is None:
        return None
    T, B = x.shape[:2]
    found = torch.as_tensor(lengths, device=x.device)
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.shape != (B,) or not whole or (B and not 0 <= int(found.min()) <= int(found.max()) <= T):
        raise ValueError(f"{name}: lengths: expected {B} whole numbers from 0 to {T}, got {found.tolist()!r:.60}")
    return torch.arange(T, device=x.device).unsqueeze(1) < found


def without_padding(values: Tensor, real: Tensor | None) -> Tensor:
    """Values (T, B, ...) with zeros for the steps that are not real."""
    if real is None:
        return values
    return values.masked_fill(~real.view(*real.shape, *[1] * (values.dim() - 2)), 0)


def output_of(layer: dict[str, Tensor]) -> Output:
    """The output among what a `Watched` cell has given: its own, or the first state."""
    own = {name.removeprefix(OUTPUT): value for name, value in layer.items() if name.startswith(OUTPUT)}
    return own.get("", own) if own else layer[STATE + "0"]


def trajectory(
    layers: Sequence[dict[str, Tensor]], real: Tensor | None, *, single: bool, stacked: bool, batched: bool
) -> Trajectory:
    """What the `Watched` cells of a layer have given.

    Args:
        layers: of each layer, in order, values (T, B, ...).
        real: the steps that are no padding.
        single: the cell has one state, and it is no tuple.
        stacked: give the layers an axis of their own, the second.
        batched: else B, which is 1, is an axis of the outputs alone.
    """
    given = [{name: without_padding(value, real) for name, value in layer.items()} for layer in layers]
    outputs = output_of(given[-1])
    if not batched:
        given = [{name: value.squeeze(1) for name, value in layer.items()} for layer in given]
    piles = {name: _pile([layer[name] for layer in given]) if stacked else given[-1][name] for name in given[-1]}
    states = tuple(value for name, value in piles.items() if name.startswith(STATE))
    named = {name: value for name, value in piles.items() if " " not in name}
    return Trajectory(outputs, states[0] if single else states, named)


def _pile(values: Sequence[Tensor]) -> Tensor:
    return values[0].unsqueeze(1) if len(values) == 1 else torch.stack(list(values), 1)
