"""Trajectories: every state and every named value of every step."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine import Output
from elman.layers._sequence_layout import SequenceLayout
from elman.layers._wrappers import OUTPUT, STATE


class Trajectory(NamedTuple):
    """What a layer has done at every step; time is always the first axis but in `outputs`.

    outputs: as the layer returns them.
    states: the states after every step, so that `states[t]`, or `[s[t] for s in states]`, is a state of the layer.
    named: the values that the cell gives a name to, its gates, (T, B, H); of a stack (T, L, B, H).
    """

    outputs: Any
    states: Any
    named: dict[str, Tensor]


class ProbedRun(NamedTuple):
    """What `Watched` cells have given in one run of a layer's `forward`.

    layers: of each layer, or direction of one, in order, the values of all rows.
    layout: of the input.
    single: the cell has one state, and it is no tuple.
    stacked: give the layers an axis of their own, the second.
    """

    layers: list[dict[str, Tensor]]
    layout: SequenceLayout
    single: bool
    stacked: bool


class _ProbeState(threading.local):
    """The layer that this thread watches, and its runs."""

    def __init__(self) -> None:
        self.layer: nn.Module | None = None
        self.runs: list[ProbedRun] = []


_watching = _ProbeState()


def probed_runs(layer: nn.Module) -> list[ProbedRun] | None:
    """Where a layer's `forward` is to put what its cells give; None where nobody watches it."""
    return _watching.runs if _watching.layer is layer else None


@contextmanager
def probing(layer: nn.Module) -> Iterator[list[ProbedRun]]:
    """Within, this layer's cells are `Watched`.

    So a trajectory is an ordinary call, with all hooks and whatever stands in the place of `forward`.
    """
    before = _watching.layer, _watching.runs
    _watching.layer, _watching.runs = layer, []
    try:
        yield _watching.runs
    finally:
        _watching.layer, _watching.runs = before


def output_of(layer: dict[str, Tensor]) -> Output:
    """The output among what a `Watched` cell has given: its own, or the first state."""
    own = {name.removeprefix(OUTPUT): value for name, value in layer.items() if name.startswith(OUTPUT)}
    return own.get("", own) if own else layer[STATE + "0"]


def trajectory(outputs: Any, run: ProbedRun) -> Trajectory:
    """The outputs that a layer has returned, and what its `Watched` cells have given in that run."""
    layers, layout, single, stacked = run
    given = [{name: layout.pad(value) for name, value in layer.items()} for layer in layers]
    if not layout.batched:
        given = [{name: value.squeeze(1) for name, value in layer.items()} for layer in given]
    piles = {name: _pile([layer[name] for layer in given]) if stacked else given[-1][name] for name in given[-1]}
    states = tuple(value for name, value in piles.items() if name.startswith(STATE))
    named = {name: value for name, value in piles.items() if " " not in name}
    return Trajectory(outputs, states[0] if single else states, named)


def _pile(values: Sequence[Tensor]) -> Tensor:
    return values[0].unsqueeze(1) if len(values) == 1 else torch.stack(list(values), 1)
