"""Runs a sequence while saving only a few states; the backward pass runs it again from them, window by window."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.bptt._outside_tensors import unknown_leaf
from elman.bptt._repeatable import check_repeatable, repeatability
from elman.bptt._segments import Segments
from elman.engine import Output, State, as_tuple, run
from elman.engine.torch_private import in_torch_func
from elman.engine.trace.cotangents import scalar_with_cotangents


class Windows(NamedTuple):
    """Which steps run again together, and which gradients go back through them.

    Args:
        begins: the first step of each, from 0 up.
        ends: the step behind the last of each.
        of_outputs: the first step of the window through which the gradient of each row of the outputs goes back, (T,)
            or packed (N,); None where the windows follow one another, each handing its gradient to the one before.
        of_finals: the same for the final states: of each sequence, (B,), or of all, ().
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    of_outputs: Tensor | None = None
    of_finals: Tensor | None = None


def run_windows(
    cell: nn.Module,
    parameters: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    executor: str,
    sizes: Tensor | None,
    windows: Windows,
) -> tuple[Output, State]:
    """Run a cell over a sequence, with the gradients of these windows and the memory of one of them.

    Raises:
        RuntimeError: if the steps of the cell cannot run again; for transforms of torch.func.
    """
    tensors = (*as_tuple(state), *parameters.values())
    asked = any(t.requires_grad for t in (x, *tensors))
    # Under torch.func, chained windows give what is right without running again: only their memory is not saved.
    transformed = not torch.compiler.is_compiling() and in_torch_func()
    if not torch.is_grad_enabled() or len(windows.begins) == 1 or (transformed and windows.of_outputs is None):
        return run(cell, parameters, x, state, executor, sizes)
    if transformed:
        raise RuntimeError(
            "Truncated: expected gradients of torch.autograd, got a transform of torch.func; use Full there"
        )
    found = repeatability(cell, parameters, x, state, sizes)
    if not (asked or found.elsewhere):
        return run(cell, parameters, x, state, executor, sizes)
    check_repeatable(cell, found)
    states = None if isinstance(state, Tensor) else len(state)
    segments = Segments(cell, tuple(parameters), states, executor, sizes, x, found.elsewhere)
    segments.piece = segments.piece and segments.piece._replace(chained=windows.of_outputs is None)
    results = _WindowsFunction.apply(segments, windows, x, *tensors, *found.elsewhere)  # type: ignore[no-untyped-call]
    outputs, finals = results[: -segments.states], results[-segments.states :]
    return segments.output(outputs), finals[0] if isinstance(state, Tensor) else finals


class _WindowsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, segments: Segments, windows: Windows, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        given, parameters = (
            [tensor.detach() for tensor in part] for part in (rest[: segments.states], rest[segments.states :])
        )
        states, outputs, kept = tuple(given), list[Tensor](), list[Tensor]()
        for k, (begin, end) in enumerate(pairwise((*windows.begins, segments.steps))):
            if k == 1:
                kept = [state.new_empty(len(windows.begins) - 1, *state.shape) for state in states]
            for all_kept, state in zip(kept, states, strict=False):
                all_kept[k - 1] = state
            segments.drawn.note()
            rows = segments.rows(begin, end)
            found, states = segments.run(x.detach()[rows], begin, end, states, parameters)
            # Each piece goes to its place at once: joined at the end, the outputs would be there twice.
            outputs = outputs or [value.new_empty(segments.first[-1], *value.shape[1:]) for value in found]
            for whole, value in zip(outputs, found, strict=True):
                whole[rows] = value
        segments.drawn.note()
        ctx.segments, ctx.windows = segments, windows
        ctx.save_for_backward(x, *rest, *kept)
        # Memory of their own: a state may be a view of something larger, or stand in two places.
        return (*outputs, *(state.clone() for state in states))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        segments, windows, (x, *saved) = ctx.segments, ctx.windows, ctx.saved_tensors
        states, count = segments.states, segments.states + len(segments.names) + len(segments.elsewhere)
        kept = [saved[:states], *zip(*saved[count:], strict=True)]
        back = _WindowsBackward(segments, windows, x, kept, saved[states:count], cotangents, ctx.needs_input_grad[2:])
        found = back.differentiable() if torch.is_grad_enabled() else back.gradients()
        return (None, None, *found)


class _WindowsBackward:
    """The backward step.

    Args:
        segments: runs steps.
        windows: which ones run together.
        x: of the call.
        kept: the states at the beginning of each window.
        parameters: of the call, and what it reads from elsewhere.
        cotangents: of the outputs and of the final states.
        needed: whether the gradients of x, of each initial state and of each parameter are wanted.
    """

    def __init__(
        self,
        segments: Segments,
        windows: Windows,
        x: Tensor,
        kept: Sequence[Sequence[Tensor]],
        parameters: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> None:
        self.segments, self.windows, self.x, self.kept, self.parameters = segments, windows, x, kept, parameters
        self.of_outputs, self.of_finals = cotangents[: -segments.states], cotangents[-segments.states :]
        self.of_x, *rest = needed
        self.of_states, self.of_parameters = rest[: segments.states], rest[segments.states :]

    @property
    def chained(self) -> bool:
        """Whether the gradient goes from each window to the one before."""
        return self.windows.of_outputs is None

    def gradients(self) -> list[Tensor | None]:
        """Those of x, of the initial states and of the parameters, window by window, the last first."""
        parameters = [_leaf(p, needed) for p, needed in zip(self.parameters, self.of_parameters, strict=True)]
        dx = torch.zeros_like(self.x) if self.of_x else None
        carried, sums = self.of_finals, list[Tensor | None]([None] * len(parameters))
        for k, (begin, end) in reversed(list(enumerate(zip(*self.windows[:2], strict=True)))):
            rows = self.segments.rows(begin, end)
            x = _leaf(self.x[rows], self.of_x)
            asked = [(k > 0 and self.chained) or (k == 0 and needed) for needed in self.of_states]
            states = [_leaf(state, needed) for state, needed in zip(self.kept[k], asked, strict=True)]
            with torch.enable_grad(), self.segments.as_before(k):
                outputs, finals = self.segments.run(x, begin, end, states, parameters)
                leaves, results = (x, *states, *parameters), (*outputs, *finals)
                of_x, *found = self._gradients_of(leaves, results, self.cotangents(k, carried))
            if dx is not None and of_x is not None:
                dx[rows] += of_x
            if self.chained or k == 0:
                carried = found[: len(states)]
            pairs = zip(sums, found[len(states) :], strict=True)
            sums = [new if total is None else total if new is None else total + new for total, new in pairs]
        return [dx, *carried, *sums]

    def _gradients_of(
        self, leaves: Sequence[Tensor], results: Sequence[Tensor], cotangents: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradient of each leaf; None where it is not asked for, or nothing reaches it."""
        if unknown_leaf(results, leaves) is not None:
            name = self.segments.cell._get_name()
            raise RuntimeError(
                f"{name}: bptt: expected Full, for a step of {name} reads a tensor that asks for a gradient, and that "
                "is no parameter and was not read by the first step of the forward pass"
            )
        pairs = [(r, d) for r, d in zip(results, cotangents, strict=True) if d is not None and r.requires_grad]
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        if not pairs or not asked:
            return [None] * len(leaves)
        loss = scalar_with_cotangents([r for r, _ in pairs], [d for _, d in pairs])
        found = iter(torch.autograd.grad(loss, asked, allow_unused=True))
        return [next(found) if leaf.requires_grad else None for leaf in leaves]

    def cotangents(self, k: int, of_finals: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Those of the outputs of window k and of the states after it."""
        begin, end = self.windows.begins[k], self.windows.ends[k]
        rows = self.segments.rows(begin, end)
        of_outputs = [None if d is None else d[rows] for d in self.of_outputs]
        if self.windows.of_outputs is None:
            return [*of_outputs, *of_finals]
        assert self.windows.of_finals is not None
        own = self.windows.of_outputs[rows] == begin
        ends_here = self.windows.of_finals == begin
        return [*(_where(own, d) for d in of_outputs), *(_where(ends_here, d) for d in self.of_finals)]

    def differentiable(self) -> list[Tensor | None]:
        """As `gradients`, such that they can be differentiated again; all windows are kept at once."""
        results: list[Tensor] = []
        cotangents: list[Tensor | None] = []
        # Of these alone, and not of what they were made of: a state may come from a call with the same parameters.
        x, *given = (t.view_as(t) for t in (self.x, *self.kept[0], *self.parameters))
        states, parameters = tuple(given[: self.segments.states]), given[self.segments.states :]
        for k, (begin, end) in enumerate(zip(*self.windows[:2], strict=True)):
            states = states if self.chained or k == 0 else tuple(self.kept[k])
            with self.segments.as_before(k):
                outputs, states = self.segments.run(x[self.segments.rows(begin, end)], begin, end, states, parameters)
            last = k == len(self.kept) - 1 or not self.chained
            results += [*outputs, *states]
            cotangents += self.cotangents(k, self.of_finals if last else [None for _ in states])
        pairs = [(r, d) for r, d in zip(results, cotangents, strict=True) if d is not None and r.requires_grad]
        needed = [self.of_x, *self.of_states, *self.of_parameters]
        inputs = [t for t, n in zip((x, *given), needed, strict=True) if n]
        of = iter(
            torch.autograd.grad(
                [r for r, _ in pairs], inputs, [d for _, d in pairs], create_graph=True, allow_unused=True
            )
        )
        return [next(of) if n else None for n in needed]


def _leaf(tensor: Tensor, needed: bool) -> Tensor:
    return tensor.detach().requires_grad_(needed)


def _where(own: Tensor, d: Tensor | None) -> Tensor | None:
    """The rows of a cotangent that are a window's own; of the others, zeros."""
    return None if d is None else d.where(own.view(*own.shape, *[1] * (d.dim() - own.dim())), 0)
