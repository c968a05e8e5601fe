"""Credit assignment: how much the loss of each step contributes to the gradient of a state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import torch
from torch import Tensor

from elman.flow._backward_sweep import ArrivedGradients, propagate_to_layer_below, sweep_backward
from elman.flow._recorded_call import RecordedCall, mask_rows
from elman.io.validate import check_whole, whole

MAX_STEPS = 512  # of longer sequences, the losses to follow must be chosen
MAX_NUMBERS = 2**25  # that are passed from layer to layer at once


@dataclass(frozen=True)
class Credit:
    """How much of the loss L_t at each step t arrives at the state s_k after each step k.

    Args:
        name: name of the state.
        steps: the n steps t whose losses were followed.
        norms: norms of dL_t/ds_k over all sequences, (n, T); zero if s_k has no influence on L_t.
        weights: the terms dL_t/ds_k ds_k/dW for each parameter W of the cell, if requested, where ds_k/dW is that of
            step k alone: (n, T, ...). If all steps were followed, their sum over t and k is the gradient of W.
    """

    name: str
    steps: tuple[int, ...]
    norms: Tensor
    weights: dict[str, Tensor] = field(default_factory=dict)


def assign_credit(calls: Sequence[RecordedCall], name: str, steps: int | Sequence[int] | None, weights: bool) -> Credit:
    """Return the credit of one state.

    Args:
        calls: the call with the state, after all calls above it, from the top layer down.
        name: see `Recording.credit`.
        steps: see `Recording.credit`.
        weights: see `Recording.credit`.
    """
    call = calls[-1]
    all_steps, state = _resolve_steps(call.T, steps), call.names.index(name)
    norms: list[Tensor] = []
    terms: dict[str, list[Tensor]] = {}
    for chunk in torch.tensor(all_steps, device=call.positions.device).split(_chunk_size(calls)):
        row_norms = torch.zeros(len(chunk), call.T * call.label.layout.B, dtype=torch.float64, device=chunk.device)
        chunk_terms: dict[str, Tensor] = {}
        for arrived in sweep_backward(call, chunk, _gradients_from_above(calls, chunk)):
            norm = torch.linalg.vector_norm(arrived.d_states[state], dim=-1, dtype=torch.float64)
            row_norms[arrived.losses.unsqueeze(1), call.positions[call.rows(arrived.step)]] += norm
            if weights:
                _add_terms(call, arrived, chunk_terms, len(chunk))
        norms.append(torch.linalg.vector_norm(row_norms.view(len(chunk), call.T, -1), dim=-1))
        for parameter, value in chunk_terms.items():
            terms.setdefault(parameter, []).append(value)
    all_terms = {parameter: torch.cat(values) for parameter, values in terms.items()}
    return Credit(name, all_steps, torch.cat(norms), all_terms)


def _chunk_size(calls: Sequence[RecordedCall]) -> int:
    """Return how many losses are followed at once."""
    if len(calls) == 1:
        return calls[0].T
    widest = max(call.replays[0].x[0].shape[-1] for call in calls)
    return max(1, MAX_NUMBERS // (calls[0].T * calls[0].label.layout.B * widest))


def _gradients_from_above(calls: Sequence[RecordedCall], steps: Tensor) -> Tensor | None:
    """Return the gradients that the outputs of the last call get from the calls above it, for the losses of `steps`."""
    layers = [list(layer) for _, layer in groupby(calls, lambda call: call.label.depth)]
    d_outputs: list[Tensor | None] = [None] * len(layers[0])
    for upper, lower in pairwise(layers):
        d_outputs = [propagate_to_layer_below(upper, steps, d_outputs, call) for call in lower]
    return d_outputs[0]


def _add_terms(call: RecordedCall, arrived: ArrivedGradients, terms: dict[str, Tensor], n: int) -> None:
    """Add the terms of one step, for each of n losses and by step of the input."""
    for input_step, mask in call.masks_by_input_step(arrived.step):
        for i, loss in enumerate(arrived.losses.tolist()):
            d_states = [mask_rows(mask, d[i]) for d in arrived.d_states]
            d_outputs = [None if d is None else mask_rows(mask, d[i]) for d in arrived.d_outputs]
            for name, gradient in arrived.replay.parameter_gradients(arrived.t, d_states, d_outputs).items():
                parameter = call.parameter_name(name)
                if parameter not in terms:
                    terms[parameter] = gradient.new_zeros(n, call.T, *gradient.shape)
                terms[parameter][loss, input_step] += gradient


def _resolve_steps(T: int, steps: int | Sequence[int] | None) -> tuple[int, ...]:
    if steps is None:
        if T > MAX_STEPS:
            raise ValueError(
                "flow.credit: steps: expected the number of steps, or a list of steps, for a sequence of more than "
                f"{MAX_STEPS} steps, got none for {T:,}; pass steps=64 for the losses of 64 evenly spaced steps"
            )
        steps = T
    if not isinstance(steps, Sequence):
        count = min(check_whole("flow.credit: steps", steps, 1), T)
        return tuple(sorted({round(t) for t in torch.linspace(T - 1, 0, count).tolist()}))
    numbers = [whole(step) for step in steps]
    resolved = tuple(sorted({step + T if step < 0 else step for step in numbers if step is not None}))
    if None in numbers or not resolved or resolved[0] < 0 or resolved[-1] >= T:
        raise ValueError(f"flow.credit: steps: expected some of 0 to {T - 1}, got {list(steps)!r:.60}")
    return resolved
