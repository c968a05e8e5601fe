"""Propagates the gradients of many losses back through the steps of a call, and from layer to layer."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from elman.flow._recorded_call import RecordedCall, add_gradients
from elman.flow._replay import Replay, Tensors


class ArrivedGradients(NamedTuple):
    """The gradients of several losses that arrive at one step.

    replay: the replay with the step.
    t: the index of the step in the replay.
    step: the index of the step in the call, in engine order.
    losses: the indices of the m losses with a nonzero gradient here, (m,).
    d_states: the gradients of the states after the step, (m, rows, H) each.
    d_outputs: the gradients of the outputs that are not states, (m, rows, ...) each.
    """

    replay: Replay
    t: int
    step: int
    losses: Tensor
    d_states: Tensors
    d_outputs: list[Tensor | None]


def sweep_backward(
    call: RecordedCall, steps: Tensor, d_outputs: Tensor | None = None, d_x: Tensor | None = None
) -> Iterator[ArrivedGradients]:
    """Iterate over the steps from the last to the first, with the gradients of some losses that arrive there.

    The loss at step t is what the recorded pass sent to the outputs at step t of the input, and to the final states of
    the sequences that end there.

    Args:
        call: the call with the steps.
        steps: the steps of the input whose losses are followed, (n,).
        d_outputs: gradients from the layer above, instead of the losses' gradients of the outputs: (n, N, W), for all
            rows.
        d_x: a tensor to which the gradients of the padded input are added, (n, T*B, D).
    """
    for chain in call.chains():
        V: Tensors = ()
        next_rows = 0  # sequences that continue in the next replay
        for replay in reversed(chain):
            for t in reversed(range(replay.T)):
                step = replay.event.call.begin + t
                rows = call.rows(step)
                has_loss = (call.input_steps[rows] == steps.unsqueeze(1)).unsqueeze(-1)
                from_above = None if d_outputs is None else d_outputs[:, rows]
                to_states, to_outputs = _gradients_from_outside(replay, t, next_rows, has_loss, from_above)
                V = _append_zero_rows(V, replay, t, len(steps))
                V = tuple(v if d is None else v + d for v, d in zip(V, to_states, strict=True))
                losses = _nonzero_losses([*V, *to_outputs])
                if len(losses):
                    own = [None if d is None else d[losses] for d in to_outputs]
                    arrived = ArrivedGradients(replay, t, step, losses, tuple(v[losses] for v in V), own)
                    yield arrived
                    gradients = replay.backward(t, arrived.d_states, own, input_gradient=d_x is not None)
                    V = tuple(
                        torch.zeros_like(v).index_copy(0, losses, d.to(v)) for v, d in zip(V, gradients, strict=False)
                    )
                    if d_x is not None:
                        d_x[losses.unsqueeze(1), call.positions[rows]] += gradients[-1]
            next_rows = len(replay.x[0])


def _gradients_from_outside(
    replay: Replay, t: int, next_rows: int, has_loss: Tensor, from_above: Tensor | None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the gradients of the states after step t, and of its outputs that are not states, except those from later
    steps.
    """
    recorded = [None if d is None else d[t] for d in replay.d_outputs]
    to_outputs: list[Tensor | None]
    if from_above is None:
        to_outputs = [_select_losses(has_loss, d) for d in recorded]
    else:
        # Where windows overlap, only one of them takes the gradient of a row, as in the recorded pass.
        to_outputs = [_select_rows(from_above, recorded[0])]
    to_states = [_select_losses(has_loss, d) for d in replay.d_finals(t, next_rows)]
    for k, i in enumerate(replay.output_state_indices[: len(to_outputs)]):
        if i is not None:
            to_states[i], to_outputs[k] = add_gradients(to_states[i], to_outputs[k]), None
    return to_states, to_outputs


def propagate_to_layer_below(
    upper: Sequence[RecordedCall], steps: Tensor, d_outputs: list[Tensor | None], lower: RecordedCall
) -> Tensor:
    """Return the gradients that the calls of one layer send to the outputs of a call below, for some losses: (n, N, W).

    Args:
        upper: the calls of the upper layer, one per direction.
        steps: the steps of the losses, (n,).
        d_outputs: the gradients that each upper call gets from above, as in `sweep_backward`.
        lower: the call below.
    """
    layout, like = upper[0].label.layout, upper[0].replays[0].x[0]
    d_x = like.new_zeros(len(steps), upper[0].T * layout.B, like.shape[-1])
    for call, d in zip(upper, d_outputs, strict=True):
        for _ in sweep_backward(call, steps, d, d_x):
            pass
    outputs = _collect_outputs(lower)
    direction = slice(outputs.shape[1], None) if lower.label.is_reverse else slice(outputs.shape[1])
    x = like.new_zeros(d_x.shape[1:])
    for replay, t in upper[0].forward_steps():
        x[upper[0].positions[upper[0].rows(replay.event.call.begin + t)]] = replay.x[t]
    return d_x[:, lower.positions, direction] * _infer_dropout(outputs, x[lower.positions, direction], lower)


def _collect_outputs(call: RecordedCall) -> Tensor:
    """Return the outputs of a call, (N, W)."""
    steps = call.forward_steps()
    width = steps[0][0].result(0).outputs[0].shape[1]
    outputs = steps[0][0].x[0].new_zeros(len(call.positions), width)
    for replay, t in steps:
        outputs[call.rows(replay.event.call.begin + t)] = replay.result(t).outputs[0]
    return outputs


def _infer_dropout(outputs: Tensor, x: Tensor, lower: RecordedCall) -> Tensor:
    """Return the factors of the dropout between the outputs of a layer and the input x of the next one.

    They are zeros and one other number. Where an output is zero, the recorded gradient tells which of the two it is.
    """
    if torch.equal(outputs, x):
        return torch.ones((), dtype=outputs.dtype, device=outputs.device)
    mask = x != 0
    for replay, t, step in lower.steps():
        if (d := replay.d_outputs[0]) is not None:
            mask[lower.rows(step)] |= d[t] != 0
    largest = (outputs.abs() * (x != 0)).argmax()
    return mask * (x.flatten()[largest] / outputs.flatten()[largest])


def _append_zero_rows(V: Tensors, replay: Replay, t: int, n: int) -> Tensors:
    """Append zeros for the sequences that end with step t."""
    rows = len(replay.x[t])
    V = V or tuple(s.new_zeros(n, 0, s.shape[1]) for s in replay.states_before[t])
    return tuple(torch.cat((v, v.new_zeros(n, rows - v.shape[1], v.shape[2])), 1) for v in V)


def _nonzero_losses(gradients: Sequence[Tensor | None]) -> Tensor:
    """Return the indices of the losses with a nonzero gradient."""
    nonzero = [d.flatten(1).ne(0).any(1) for d in gradients if d is not None]
    return torch.stack(nonzero).any(0).nonzero().flatten()


def _select_losses(has_loss: Tensor, d: Tensor | None) -> Tensor | None:
    """Assign the gradients (rows, ...) to the losses that they belong to, by a mask (n, rows, 1): (n, rows, ...)."""
    return None if d is None else torch.where(has_loss.view(*has_loss.shape[:2], *[1] * (d.dim() - 1)), d, 0)


def _select_rows(gradients: Tensor, recorded: Tensor | None) -> Tensor:
    """Set gradients (n, rows, W) to zero at rows without a recorded gradient."""
    return torch.zeros_like(gradients) if recorded is None else gradients * recorded.ne(0).any(-1, keepdim=True)
