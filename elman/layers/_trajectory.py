"""Every state, and every named value, of every step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.layers._around import OUTPUT, STATE
from elman.layers._layout import Layout
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


def output_of(layer: dict[str, Tensor]) -> Output:
    """The output among what a `Watched` cell has given: its own, or the first state."""
    own = {name.removeprefix(OUTPUT): value for name, value in layer.items() if name.startswith(OUTPUT)}
    return own.get("", own) if own else layer[STATE + "0"]


def trajectory(
    outputs: Any, layers: Sequence[dict[str, Tensor]], layout: Layout, *, single: bool, stacked: bool
) -> Trajectory:
    """What the `Watched` cells of a layer have given.

    Args:
        outputs: of the last layer, in the layout of the input.
        layers: of each layer, or direction of one, in order, the values of all rows.
        layout: of the input.
        single: the cell has one state, and it is no tuple.
        stacked: give the layers an axis of their own, the second.
    """
    given = [{name: layout.padded(value) for name, value in layer.items()} for layer in layers]
    if not layout.batched:
        given = [{name: value.squeeze(1) for name, value in layer.items()} for layer in given]
    piles = {name: _pile([layer[name] for layer in given]) if stacked else given[-1][name] for name in given[-1]}
    states = tuple(value for name, value in piles.items() if name.startswith(STATE))
    named = {name: value for name, value in piles.items() if " " not in name}
    return Trajectory(outputs, states[0] if single else states, named)


def _pile(values: Sequence[Tensor]) -> Tensor:
    return values[0].unsqueeze(1) if len(values) == 1 else torch.stack(list(values), 1)
