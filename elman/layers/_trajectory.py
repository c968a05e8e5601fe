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
    """The values of a layer at every step. Time is the first axis, except in `outputs`.

    Attributes:
        outputs: as the layer returns them.
        states: after every step; `states[t]`, or `[s[t] for s in states]`, is a state of the layer.
        named: the named values of the cell, such as gates, (T, B, H); of a stack (T, L, B, H).
    """

    outputs: Any
    states: Any
    named: dict[str, Tensor]


class ProbedRun(NamedTuple):
    """The outputs of `ProbedCell`s in one run of a layer's `forward`.

    Attributes:
        layers: of each layer and direction, in order, the values of all rows.
        layout: of the input.
        single: the state of the cell is one tensor, not a tuple.
        stacked: the layers get an axis, the second.
    """

    layers: list[dict[str, Tensor]]
    layout: SequenceLayout
    single: bool
    stacked: bool


class _ProbeState(threading.local):
    """The layer that this thread probes, and its runs."""

    def __init__(self) -> None:
        self.layer: nn.Module | None = None
        self.runs: list[ProbedRun] = []


_probe = _ProbeState()


def probed_runs(layer: nn.Module) -> list[ProbedRun] | None:
    """The list to which a layer's `forward` appends its run; None if the layer is not being probed."""
    return _probe.runs if _probe.layer is layer else None


@contextmanager
def probing(layer: nn.Module) -> Iterator[list[ProbedRun]]:
    """A context in which a layer runs `ProbedCell`s; yields the list of its runs.

    So a trajectory is an ordinary call, with all hooks and any override of `forward`.
    """
    before = _probe.layer, _probe.runs
    _probe.layer, _probe.runs = layer, []
    try:
        yield _probe.runs
    finally:
        _probe.layer, _probe.runs = before


def output_of(layer: dict[str, Tensor]) -> Output:
    """The output among the values of a `ProbedCell`: its own, or the first state."""
    outputs = {name.removeprefix(OUTPUT): value for name, value in layer.items() if name.startswith(OUTPUT)}
    return outputs.get("", outputs) if outputs else layer[STATE + "0"]


def trajectory(outputs: Any, run: ProbedRun) -> Trajectory:
    """Make a trajectory of the outputs that a layer has returned and the values of that run."""
    layers, layout, single, stacked = run
    padded = [{name: layout.pad(value) for name, value in layer.items()} for layer in layers]
    if not layout.batched:
        padded = [{name: value.squeeze(1) for name, value in layer.items()} for layer in padded]
    values = {name: _stack([layer[name] for layer in padded]) if stacked else padded[-1][name] for name in padded[-1]}
    states = tuple(value for name, value in values.items() if name.startswith(STATE))
    named = {name: value for name, value in values.items() if " " not in name}
    return Trajectory(outputs, states[0] if single else states, named)


def _stack(values: Sequence[Tensor]) -> Tensor:
    return values[0].unsqueeze(1) if len(values) == 1 else torch.stack(list(values), 1)
