"""The native executor as operations of torch, `elman::forward` and `elman::backward`, for autograd and compilers."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import chain, pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine import eager
from elman.engine.cpu.kernel_cache import cached_plan, cell_of, compiled_plan, restored_cell
from elman.engine.executor import Inputs
from elman.engine.observe.events import (
    BackwardEvent,
    CallLabel,
    CallRecord,
    current_label,
    is_batched,
    is_observed,
    labeled,
    notify,
)
from elman.engine.outputs import flatten_output, unflatten_output
from elman.engine.outputs import output_tensors as outputs_of
from elman.engine.precision import uncast
from elman.engine.torch_private import below_autograd, in_dispatch_mode, is_profiling
from elman.engine.trace.random_ops import ReplayRandomOps, draw_all

_library = torch.library.Library("elman", "DEF")
_library.define(
    "forward(str plan, Tensor x, Tensor[] states, Tensor[] parameters, Tensor[] draws, Tensor? sizes, bool keep) "
    "-> (Tensor, Tensor[], Tensor[])"
)
_library.define(
    "backward(str plan, Tensor? dy, Tensor?[] d_finals, Tensor x, Tensor[] states, Tensor[] parameters, "
    "Tensor[] draws, Tensor? sizes, Tensor outputs, Tensor[] kept, bool of_x, bool of_states, bool of_parameters) "
    "-> Tensor[]"
)
_library.define("draw(str plan, Tensor x, Tensor? sizes) -> Tensor[]", tags=(torch.Tag.nondeterministic_seeded,))
forward_op = torch.ops.elman.forward.default
backward_op = torch.ops.elman.backward.default
draw_op = torch.ops.elman.draw.default
PLAIN = {Tensor, nn.Parameter, type(None)}


def _forward(
    plan: str, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], draws: Sequence[Tensor],
    sizes: Tensor | None, keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    x, states = x.contiguous(), [state.contiguous() for state in states]
    return compiled_plan(plan, x.dtype).forward(x, states, parameters, draws, sizes, keep)


def _backward(
    plan: str,
    dy: Tensor | None,
    d_finals: Sequence[Tensor | None],
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    draws: Sequence[Tensor],
    sizes: Tensor | None,
    outputs: Tensor,
    kept: Sequence[Tensor],
    of_x: bool,
    of_states: bool,
    of_parameters: bool,
    gradients: Sequence[Tensor] = (),
) -> list[Tensor]:
    native = compiled_plan(plan, x.dtype, observed=bool(gradients))
    x, states = x.contiguous(), [state.contiguous() for state in states]
    outputs, kept = outputs.contiguous(), [k.contiguous() for k in kept]
    dx, d_states, d_parameters = native.backward(
        dy, d_finals, x, states, parameters, draws, sizes, outputs, kept, of_x, of_states, of_parameters, gradients
    )
    found = [*([dx] if of_x else []), *d_states, *d_parameters]
    like = _asked(x, states, parameters, of_x, of_states, of_parameters)
    # A list of tensors has no place for None: where nothing reaches, the gradient is zero.
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, like, strict=True)]


def _asked(
    x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], of_x: bool, of_states: bool, of_parameters: bool
) -> list[Tensor]:
    return [*([x] if of_x else []), *(states if of_states else []), *(parameters if of_parameters else [])]


def _fake_forward(
    plan: str, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], draws: Sequence[Tensor],
    sizes: Tensor | None, keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    made, lead = cached_plan(plan).plan, x.shape[:-1]
    finals = [state.new_empty(state.shape) for state in states]
    kept = [x.new_empty(*lead, made.kept_width)]
    later = zip(made.widths[1:], made.sequences[1:], strict=True)
    kept += [x.new_empty(*lead, size) for size, sequence in later if sequence]
    return x.new_empty(*lead, made.widths[0]), finals, kept if keep else []


def _fake_backward(
    plan: str, dy: Any, d_finals: Any, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
    draws: Sequence[Tensor], sizes: Any, outputs: Tensor, kept: Any, of_x: bool, of_states: bool, of_parameters: bool,
) -> list[Tensor]:  # fmt: skip
    like = _asked(x, states, parameters, of_x, of_states, of_parameters)
    return [tensor.new_empty(tensor.shape) for tensor in like]


def _draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    return draw_all(cached_plan(plan).plan.step.draws, x, sizes)


def _fake_draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    return [x.new_empty(*x.shape[:-1], prod(draw.shape)) for draw in cached_plan(plan).plan.step.draws]


def draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    """All random numbers that a plan needs for a sequence x, or packed ones."""
    found: list[Tensor] = draw_op(plan, x.detach(), sizes) if _watched((x,)) else _draw(plan, x, sizes)
    return found


def _watched(tensors: Iterable[Tensor | None]) -> bool:
    """Whether somebody wants to see the operations: a compiler, a mode, a profiler, a type of tensors of its own.

    Where nobody does, torch's dispatcher is left out: for small layers it takes as long as the computation.
    """
    return (
        torch.compiler.is_compiling()
        or in_dispatch_mode()
        or is_profiling()
        or not PLAIN.issuperset(map(type, tensors))
    )


class _PlanFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: str, keep: bool, count: int, draws: Sequence[Tensor], sizes: Tensor | None, x: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        states, parameters = rest[:count], rest[count:]
        if _watched((x, *rest)):
            with below_autograd():
                outputs, finals, kept = forward_op(plan, x, states, parameters, draws, sizes, keep)
        else:
            outputs, finals, kept = _forward(plan, x, states, parameters, draws, sizes, keep)
        ctx.plan, ctx.count, ctx.sizes, ctx.label, ctx.later = plan, count, sizes, current_label(), False
        ctx.save_for_backward(x, outputs, *rest, *draws, *kept)
        ctx.kept, ctx.draws = len(kept), len(draws)
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)
        return (outputs, *finals, *kept)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *d_rest: Tensor | None) -> tuple[Tensor | None, ...]:
        count, saved = ctx.count, ctx.saved_tensors
        ends = [0, 1, 2, 2 + count, len(saved) - ctx.kept - ctx.draws, len(saved) - ctx.kept, len(saved)]
        (x,), (outputs,), states, parameters, draws, kept = (saved[a:b] for a, b in pairwise(ends))
        d_finals = d_rest[:count]
        needed = ctx.needs_input_grad[5:]
        asked = needed[0], any(needed[1 : 1 + count]), any(needed[1 + count :])
        piece = ctx.label and ctx.label._replace(draws=draws)
        if not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_batched((dy, *d_finals))):
            ctx.later = ctx.later or torch.is_grad_enabled()
            with torch.enable_grad(), labeled(piece), uncast():
                found = _by_loop(ctx.plan, dy, d_finals, x, states, parameters, draws, ctx.sizes, needed)
        else:
            op: Callable[..., list[Tensor]] = backward_op if _watched((*d_rest, *saved)) else _backward
            given = (ctx.plan, dy, d_finals, x, states, parameters, draws, ctx.sizes, outputs, kept)
            of = iter(_told(piece, ctx.later, *given, asked) if piece and is_observed() else op(*given, *asked))
            kinds = [asked[0], *(asked[1] for _ in states), *(asked[2] for _ in parameters)]
            found = [next(of) if wanted else None for wanted in kinds]
        made = cached_plan(ctx.plan).plan
        # What nothing reaches has no gradient, rather than zeros. A state is reached where a sequence has no step.
        ended = ctx.sizes is not None
        reached = (made.dx is not None, *(ended or d is not None for d in made.d_states), *_some(made.d_parameters))
        wanted = zip(found, needed, reached, strict=True)
        return (None, None, None, None, None, *(g if n and r else None for g, n, r in wanted))


def _told(
    piece: CallLabel, later: bool, plan: str, dy: Tensor | None, d_finals: Sequence[Tensor | None], x: Tensor,
    states: Sequence[Tensor], parameters: Sequence[Tensor], draws: Sequence[Tensor], sizes: Tensor | None,
    outputs: Tensor, kept: Sequence[Tensor], asked: tuple[bool, bool, bool],
) -> list[Tensor]:  # fmt: skip
    """As `_backward`, and whoever looks is told of it."""
    gradients = [x.new_empty(*x.shape[:-1], state.shape[1]) for state in states]
    found = _backward(plan, dy, d_finals, x, states, parameters, draws, sizes, outputs, kept, *asked, gradients)
    step = cached_plan(plan).plan.step
    if (living := cell_of(plan)) is not None:
        own = int(bool(step.output))
        none = [None] * len(step.output)
        of_outputs = [dy] if not own else none if dy is None else outputs_of(unflatten_output(dy, step.output))
        for d, i in zip(of_outputs, step.shown, strict=False):
            if d is not None and i is not None:
                gradients[own + i] += d
        state = states[own] if step.single else tuple(states[own:])
        named = dict(zip(step.parameters, parameters, strict=True))
        cell, stand = living
        call = CallRecord(*piece, cell, named, x, state, sizes, stand, uncast)
        notify(BackwardEvent(call, tuple(of_outputs), tuple(d_finals[own:]), tuple(gradients[own:]), later))
    return found


def _some(gradients: Sequence[Any]) -> list[bool]:
    return [gradient is not None for gradient in gradients]


def _by_loop(
    plan: str,
    dy: Tensor | None,
    d_finals: Sequence[Tensor | None],
    x: Tensor,
    states: Sequence[Tensor],
    parameters: Sequence[Tensor],
    draws: Sequence[Tensor],
    sizes: Tensor | None,
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients as the loop executor makes them, which can be differentiated again."""
    # Of these alone, and not of what they were made of: a state may come from a call with the same parameters.
    x, *rest = (t.view_as(t) for t in (x, *states, *parameters))
    states, parameters = rest[: len(states)], rest[len(states) :]
    entry = cached_plan(plan)
    named = dict(zip(entry.plan.step.parameters, parameters, strict=True))
    own = int(bool(entry.plan.step.output))
    given = states[own] if entry.plan.step.single else tuple(states[own:])
    steps = [values.unbind(0) if sizes is None else values.split(sizes.tolist()) for values in draws]
    drawn = ReplayRandomOps(chain.from_iterable(zip(*steps, strict=True))) if draws else nullcontext()
    with restored_cell(plan) as cell, drawn:
        if cell is None:
            raise RuntimeError(
                "the gradient of a gradient needs the cell as it was in the forward pass; keep the layer, and its "
                "attributes, while you use it"
            )
        outputs, finals = eager.run(Inputs(cell, named, x, given, sizes))
    results = (flatten_output(outputs, x.dim() - 1), *eager.as_tuple(finals))
    pairs = [(result, d) for result, d in zip(results, (dy, *d_finals[own:]), strict=True) if d is not None]
    inputs = [tensor for tensor, need in zip((x, *states, *parameters), needed, strict=True) if need]
    found = iter(
        torch.autograd.grad([r for r, _ in pairs], inputs, [d for _, d in pairs], create_graph=True, allow_unused=True)
    )
    return [next(found) if need else None for need in needed]


def _differentiable(
    plan: str, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], draws: Sequence[Tensor],
    sizes: Tensor | None, keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:  # fmt: skip
    if not keep:
        with below_autograd():
            return forward_op(plan, x, states, parameters, draws, sizes, keep)  # type: ignore[no-any-return]
    count = len(states)
    outputs, *rest = _PlanFunction.apply(plan, keep, count, draws, sizes, x, *states, *parameters)  # type: ignore[no-untyped-call]
    return outputs, rest[:count], rest[count:]


_library.impl("forward", _forward, "CPU")
_library.impl("backward", _backward, "CPU")
_library.impl("forward", _differentiable, "Autograd")
_library.impl("draw", _draw, "CPU")
torch.library.register_fake("elman::draw", _fake_draw, lib=_library)
torch.library.register_fake("elman::forward", _fake_forward, lib=_library)
torch.library.register_fake("elman::backward", _fake_backward, lib=_library)


def apply(
    plan: str, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], draws: Sequence[Tensor],
    sizes: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """Run a plan over a sequence, or packed ones; the outputs and the final states."""
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *states, *parameters))
    forward = forward_op if _watched((x, *states, *parameters)) else _differentiable if keep else _forward
    outputs, finals, _ = forward(plan, x, states, parameters, draws, sizes, keep)
    return outputs, finals
