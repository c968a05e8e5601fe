"""Which step's loss a state is told of: the terms of the sum of backpropagation through time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elman.flow._call import Call
from elman.flow._replay import Replay, Row
from elman.numbers import check_whole, whole

WHOLE = 512  # steps, of which the whole matrix is worked out unasked


@dataclass(frozen=True)
class Credit:
    """How much of the loss at each step t arrives at the state after each step k.

    Args:
        name: of the state.
        steps: the steps t whose losses were followed, n of them.
        norms: of dL_t/ds_k, for all sequences together, (n, T); zeros where k > t.
        weights: of every parameter of the cell, dL_t/ds_k ds_k/dW, where s_k is what step k alone makes: (n, T, ...);
            if asked for. Their sum over t and k is the gradient, if all steps were followed.
    """

    name: str
    steps: tuple[int, ...]
    norms: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)


def credit(call: Call, name: str, steps: int | Sequence[int] | None, weights: bool) -> Credit:
    """As `Recording.credit`, of one of a call's states."""
    chosen, state = _chosen(call.T, steps), call.names.index(name)
    at = {step: i for i, step in enumerate(chosen)}
    norms: Tensor | None = None
    terms: dict[str, Tensor] = {}
    for replay, t, step, columns, V, d_outputs in _sweep(call, set(chosen)):
        found = torch.linalg.vector_norm(V[state], dim=(1, 2), dtype=torch.float64)
        norms = found.new_zeros(len(chosen), call.T) if norms is None else norms
        rows = [at[column] for column in columns]
        norms[rows, step] += found
        for column, row in zip(range(len(columns)) if weights else (), rows, strict=False):
            own = [None if d is None else d[column] for d in d_outputs]
            for of, value in replay.of_parameters(t, [v[column] for v in V], own).items():
                terms.setdefault(call.parameter(of), value.new_zeros(len(chosen), call.T, *value.shape))[row, step] += (
                    value
                )
    assert norms is not None
    return Credit(name, chosen, norms, terms)


def _chosen(T: int, steps: int | Sequence[int] | None) -> tuple[int, ...]:
    if steps is None:
        if T > WHOLE:
            raise ValueError(
                f"flow.credit: steps: expected a number of steps, or which, for a sequence of more than {WHOLE} steps, "
                f"got none for {T:,}; steps=64 follows the losses of 64 of them, evenly spread"
            )
        steps = T
    if not isinstance(steps, Sequence):
        count = min(check_whole("flow.credit: steps", steps, 1), T)
        return tuple(sorted({round(t) for t in torch.linspace(T - 1, 0, count).tolist()}))
    given = [whole(step) for step in steps]
    chosen = tuple(sorted({step + T if step < 0 else step for step in given if step is not None}))
    if None in given or not chosen or chosen[0] < 0 or chosen[-1] >= T:
        raise ValueError(f"flow.credit: steps: expected some of 0 to {T - 1}, got {list(steps)!r:.60}")
    return chosen


Swept = tuple[Replay, int, int, list[int], Row, list[Tensor | None]]


def _sweep(call: Call, chosen: set[int]) -> Iterator[Swept]:
    """Every step from the last to the first, and the gradients of the losses of chosen ones that arrive there.

    Yields:
        The replay and its step, the step of the layer; the steps whose losses have arrived here, n of them; what they
        send to the states after the step, (n, rows, H) each; and to its outputs, where these are no state.
    """
    for group in call.groups():
        columns: list[int] = []
        V: Row = ()
        after = 0  # sequences that go on in the next replay
        for replay in reversed(group):
            for t in reversed(range(replay.T)):
                step, rows = replay.seen.ran.begin + t, len(replay.x[t])
                V = tuple(_more(v, rows) for v in V) or tuple(
                    s.new_zeros(0, rows, s.shape[1]) for s in replay.before[t]
                )
                fresh = step in chosen
                if fresh:
                    columns.append(step)
                    own = replay.direct(t, after)
                    V = tuple(torch.cat((v, d.unsqueeze(0))) for v, d in zip(V, own, strict=True))
                # Only the newest of the columns has its loss here.
                d_outputs = [
                    None if d is None or not fresh else torch.cat((d.new_zeros(len(columns) - 1, *d.shape), d[None]))
                    for d in replay.own_d_outputs(t)
                ]
                if columns:
                    yield replay, t, step, list(columns), V, d_outputs
                    V = replay.back(t, V, d_outputs)
            after = len(replay.x[0])


def _more(v: Tensor, rows: int) -> Tensor:
    """With zeros for sequences that end here."""
    return v if v.shape[1] == rows else torch.cat((v, v.new_zeros(len(v), rows - v.shape[1], v.shape[2])), 1)
