"""Credit assignment: how much the loss of each step contributes to the gradient of a state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import torch
from torch import Tensor

from elman.flow._backward_sweep import ArrivedGradients, arriving, handed_down
from elman.flow._recorded_call import RecordedCall, at_rows
from elman.numbers import check_whole, whole

WHOLE = 512  # steps, of which the whole matrix is worked out unasked
AT_ONCE = 2**25  # numbers that go from layer to layer together


@dataclass(frozen=True)
class Credit:
    """How much of the loss at each step t arrives at the state after each step k.

    Args:
        name: of the state.
        steps: the steps t whose losses were followed, n of them.
        norms: of dL_t/ds_k, for all sequences together, (n, T); zeros where no way leads from k to t.
        weights: of every parameter of the cell, dL_t/ds_k ds_k/dW, where s_k is what step k alone makes: (n, T, ...);
            if asked for. Their sum over t and k is the gradient, if all steps were followed.
    """

    name: str
    steps: tuple[int, ...]
    norms: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)


def credit(calls: Sequence[RecordedCall], name: str, steps: int | Sequence[int] | None, weights: bool) -> Credit:
    """As `Recording.credit`.

    Args:
        calls: those that lie over the one whose state is meant, the highest first, and at the end that one.
        name: as in `Recording.credit`.
        steps: as in `Recording.credit`.
        weights: as in `Recording.credit`.
    """
    call = calls[-1]
    chosen, state = _chosen(call.T, steps), call.names.index(name)
    norms: list[Tensor] = []
    terms: dict[str, list[Tensor]] = {}
    for some in torch.tensor(chosen, device=call.places.device).split(_at_once(calls)):
        found = torch.zeros(len(some), call.T * call.label.layout.B, dtype=torch.float64, device=some.device)
        of_weights: dict[str, Tensor] = {}
        for arrived in arriving(call, some, _from_above(calls, some)):
            norm = torch.linalg.vector_norm(arrived.d_states[state], dim=-1, dtype=torch.float64)
            found[arrived.columns.unsqueeze(1), call.places[call.rows(arrived.step)]] += norm
            if weights:
                _add_terms(call, arrived, of_weights, len(some))
        norms.append(torch.linalg.vector_norm(found.view(len(some), call.T, -1), dim=-1))
        for of, value in of_weights.items():
            terms.setdefault(of, []).append(value)
    return Credit(name, chosen, torch.cat(norms), {of: torch.cat(values) for of, values in terms.items()})


def _at_once(calls: Sequence[RecordedCall]) -> int:
    """How many losses are followed together."""
    if len(calls) == 1:
        return calls[0].T
    widest = max(call.replays[0].x[0].shape[-1] for call in calls)
    return max(1, AT_ONCE // (calls[0].T * calls[0].label.layout.B * widest))


def _from_above(calls: Sequence[RecordedCall], steps: Tensor) -> Tensor | None:
    """What arrives at the outputs of the last of these calls from those over it, of the losses of some steps."""
    levels = [list(level) for _, level in groupby(calls, lambda call: call.label.depth)]
    d_outputs: list[Tensor | None] = [None] * len(levels[0])
    for upper, lower in pairwise(levels):
        d_outputs = [handed_down(upper, steps, d_outputs, call) for call in lower]
    return d_outputs[0]


def _add_terms(call: RecordedCall, arrived: ArrivedGradients, terms: dict[str, Tensor], n: int) -> None:
    """What a step makes of what has arrived there, of each of n losses, by steps of the input."""
    for at, here in call.apart(arrived.step):
        for i, column in enumerate(arrived.columns.tolist()):
            d_states = [at_rows(here, d[i]) for d in arrived.d_states]
            d_outputs = [None if d is None else at_rows(here, d[i]) for d in arrived.d_outputs]
            for name, value in arrived.replay.of_parameters(arrived.t, d_states, d_outputs).items():
                of = call.parameter(name)
                if of not in terms:
                    terms[of] = value.new_zeros(n, call.T, *value.shape)
                terms[of][column, at] += value


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
