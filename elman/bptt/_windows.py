"""Runs a sequence while saving only a few states; the backward pass runs it again from them, window by window."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.bptt._outside_tensors import unknown_leaf
from elman.bptt._repeatable import check_repeatable, repeatability
from elman.bptt._segments import Segments
from elman.engine import Inputs, Output, State, run
from elman.engine.replay import gradients_of_replay
from elman.engine.torch_private import in_torch_func
from elman.engine.trace.cotangents import scalar_with_cotangents


class Windows(NamedTuple):
    """Which steps run again together, and which gradients go back through them.

    Attributes:
        begins: the first step of each window, from 0 up.
        ends: one past the last step of each.
        of_outputs: for each row of the outputs, (T,) or packed (N,), the first step of the window through which its
            gradient goes back; None where the windows follow one another, each passing its gradient on to the one
            before.
        of_finals: the same for the final states: of each sequence, (B,), or of all, ().
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    of_outputs: Tensor | None = None
    of_finals: Tensor | None = None

    @property
    def chained(self) -> bool:
        """True if each window passes its gradient on to the one before."""
        return self.of_outputs is None


def run_windows(inputs: Inputs, executor: str, windows: Windows) -> tuple[Output, State]:
    """Run a cell over a sequence, with the gradients of these windows and the memory of one of them.

    Raises:
        RuntimeError: if the steps of the cell cannot run again; under torch.func, if windows are not chained.
    """
    # Under torch.func, chained windows give the right gradient without running again; only memory is not saved.
    transformed = not torch.compiler.is_compiling() and in_torch_func()
    if not torch.is_grad_enabled() or len(windows.begins) == 1 or (transformed and windows.chained):
        return run(inputs, executor)
    if transformed:
        raise RuntimeError(
            "Truncated: expected gradients by torch.autograd, got a transform of torch.func; use Full with torch.func"
        )
    repeatable = repeatability(inputs)
    if not (any(tensor.requires_grad for tensor in inputs.tensors) or repeatable.outside):
        return run(inputs, executor)
    check_repeatable(inputs.cell, repeatable)
    segments = Segments(inputs, executor, repeatable.outside)
    segments.label = segments.label and segments.label._replace(chained=windows.chained)
    results = _WindowsFunction.apply(segments, windows, *inputs.tensors, *repeatable.outside)  # type: ignore[no-untyped-call]
    return segments.results(results)


class _WindowsFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, segments: Segments, windows: Windows, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        detached = [tensor.detach() for tensor in rest]
        states, values = tuple(detached[: segments.num_states]), detached[segments.num_states :]
        outputs: list[Tensor] = []
        checkpoints: list[Tensor] = []  # of each state, before every window but the first
        for k, (begin, end) in enumerate(pairwise((*windows.begins, segments.steps))):
            if k == 1:
                checkpoints = [state.new_empty(len(windows.begins) - 1, *state.shape) for state in states]
            for checkpoint, state in zip(checkpoints, states, strict=False):
                checkpoint[k - 1] = state
            segments.rng_states.record()
            rows = segments.rows(begin, end)
            window_outputs, states = segments.run(x.detach()[rows], begin, end, states, values)
            # Copied at once: concatenated at the end, the outputs would take their memory twice.
            outputs = outputs or [value.new_empty(segments.begins[-1], *value.shape[1:]) for value in window_outputs]
            for output, value in zip(outputs, window_outputs, strict=True):
                output[rows] = value
        segments.rng_states.record()
        ctx.segments, ctx.windows = segments, windows
        ctx.save_for_backward(x, *rest, *checkpoints)
        # Clones: a state may be a view of something larger, or be returned twice.
        return (*outputs, *(state.clone() for state in states))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        segments, (x, *saved) = ctx.segments, ctx.saved_tensors
        num_states, num_values = segments.num_states, len(segments.names) + len(segments.outside)
        states, values, checkpoints = (
            saved[:num_states], saved[num_states : num_states + num_values], saved[num_states + num_values :],
        )  # fmt: skip
        begin_states = [states, *zip(*checkpoints, strict=True)]
        backward = _WindowsBackward(
            segments, ctx.windows, x, begin_states, values, cotangents, ctx.needs_input_grad[2:]
        )
        return (None, None, *(backward.differentiable() if torch.is_grad_enabled() else backward.gradients()))


class _WindowsBackward:
    """The backward pass.

    Args:
        segments: runs steps.
        windows: which steps run together.
        x: of the call.
        begin_states: the states at the beginning of each window.
        values: of the parameters and the outside tensors.
        cotangents: of the outputs and of the final states.
        needed: whether the gradients of x, of each initial state and of each value are wanted.
    """

    def __init__(
        self,
        segments: Segments,
        windows: Windows,
        x: Tensor,
        begin_states: Sequence[Sequence[Tensor]],
        values: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> None:
        self.segments, self.windows, self.x, self.begin_states, self.values = segments, windows, x, begin_states, values
        num_states = segments.num_states
        self.d_outputs, self.d_finals = cotangents[:-num_states], cotangents[-num_states:]
        self.needed, self.needs_x = needed, needed[0]
        self.needs_states, self.needs_values = needed[1 : 1 + num_states], needed[1 + num_states :]

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of x, the initial states and the values; windows run one by one, the last first."""
        values = [_leaf(value, needed) for value, needed in zip(self.values, self.needs_values, strict=True)]
        dx = torch.zeros_like(self.x) if self.needs_x else None
        d_states, sums = self.d_finals, list[Tensor | None]([None] * len(values))
        for k, (begin, end) in reversed(list(enumerate(zip(self.windows.begins, self.windows.ends, strict=True)))):
            rows = self.segments.rows(begin, end)
            x = _leaf(self.x[rows], self.needs_x)
            passes_on = k > 0 and self.windows.chained
            states = [
                _leaf(state, passes_on or (k == 0 and needed))
                for state, needed in zip(self.begin_states[k], self.needs_states, strict=True)
            ]
            with torch.enable_grad(), self.segments.restored(k):
                outputs, finals = self.segments.run(x, begin, end, states, values)
                dx_rows, *gradients = self._gradients_of(
                    (x, *states, *values), (*outputs, *finals), self._cotangents(k, d_states)
                )
            if dx is not None and dx_rows is not None:
                dx[rows] += dx_rows
            if self.windows.chained or k == 0:
                d_states = gradients[: len(states)]
            pairs = zip(sums, gradients[len(states) :], strict=True)
            sums = [new if total is None else total if new is None else total + new for total, new in pairs]
        return [dx, *d_states, *sums]

    def _check_leaves(self, results: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
        """Check that results depend on no other leaves of autograd's graph."""
        if unknown_leaf(results, leaves) is not None:
            name = self.segments.cell._get_name()
            raise RuntimeError(
                f"{name}: bptt: expected Full, since a step of {name} reads a tensor that requires a gradient, is "
                "not a parameter, and was not read by the first step of the forward pass"
            )

    def _gradients_of(
        self, leaves: Sequence[Tensor], results: Sequence[Tensor], cotangents: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradient of each leaf; None where it is not wanted, or no result depends on it."""
        self._check_leaves(results, leaves)
        pairs = [(r, d) for r, d in zip(results, cotangents, strict=True) if d is not None and r.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not pairs or not wanted:
            return [None] * len(leaves)
        loss = scalar_with_cotangents([r for r, _ in pairs], [d for _, d in pairs])
        gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        return [next(gradients) if leaf.requires_grad else None for leaf in leaves]

    def _cotangents(self, k: int, d_finals: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The cotangents of the outputs of window k, and of the states after it."""
        begin, end = self.windows.begins[k], self.windows.ends[k]
        rows = self.segments.rows(begin, end)
        d_outputs = [None if d is None else d[rows] for d in self.d_outputs]
        if self.windows.of_outputs is None:
            return [*d_outputs, *d_finals]
        assert self.windows.of_finals is not None
        is_own, ends_here = self.windows.of_outputs[rows] == begin, self.windows.of_finals == begin
        return [*(_masked(d, is_own) for d in d_outputs), *(_masked(d, ends_here) for d in self.d_finals)]

    def differentiable(self) -> list[Tensor | None]:
        """Return the same gradients, which can be differentiated; all windows are in memory at once."""
        num_states, last = self.segments.num_states, len(self.begin_states) - 1
        cotangents: list[Tensor | None] = []
        for k in range(len(self.begin_states)):
            ends = k == last or not self.windows.chained
            cotangents += self._cotangents(k, self.d_finals if ends else [None] * num_states)

        def replay(inputs: Sequence[Tensor]) -> list[Tensor]:
            x, states, values = inputs[0], inputs[1 : 1 + num_states], inputs[1 + num_states :]
            results: list[Tensor] = []
            for k, (begin, end) in enumerate(zip(self.windows.begins, self.windows.ends, strict=True)):
                states = states if self.windows.chained or k == 0 else self.begin_states[k]
                with self.segments.restored(k):
                    outputs, states = self.segments.run(x[self.segments.rows(begin, end)], begin, end, states, values)
                results += [*outputs, *states]
            self._check_leaves(results, inputs)
            return results

        return gradients_of_replay(replay, (self.x, *self.begin_states[0], *self.values), cotangents, self.needed)


def _leaf(tensor: Tensor, needed: bool) -> Tensor:
    return tensor.detach().requires_grad_(needed)


def _masked(d: Tensor | None, rows: Tensor) -> Tensor | None:
    """A cotangent with zeros outside of some rows."""
    return None if d is None else d.where(rows.view(*rows.shape, *[1] * (d.dim() - rows.dim())), 0)
