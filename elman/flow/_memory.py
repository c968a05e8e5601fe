"""Finds the states of a cell that are its memory."""

from collections.abc import Sequence

import torch

from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay


def memory_states(call: RecordedCall, steps: Sequence[tuple[Replay, int]]) -> tuple[str, ...]:
    """Return the names of the states through which the cell learns over time; all states, if there are none such.

    Args:
        call: the call of the layer.
        steps: the steps to look at, the last first.
    """
    # A gradient trains what it arrives at: parameters and inputs. So a state is memory if both ends of its gradient are
    # connected: the loss sends it a gradient, by whatever path, and a step passes that on to the parameters, the input
    # or another memory state. The gradient of a clock, which steps read and return unchanged, never fades and trains
    # nothing; a sum that is never read gets no gradient. Both states of an LSTM are memory, and the verdict judges the
    # one in which gradients live longer, c.
    reached = {i for i, d in enumerate(call.d_states) if d.any()}
    learning = _learning_states(steps, len(call.names))
    return tuple(name for i, name in enumerate(call.names) if i in reached & learning) or tuple(call.names)


def _learning_states(steps: Sequence[tuple[Replay, int]], count: int) -> set[int]:
    """Return the states whose gradients reach the parameters or the input, perhaps by way of other states."""
    learning: set[int] = set()
    edges: set[tuple[int, int]] = set()  # (i, j): a gradient of state i reaches state j of the step before
    for replay, t in steps:
        for i in set(range(count)) - learning:
            trains, previous = _reached_by_gradient(replay, t, i)
            edges |= {(i, j) for j in previous}
            learning |= {i} if trains else set()
        while more := {i for i, j in edges if j in learning} - learning:
            learning |= more
        if len(learning) == count:
            break
    return learning


def _reached_by_gradient(replay: Replay, t: int, i: int) -> tuple[bool, list[int]]:
    """Return whether a gradient of state i after step t reaches the parameters or the input, and which states before
    the step it reaches.
    """
    states = [state.detach().requires_grad_() for state in replay.states_before[t]]
    x = replay.x[t].detach()
    values = {name: value.detach() for name, value in replay.parameters.items()}  # includes buffers, which do not learn
    parameters = [value for name, value in values.items() if name not in dict(replay.cell.named_buffers())]
    leaves = [value.requires_grad_() for value in (x, *parameters) if value.is_floating_point()]
    with torch.enable_grad():
        value = replay.step(t, x, tuple(states), values).states[i]
    if not value.requires_grad:
        return False, []
    # Random, since a cotangent of ones fails for states that always sum to one: their sum has no gradient.
    cotangent = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(value)
    gradients = torch.autograd.grad(value, [*leaves, *states], cotangent, allow_unused=True)
    nonzero = [d is not None and bool(d.any()) for d in gradients]
    return any(nonzero[: len(leaves)]), [j for j, reached in enumerate(nonzero[len(leaves) :]) if reached]
