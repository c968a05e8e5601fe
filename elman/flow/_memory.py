"""Which states of a cell are memory cells."""

from collections.abc import Sequence

import torch

from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay


def memories(call: RecordedCall, steps: Sequence[tuple[Replay, int]]) -> tuple[str, ...]:
    """The states through which learning goes back, by name; all, if it goes through none.

    Args:
        call: of the layer.
        steps: that are looked at, the last first.
    """
    # A gradient teaches what it comes to: parameters and inputs. So a state counts if both ends are there: the loss has
    # sent it a gradient, by whatever way, and a step hands that on to the parameters or the input, or to a state that
    # counts. A clock, which the steps read and hand on as it is, has a gradient that lives for ever and teaches
    # nothing; a sum that nobody reads has none. Both states of an LSTM count, and what is left in c, which lives
    # longer, is what is judged.
    reached = {i for i, d in enumerate(call.d_states) if d.any()}
    taught = _taught(steps, len(call.names))
    return tuple(name for i, name in enumerate(call.names) if i in reached & taught) or tuple(call.names)


def _taught(steps: Sequence[tuple[Replay, int]], count: int) -> set[int]:
    """The states from which a gradient comes to the parameters or the input."""
    found: set[int] = set()
    hands_on: set[tuple[int, int]] = set()
    for replay, t in steps:
        for i in set(range(count)) - found:
            learned, to = _handed_on(replay, t, i)
            hands_on |= {(i, j) for j in to}
            found |= {i} if learned else set()
        while more := {i for i, j in hands_on if j in found} - found:
            found |= more
        if len(found) == count:
            break
    return found


def _handed_on(replay: Replay, t: int, i: int) -> tuple[bool, list[int]]:
    """Whether a gradient of state i after step t comes to parameters or the input, and to which states before it."""
    states = [state.detach().requires_grad_() for state in replay.before[t]]
    x = replay.x[t].detach()
    values = {name: value.detach() for name, value in replay.parameters.items()}  # and buffers, which learn nothing
    parameters = [value for name, value in values.items() if name not in dict(replay.cell.named_buffers())]
    learned = [value.requires_grad_() for value in (x, *parameters) if value.is_floating_point()]
    with torch.enable_grad():
        value = replay.step(t, x, tuple(states), values).states[i]
    if not value.requires_grad:
        return False, []
    # No ones: states that always add up to one have no gradient of their sum.
    cotangent = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(value)
    gradients = torch.autograd.grad(value, [*learned, *states], cotangent, allow_unused=True)
    there = [d is not None and bool(d.any()) for d in gradients]
    return any(there[: len(learned)]), [j for j, to in enumerate(there[len(learned) :]) if to]
