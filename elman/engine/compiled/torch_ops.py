"""Compiled plans as operators of torch, for autograd and torch.compile."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import chain, pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine import eager
from elman.engine.compiled.plan_cache import cached_plan, compiled_plan, conditions_of
from elman.engine.compiled.records import BackwardInputs, Cotangents, Forward, PlanInputs, Wanted
from elman.engine.inputs import Inputs, split_by_step
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
from elman.engine.outputs import as_tuple, flatten_output, unflatten_output
from elman.engine.outputs import output_tensors as outputs_of
from elman.engine.precision import uncast
from elman.engine.replay import first_restored, gradients_of_replay
from elman.engine.torch_private import below_autograd, in_dispatch_mode, is_profiling
from elman.engine.trace.random_ops import ReplayRandomOps, draw_all

_library = torch.library.Library("elman", "DEF")
_library.define(
    "forward(str plan, Tensor x, Tensor[] states, Tensor[] parameters, Tensor[] draws, Tensor? sizes, bool save) "
    "-> (Tensor, Tensor[], Tensor[])"
)
_library.define(
    "backward(str plan, Tensor? dy, Tensor?[] d_finals, Tensor x, Tensor[] states, Tensor[] parameters, "
    "Tensor[] draws, Tensor? sizes, Tensor outputs, Tensor[] saved, bool of_x, bool of_states, bool of_parameters) "
    "-> Tensor[]"
)
_library.define("draw(str plan, Tensor x, Tensor? sizes) -> Tensor[]", tags=(torch.Tag.nondeterministic_seeded,))
forward_op = torch.ops.elman.forward.default
backward_op = torch.ops.elman.backward.default
draw_op = torch.ops.elman.draw.default
PLAIN = {Tensor, nn.Parameter, type(None)}


# At the boundary of torch.library, records are flat.


def _forward_flat(plan: str, x: Tensor, *rest: Any) -> Forward:
    return _forward(plan, PlanInputs(x, *rest[:-1]), rest[-1])


def _backward_flat(plan: str, dy: Tensor | None, d_finals: Sequence[Tensor | None], *rest: Any) -> list[Tensor]:
    cotangents, inputs, wanted = Cotangents(dy, d_finals), PlanInputs(*rest[:5]), Wanted(*rest[7:])
    return _backward(plan, BackwardInputs(cotangents, inputs, rest[5], rest[6], wanted))


def _forward_op(plan: str, inputs: PlanInputs, save: bool) -> Forward:
    return Forward(*forward_op(plan, *inputs, save))


def _backward_op(plan: str, call: BackwardInputs) -> list[Tensor]:
    gradients: list[Tensor] = backward_op(plan, *call.cotangents, *call.inputs, call.outputs, call.saved, *call.wanted)
    return gradients


def _forward(plan: str, inputs: PlanInputs, save: bool) -> Forward:
    return compiled_plan(plan, inputs.x.dtype).forward(inputs.contiguous(), save)


def _backward(plan: str, call: BackwardInputs, arriving: Sequence[Tensor] = ()) -> list[Tensor]:
    inputs, saved = call.inputs.contiguous(), [value.contiguous() for value in call.saved]
    call = call._replace(inputs=inputs, outputs=call.outputs.contiguous(), saved=saved)
    compiled = compiled_plan(plan, inputs.x.dtype, observed=bool(arriving))
    dx, d_states, d_parameters = compiled.backward(call, arriving)
    gradients = [*([dx] if call.wanted.x else []), *d_states, *d_parameters]
    # The operator returns a list of tensors, without None: zeros are dropped again in `_PlanFunction.backward`.
    pairs = zip(gradients, _inputs_of(inputs, call.wanted), strict=True)
    return [torch.zeros_like(tensor) if gradient is None else gradient for gradient, tensor in pairs]


def _inputs_of(inputs: PlanInputs, wanted: Wanted) -> list[Tensor]:
    """The tensors whose gradients are wanted, in the order of the gradients."""
    return [
        *([inputs.x] if wanted.x else []),
        *(inputs.states if wanted.states else []),
        *(inputs.parameters if wanted.parameters else []),
    ]


def _fake_forward(plan_key: str, x: Tensor, *rest: Any) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    plan, _, backend = cached_plan(plan_key)
    lead, inputs, save = x.shape[:-1], PlanInputs(x, *rest[:-1]), rest[-1]
    finals = [state.new_empty(state.shape) for state in inputs.states]
    saved = [x.new_empty(*lead, plan.saved_width, dtype=backend.saved_dtype(x.dtype))]
    dtype = backend.state_dtype(x.dtype)
    first = int(dtype == x.dtype)  # else the outputs are saved in the dtype of the states too
    sequences = zip(plan.widths[first:], plan.sequences[first:], strict=True)
    saved += [x.new_empty(*lead, size, dtype=dtype) for size, sequence in sequences if sequence]
    return x.new_empty(*lead, plan.widths[0]), finals, saved if save else []


def _fake_backward(plan: str, dy: Any, d_finals: Any, *rest: Any) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in _inputs_of(PlanInputs(*rest[:5]), Wanted(*rest[7:]))]


def _draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    return draw_all(cached_plan(plan).plan.step.draws, x, sizes)


def _fake_draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    return [x.new_empty(*x.shape[:-1], prod(draw.shape)) for draw in cached_plan(plan).plan.step.draws]


def draw(plan: str, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
    """Draw all random numbers that a plan needs for a sequence x, or packed ones."""
    numbers: list[Tensor] = draw_op(plan, x.detach(), sizes) if _needs_dispatcher((x,)) else _draw(plan, x, sizes)
    return numbers


def _needs_dispatcher(tensors: Iterable[Tensor | None]) -> bool:
    """Return True if a compiler, a mode, a profiler or a tensor subclass must see the operators.

    Otherwise torch's dispatcher is skipped: for small layers it takes as long as the computation.
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
        ctx: Any, plan: str, save: bool, count: int, draws: Sequence[Tensor], sizes: Tensor | None, x: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        inputs = PlanInputs(x, rest[:count], rest[count:], draws, sizes)
        if _needs_dispatcher((x, *rest)):
            with below_autograd():
                outputs, finals, saved = _forward_op(plan, inputs, save)
        else:
            outputs, finals, saved = _forward(plan, inputs, save)
        ctx.plan, ctx.count, ctx.sizes, ctx.label, ctx.later = plan, count, sizes, current_label(), False
        ctx.save_for_backward(x, outputs, *rest, *draws, *saved)
        ctx.saved, ctx.draws = len(saved), len(draws)
        ctx.mark_non_differentiable(*saved)
        ctx.set_materialize_grads(False)
        return (outputs, *finals, *saved)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *d_rest: Tensor | None) -> tuple[Tensor | None, ...]:
        count, tensors = ctx.count, ctx.saved_tensors
        ends = [0, 1, 2, 2 + count, len(tensors) - ctx.saved - ctx.draws, len(tensors) - ctx.saved, len(tensors)]
        (x,), (outputs,), states, parameters, draws, saved = (tensors[a:b] for a, b in pairwise(ends))
        inputs, cotangents = PlanInputs(x, states, parameters, draws, ctx.sizes), Cotangents(dy, d_rest[:count])
        needed = ctx.needs_input_grad[5:]
        wanted = Wanted(needed[0], any(needed[1 : 1 + count]), any(needed[1 + count :]))
        label = ctx.label and ctx.label._replace(draws=draws)
        if not torch.compiler.is_compiling() and (torch.is_grad_enabled() or is_batched((dy, *cotangents.finals))):
            ctx.later = ctx.later or torch.is_grad_enabled()
            with labeled(label), uncast(x.device.type):
                gradients = _replay_gradients(ctx.plan, cotangents, inputs, needed)
        else:
            call = BackwardInputs(cotangents, inputs, outputs, saved, wanted)
            if label and is_observed():
                computed = iter(_observed_backward(ctx.plan, call, label, ctx.later))
            else:
                backward = _backward_op if _needs_dispatcher((*d_rest, *tensors)) else _backward
                computed = iter(backward(ctx.plan, call))
            kinds = [wanted.x, *(wanted.states for _ in states), *(wanted.parameters for _ in parameters)]
            gradients = [next(computed) if kind else None for kind in kinds]
        plan = cached_plan(ctx.plan).plan
        # An input that no result depends on gets None, not zeros. Every result of a sequence without a step depends
        # on its initial state.
        ended = ctx.sizes is not None
        reached = (
            plan.dx is not None,
            *(ended or d is not None for d in plan.d_states),
            *(d is not None for d in plan.d_parameters),
        )
        triples = zip(gradients, needed, reached, strict=True)
        return (None, None, None, None, None, *(g if n and r else None for g, n, r in triples))


def _observed_backward(plan: str, call: BackwardInputs, label: CallLabel, later: bool) -> list[Tensor]:
    """The gradients; observers are notified of the gradient that arrives at every state."""
    inputs, (dy, d_finals) = call.inputs, call.cotangents
    x = inputs.x
    arriving = [x.new_empty(*x.shape[:-1], state.shape[1]) for state in inputs.states]
    gradients = _backward(plan, call, arriving)
    step = cached_plan(plan).plan.step
    if conditions := conditions_of(plan):
        first = int(bool(step.output))  # an output of its own takes the place of a first state
        d_outputs: Sequence[Tensor | None] = [dy]
        if first:
            d_outputs = [None] * len(step.output) if dy is None else outputs_of(unflatten_output(dy, step.output))
        for d, i in zip(d_outputs, step.output_states, strict=False):
            if d is not None and i is not None:
                arriving[first + i] += d
        state = inputs.states[first] if step.single else tuple(inputs.states[first:])
        parameters = dict(zip(step.parameters, inputs.parameters, strict=True))
        record = CallRecord(*label, parameters, x, state, inputs.sizes, conditions[0])
        notify(BackwardEvent(record, tuple(d_outputs), tuple(d_finals[first:]), tuple(arriving[first:]), later))
    return gradients


def _replay_gradients(
    plan: str, cotangents: Cotangents, inputs: PlanInputs, needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as the loop executor computes them, which can be differentiated."""
    step, count, sizes = cached_plan(plan).plan.step, len(inputs.states), inputs.sizes
    first = int(bool(step.output))

    def replay(tensors: Sequence[Tensor]) -> list[Tensor]:
        x, states, parameters = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
        named = dict(zip(step.parameters, parameters, strict=True))
        state = states[first] if step.single else tuple(states[first:])
        draws = [split_by_step(values, sizes) for values in inputs.draws]
        replayed = ReplayRandomOps(chain.from_iterable(zip(*draws, strict=True))) if draws else nullcontext()
        with first_restored(conditions_of(plan), "double backward") as cell, replayed:
            outputs, finals = eager.run(Inputs(cell, named, x, state, sizes))
        return [flatten_output(outputs, x.dim() - 1), *as_tuple(finals)]

    arrived = (cotangents.outputs, *cotangents.finals[first:])
    return gradients_of_replay(replay, (inputs.x, *inputs.states, *inputs.parameters), arrived, needed)


def _differentiable(plan: str, inputs: PlanInputs, save: bool) -> Forward:
    if not save:
        with below_autograd():
            return _forward_op(plan, inputs, save)
    x, states, parameters, draws, sizes = inputs
    count = len(states)
    outputs, *rest = _PlanFunction.apply(plan, save, count, draws, sizes, x, *states, *parameters)  # type: ignore[no-untyped-call]
    return Forward(outputs, rest[:count], rest[count:])


def _differentiable_flat(plan: str, x: Tensor, *rest: Any) -> Forward:
    return _differentiable(plan, PlanInputs(x, *rest[:-1]), rest[-1])


for _device in ("CPU", "CUDA"):
    _library.impl("forward", _forward_flat, _device)
    _library.impl("backward", _backward_flat, _device)
    _library.impl("draw", _draw, _device)
_library.impl("forward", _differentiable_flat, "Autograd")
torch.library.register_fake("elman::draw", _fake_draw, lib=_library)
torch.library.register_fake("elman::forward", _fake_forward, lib=_library)
torch.library.register_fake("elman::backward", _fake_backward, lib=_library)


def apply(plan: str, inputs: PlanInputs) -> tuple[Tensor, list[Tensor]]:
    """Run a plan over a sequence, or packed ones; the outputs and the final states."""
    tensors = (inputs.x, *inputs.states, *inputs.parameters)
    save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    forward = _forward_op if _needs_dispatcher(tensors) else _differentiable if save else _forward
    outputs, finals, _ = forward(plan, inputs, save)
    return outputs, finals
