"""Verifies a captured step and its gradients against the cell, on other inputs and other batch sizes."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor, fx, nn

from elman.engine.trace.cotangents import scalar_with_cotangents
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.random_ops import ReplayRandomOps

StepResult = tuple[Sequence[Tensor | None], Sequence[Tensor | None]]  # new states, and gradients of the inputs
TOLERANCE = 1e-6
REPEATS = 8  # how many times as large as the captured batch the larger one is
MAX_COMPARED = 1 << 19  # the gradient of a larger parameter is not compared, as that would take most of the time


def verify(
    graph: fx.Graph, step: Callable[..., Any], inputs: Sequence[Tensor], cotangents: Sequence[Tensor], is_random: bool
) -> None:
    """Compare a graph with the step that it was captured from.

    Args:
        graph: As in `capture.Step`.
        step: A function from x, the states and the parameters to the new states.
        inputs: Its arguments; other numbers than those that it was captured with.
        cotangents: Cotangents of the new states.
        is_random: Whether the step draws random numbers.

    Raises:
        CannotCapture: if they differ, or if rows of the batch influence each other, which is seen at other batch sizes.
    """
    first = 1 + len(cotangents)  # parameter, after x and the states
    is_compared = [i < first or tensor.numel() < MAX_COMPARED for i, tensor in enumerate(inputs)]
    with ReplayRandomOps() as random_ops:
        expected_states, expected_gradients = _run_step(step, inputs, cotangents, is_compared)
    if is_random:
        with torch.no_grad(), ReplayRandomOps() as next_random_ops:
            step(*inputs)
        if any(torch.equal(a, b) for a, b in zip(random_ops.drawn, next_random_ops.drawn, strict=False)):
            raise CannotCapture("random numbers that are the same at every step")
    # The graph contains the backward pass, so autograd need not record its operations.
    with torch.no_grad():
        interpreter = fx.Interpreter(nn.Module(), graph=_drop_gradients(graph, is_compared))
        new, d_x, d_states, d_parameters = interpreter.run(*inputs, *cotangents, *random_ops.drawn)
    if not (_all_close(new, expected_states) and _all_close([*d_x, *d_states, *d_parameters], expected_gradients)):
        raise CannotCapture(
            "the step does not always run the same operations, or overwrites a tensor that it still uses"
        )
    for change in (lambda rows: rows[1:2], lambda rows: torch.cat([rows] * REPEATS)):
        rows = [change(tensor.detach()) for tensor in inputs[:first]]
        with ReplayRandomOps(map(change, random_ops.drawn)):
            is_row = [i < first for i in range(len(inputs))]
            states, gradients = _run_step(step, [*rows, *inputs[first:]], list(map(change, cotangents)), is_row)
        expected = [None if t is None else change(t) for t in (*expected_states, *expected_gradients[:first])]
        if not _all_close([*states, *gradients[:first]], expected):
            raise CannotCapture(
                "the result for a sequence depends on the batch size or on other sequences of the batch"
            )


def _drop_gradients(graph: fx.Graph, is_compared: Sequence[bool]) -> fx.Graph:
    """Return a copy of the graph without the gradients of parameters that are not compared."""
    copy = fx.Graph()
    new, d_x, d_states, d_parameters = copy.graph_copy(graph, {})  # type: ignore[misc]
    are_compared = is_compared[1 + len(d_states) :]  # type: ignore[arg-type]
    d_parameters = tuple(d if compared else None for d, compared in zip(d_parameters, are_compared, strict=True))  # type: ignore[arg-type]
    copy.output((new, d_x, d_states, d_parameters))
    copy.eliminate_dead_code()
    return copy


def _run_step(
    step: Any, inputs: Sequence[Tensor], cotangents: Sequence[Tensor], needs_gradient: Sequence[bool]
) -> StepResult:
    """Run a step, and compute the gradients of the inputs that need one; those of others are None."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    new = step(*leaves)
    pairs = [(state, c) for state, c in zip(new, cotangents, strict=True) if state.requires_grad]
    gradients: list[Tensor | None] = [None] * len(leaves)
    if pairs:
        scalar = scalar_with_cotangents(*zip(*pairs, strict=True))
        indices = [i for i, needed in enumerate(needs_gradient) if needed]
        computed = torch.autograd.grad(scalar, [leaves[i] for i in indices], allow_unused=True)
        for i, gradient in zip(indices, computed, strict=True):
            gradients[i] = gradient
    return [state.detach() for state in new], gradients


def _all_close(values: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    """Whether values are equal up to the rounding errors of another order of sums; None equals zeros."""
    return all(_is_close(a, b) for a, b in zip(values, expected, strict=True))


def _is_close(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return not any(tensor is not None and tensor.any() for tensor in (a, b))
    if a.shape != b.shape:
        return False
    a = a.to(b.dtype)
    if torch.equal(a, b):  # the usual case, as the same operations computed both
        return True
    # torch.allclose allocates several temporaries of the size of the matrix. It is needed for infinities and NaN.
    largest = torch.linalg.vector_norm(b, inf) if b.is_floating_point() and b.numel() else None
    is_near = largest is not None and bool(torch.dist(a, b, inf) <= TOLERANCE * largest)
    return is_near or torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
