"""Propagates the gradients of many losses back through the steps of a call, and from layer to layer."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from elman.flow._recorded_call import RecordedCall, summed
from elman.flow._replay import Replay, Row


class ArrivedGradients(NamedTuple):
    """What has arrived at a step.

    replay: that has the step.
    t: its number there.
    step: its number in the call, in the order of reading.
    columns: the losses of which anything has arrived, m of them, by number.
    d_states: the gradients of the states after the step, (m, rows, H) each.
    d_outputs: those of its outputs, where these are no state.
    """

    replay: Replay
    t: int
    step: int
    columns: Tensor
    d_states: Row
    d_outputs: list[Tensor | None]


def arriving(
    call: RecordedCall, steps: Tensor, d_outputs: Tensor | None = None, d_x: Tensor | None = None
) -> Iterator[ArrivedGradients]:
    """Every step from the last to the first, and the gradients of the losses of some steps that arrive there.

    The loss at step t is what the recorded pass has sent to the outputs at step t of the input, and to the final
    states of sequences that end there.

    Args:
        call: whose steps they are.
        steps: of the input, whose losses are followed, (n,).
        d_outputs: what a layer above sends to the outputs in the place of the loss, (n, N, W), of all rows.
        d_x: to which the gradients of the input are added, (n, T*B, D), as it is padded.
    """
    for group in call.groups():
        V: Row = ()
        after = 0  # sequences that go on in the next replay
        for replay in reversed(group):
            for t in reversed(range(replay.T)):
                step = replay.seen.call.begin + t
                rows = call.rows(step)
                here = (call.steps_of_input[rows] == steps.unsqueeze(1)).unsqueeze(-1)
                above = None if d_outputs is None else d_outputs[:, rows]
                of_finals, of_outputs = _from_without(replay, t, after, here, above)
                V = _more(V, replay, t, len(steps))
                V = tuple(v if d is None else v + d for v, d in zip(V, of_finals, strict=True))
                columns = _any([*V, *of_outputs])
                if len(columns):
                    own = [None if d is None else d[columns] for d in of_outputs]
                    arrived = ArrivedGradients(replay, t, step, columns, tuple(v[columns] for v in V), own)
                    yield arrived
                    found = replay.back(t, arrived.d_states, own, of_x=d_x is not None)
                    V = tuple(
                        torch.zeros_like(v).index_copy(0, columns, d.to(v)) for v, d in zip(V, found, strict=False)
                    )
                    if d_x is not None:
                        d_x[columns.unsqueeze(1), call.places[rows]] += found[-1]
            after = len(replay.x[0])


def _from_without(
    replay: Replay, t: int, after: int, here: Tensor, above: Tensor | None
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What comes to the states after step t, and to its outputs that are no state, by no later step."""
    sent = [None if d is None else d[t] for d in replay.d_outputs]
    # Where windows overlap, one of them takes what is sent to a row, as it did in the recorded pass.
    of_outputs: list[Tensor | None] = [_taken(above, sent[0])] if above is not None else [_where(here, d) for d in sent]
    of_finals = [_where(here, d) for d in replay.d_finals(t, after)]
    for k, i in enumerate(replay.shown[: len(of_outputs)]):
        if i is not None:
            of_finals[i], of_outputs[k] = summed(of_finals[i], of_outputs[k]), None
    return of_finals, of_outputs


def handed_down(
    upper: Sequence[RecordedCall], steps: Tensor, d_outputs: list[Tensor | None], lower: RecordedCall
) -> Tensor:
    """What the calls of one depth send to the outputs of a call below, of the losses of some steps: (n, N, W).

    Args:
        upper: the calls, one for each direction.
        steps: of the losses, (n,).
        d_outputs: what is sent to each of them from above, as in `arriving`.
        lower: the call below.
    """
    layout, like = upper[0].label.layout, upper[0].replays[0].x[0]
    d_x = like.new_zeros(len(steps), upper[0].T * layout.B, like.shape[-1])
    for call, d in zip(upper, d_outputs, strict=True):
        for _ in arriving(call, steps, d, d_x):
            pass
    made = _made(lower)
    side = slice(made.shape[1], None) if lower.label.back else slice(made.shape[1])
    read = like.new_zeros(d_x.shape[1:])
    for replay, t in upper[0].forward():
        read[upper[0].places[upper[0].rows(replay.seen.call.begin + t)]] = replay.x[t]
    return d_x[:, lower.places, side] * _dropout(made, read[lower.places, side], lower)


def _made(call: RecordedCall) -> Tensor:
    """The outputs of a call, (N, W)."""
    steps = call.forward()
    width = steps[0][0].made(0).outputs[0].shape[1]
    made = steps[0][0].x[0].new_zeros(len(call.places), width)
    for replay, t in steps:
        made[call.rows(replay.seen.call.begin + t)] = replay.made(t).outputs[0]
    return made


def _dropout(made: Tensor, read: Tensor, lower: RecordedCall) -> Tensor:
    """What stands between what a layer has made and what the next one has read: zeros, and one other number.

    Where a zero has been made, the recorded gradient says which of both it is.
    """
    if torch.equal(made, read):
        return torch.ones((), dtype=made.dtype, device=made.device)
    kept = read != 0
    for replay, t, step in lower.steps():
        if (d := replay.d_outputs[0]) is not None:
            kept[lower.rows(step)] |= d[t] != 0
    largest = (made.abs() * (read != 0)).argmax()
    return kept * (read.flatten()[largest] / made.flatten()[largest])


def _more(V: Row, replay: Replay, t: int, n: int) -> Row:
    """With zeros for sequences that end here."""
    rows = len(replay.x[t])
    V = V or tuple(s.new_zeros(n, 0, s.shape[1]) for s in replay.before[t])
    return tuple(torch.cat((v, v.new_zeros(n, rows - v.shape[1], v.shape[2])), 1) for v in V)


def _any(gradients: Sequence[Tensor | None]) -> Tensor:
    """The columns in which something is not zero."""
    found = [d.flatten(1).ne(0).any(1) for d in gradients if d is not None]
    return torch.stack(found).any(0).nonzero().flatten()


def _where(here: Tensor, d: Tensor | None) -> Tensor | None:
    """A gradient (rows, ...) in the columns (n, rows, 1) in which it is meant."""
    return None if d is None else torch.where(here.view(*here.shape[:2], *[1] * (d.dim() - 1)), d, 0)


def _taken(given: Tensor, sent: Tensor | None) -> Tensor:
    """Gradients (n, rows, W) of the rows to which something was sent."""
    return torch.zeros_like(given) if sent is None else given * sent.ne(0).any(-1, keepdim=True)
