"""Verifies a captured step against the cell: other numbers, other batch sizes, gradients included."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine.trace.cotangents import scalar_with_cotangents
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.random_ops import ReplayRandomOps

Stepped = tuple[Sequence[Tensor | None], Sequence[Tensor | None]]  # new states, and gradients of what was given
CLOSE = 1e-6
REPEATS = 8  # a batch so many times as large as the captured one
LARGE = 1 << 19  # numbers of a parameter from which on its gradient is not compared: it takes longer than all else


def verify(
    graph: fx.Graph, step: Callable[..., Any], inputs: Sequence[Tensor], cotangents: Sequence[Tensor], drawing: bool
) -> None:
    """Compare a graph with the step that it was captured from.

    Args:
        graph: as in `capture.Step`.
        step: x, the states and the parameters to the new states.
        inputs: other numbers than those it was captured with.
        cotangents: of the new states.
        drawing: whether the step draws random numbers.

    Raises:
        CannotCapture: unless they agree, and do so on batches of other sizes.
    """
    count = 1 + len(cotangents)  # x and the states; what follows are parameters
    asked = [i < count or tensor.numel() < LARGE for i, tensor in enumerate(inputs)]
    with ReplayRandomOps() as given:
        whole = _stepped(step, inputs, cotangents, asked)
    if drawing:
        with torch.no_grad(), ReplayRandomOps() as again:
            step(*inputs)
        if any(torch.equal(a, b) for a, b in zip(given.seen, again.seen, strict=False)):
            raise CannotCapture("random numbers that are the same at every step")
    # What is computed with a graph is not to be differentiated: its backward step stands in it.
    with torch.no_grad():
        found = fx.Interpreter(nn.Module(), graph=_without(graph, asked)).run(*inputs, *cotangents, *given.seen)
    if not (_same(found[0], whole[0]) and _same([*found[1], *found[2], *found[3]], whole[1])):
        raise CannotCapture("the step does not always run the same operations, or writes over a tensor it still uses")
    for change in (lambda rows: rows[1:2], lambda rows: torch.cat([rows] * REPEATS)):
        rows = [change(tensor.detach()) for tensor in inputs[:count]]
        with ReplayRandomOps(map(change, given.seen)):
            own = [i < count for i in range(len(inputs))]
            part = _stepped(step, [*rows, *inputs[count:]], list(map(change, cotangents)), own)
        expected = [[None if t is None else change(t) for t in of] for of in (whole[0], whole[1][:count])]
        if not (_same(part[0], expected[0]) and _same(part[1][:count], expected[1])):
            raise CannotCapture("what a row of the batch becomes depends on how many rows there are, or on the others")


def _without(graph: fx.Graph, asked: Sequence[bool]) -> fx.Graph:
    """The graph without the gradients that are not asked for."""
    less = fx.Graph()
    new, of_x, of_states, of_parameters = less.graph_copy(graph, {})  # type: ignore[misc]
    left = asked[1 + len(of_states) :]  # type: ignore[arg-type]
    less.output((new, of_x, of_states, tuple(g if a else None for g, a in zip(of_parameters, left, strict=True))))  # type: ignore[arg-type]
    less.eliminate_dead_code()
    return less


def _stepped(step: Any, inputs: Sequence[Tensor], cotangents: Sequence[Tensor], asked: Sequence[bool]) -> Stepped:
    """A step, and the gradients of those inputs that are asked for; of the others None."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    new = step(*leaves)
    pairs = [(state, c) for state, c in zip(new, cotangents, strict=True) if state.requires_grad]
    gradients: list[Tensor | None] = [None] * len(leaves)
    if pairs:
        of, received = zip(*pairs, strict=True)
        wanted = [i for i, is_asked in enumerate(asked) if is_asked]
        found = torch.autograd.grad(
            scalar_with_cotangents(of, received), [leaves[i] for i in wanted], allow_unused=True
        )
        for i, gradient in zip(wanted, found, strict=True):
            gradients[i] = gradient
    return [state.detach() for state in new], gradients


def _same(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    """Within what sums in another order may make of it; no gradient is one of zeros."""
    return all(_close(a, b) for a, b in zip(found, expected, strict=True))


def _close(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return not any(of is not None and of.any() for of in (a, b))
    if a.shape != b.shape:
        return False
    a = a.to(b.dtype)
    if torch.equal(a, b):  # as nearly always: both are made by the same operations
        return True
    # Of a large matrix, torch.allclose makes several more; it is asked where there are numbers that are none.
    near = b.is_floating_point() and b.numel() and torch.dist(a, b, inf) <= CLOSE * torch.linalg.vector_norm(b, inf)
    return bool(near) or torch.allclose(a, b, rtol=CLOSE, atol=CLOSE, equal_nan=True)
