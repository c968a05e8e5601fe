"""One step of a stack with its backward step, prepared."""

from collections.abc import Callable, Sequence
from ctypes import memmove
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.cpu.compiled_plan import PlanInputs
from elman.engine.cpu.invocation import LINE
from elman.engine.cpu.kernel_cache import compiled_plan
from elman.engine.cpu.single_step import BackwardStep, ForwardStep, can_step
from elman.engine.cpu.torch_ops import apply
from elman.engine.observe.events import CallLabel, is_batched, is_observed, labeled
from elman.engine.precision import uncast
from elman.engine.torch_private import in_dispatch_mode, without_transforms

LOOPS = ("forward", "backward")
PLAIN = {Tensor, nn.Parameter, type(None)}


class BackwardCall(NamedTuple):
    """What is prepared for a backward pass; one pass at a time may use it."""

    steps: list[BackwardStep]
    between: list[Tensor]  # the gradients of what goes from each layer to the next


class _Wanted(NamedTuple):
    """Which gradients a backward pass is asked for."""

    x: bool
    states: bool  # of one of them
    parameters: list[bool]  # of one of each layer's
    lowest: int  # layer that the gradient has to come to


class StackedStep:
    """One step of several plans, each over the outputs of the one below, for B rows. Its calls must not overlap.

    Args:
        keys: of the plans, which `can_stack` with so many rows.
        shapes: of the parameters of each, in the order of the plan.
        like: of the dtype of all memory.
        B: the rows.
    """

    def __init__(self, keys: Sequence[str], shapes: Sequence[Sequence[torch.Size]], like: Tensor, B: int) -> None:
        self._keys, self._B = keys, B
        self._natives = [compiled_plan(key, like.dtype) for key in keys]
        size, plans = like.element_size(), [native.plan for native in self._natives]
        rows = [B * width * size for width in plans[0].widths]  # bytes of each state of a layer
        self._output = rows[0]
        # In one piece of memory: each state of all layers, and then what each layer keeps.
        self._after, total = [], 0
        for row in rows:
            self._after.append(total)
            total += _aligned(row * len(keys))
        self._offsets, self._kept = [], []
        for k, plan in enumerate(plans):
            self._offsets.append([k * row for row in rows])
            self._kept.append(total)
            total += _aligned(B * plan.saved_width * size)
        self._numbers = total // size
        self._steps = [ForwardStep(native, like, B, keep=True) for native in self._natives]
        self._free: list[BackwardCall] = []
        self._ends = [0, *accumulate(map(len, shapes))]  # of the parameters of each layer
        self._shapes = [shape for of in shapes for shape in of]
        self._parameters: list[int] = []
        self._wanted: dict[Sequence[bool], _Wanted] = {}

    def move(self, addresses: list[int]) -> None:
        """Let the parameters of all layers be at these addresses in the forward pass."""
        for step, (a, b) in zip(self._steps, pairwise(self._ends), strict=True):
            step.put_parameters(addresses[a:b])
        self._parameters = addresses

    def forward(self, x: Tensor, states: Sequence[Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What the backward pass reads, the output in a shape, and the states after the step."""
        memory = x.new_empty(self._numbers)
        begin, address = memory.data_ptr(), x.data_ptr()
        before, after = [state.data_ptr() for state in states], [begin + offset for offset in self._after]
        for step, offsets, kept in zip(self._steps, self._offsets, self._kept, strict=True):
            step(address, before, after, offsets, begin + kept)
            address = after[0] + offsets[0]
        # Copies, for what is returned may be written to before the backward pass.
        output, finals = x.new_empty(shape), [torch.empty_like(state) for state in states]
        memmove(output.data_ptr(), address, self._output)
        for final, where in zip(finals, after, strict=True):
            memmove(final.data_ptr(), where, final.nbytes)
        return memory, output, finals

    def backward(
        self,
        memory: Tensor,
        x: Tensor,
        states: Sequence[Tensor],
        parameters: Sequence[Tensor],
        dy: Tensor | None,
        d_finals: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of x, the states before the step and the parameters: of those that are needed.

        Args:
            memory: of `forward`.
            x: as in `forward`.
            states: as in `forward`.
            parameters: of all layers.
            dy: the cotangent of the output.
            d_finals: those of the states after the step.
            needed: of which the gradient is wanted, of x, each state and each parameter.
        """
        try:
            back = self._free.pop()  # nobody else has it now; who comes meanwhile makes their own
        except IndexError:
            back = self._prepared(x)
        count = len(states)
        wanted = self._wanted.get(needed) or self._wanted.setdefault(needed, self._wanted_of(needed, count))
        d_x = torch.empty_like(x) if wanted.x else None
        d_states = [torch.empty_like(state) for state in states] if wanted.states else []
        d_parameters: list[Tensor | None] = []
        begin = memory.data_ptr()
        before, after = [state.data_ptr() for state in states], [begin + offset for offset in self._after]
        cotangents = [None if d is None else _rows(d).contiguous() for d in d_finals]
        d_after = [None if d is None else d.data_ptr() for d in cotangents]
        d_before = [d.data_ptr() for d in d_states] if wanted.states else None
        addresses = list(map(Tensor.data_ptr, parameters))
        dy = None if dy is None else _rows(dy).contiguous()
        d_output = None if dy is None else dy.data_ptr()
        for k in range(len(back.steps) - 1, wanted.lowest - 1, -1):
            step, a, b = back.steps[k], self._ends[k], self._ends[k + 1]
            d_input = d_x if k == 0 else back.between[k - 1] if k > wanted.lowest else None
            own = parameters[a:b]
            sums = [x.new_empty(shape) for shape in step.gradients.shapes] if wanted.parameters[k] else []
            step.put_parameters(addresses[a:b])
            below = after[0] + self._offsets[k - 1][0] if k else x.data_ptr()
            d_address = None if d_input is None else d_input.data_ptr()
            step(
                below, before, after, self._offsets[k], begin + self._kept[k], d_output, d_after, d_before, d_address,
                sums,
            )  # fmt: skip
            d_own: list[Tensor | None] = step.gradients(own, sums) if sums else [None for _ in own]
            d_parameters = d_own + d_parameters
            d_output = d_address
        self._free.append(back)
        none: list[Tensor | None] = [None for _ in needed]
        found = [d_x, *(d_states or none[:count]), *none[len(d_parameters) : len(parameters)], *d_parameters]
        return [gradient if need else None for gradient, need in zip(found, needed, strict=True)]

    def _wanted_of(self, needed: Sequence[bool], count: int) -> "_Wanted":
        of_x, of_states, of = needed[0], any(needed[1 : 1 + count]), needed[1 + count :]
        parameters = [any(of[a:b]) for a, b in pairwise(self._ends)]
        return _Wanted(of_x, of_states, parameters, 0 if of_x or of_states else parameters.index(True))

    def _prepared(self, like: Tensor) -> BackwardCall:
        steps = [BackwardStep(native, like, self._B) for native in self._natives]
        return BackwardCall(steps, [like.new_empty(self._B, step.D) for step in steps[1:]])

    def usable(self, parameters: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
        """The parameters as they lie now, in one piece each.

        Raises:
            RuntimeError: for those of other shapes or another dtype, into which `model.to` has converted them in place
                since the forward pass.
        """
        where = list(map(Tensor.data_ptr, parameters))
        if where == self._parameters and parameters[0].dtype is dtype and all(map(Tensor.is_contiguous, parameters)):
            return parameters
        for parameter, shape in zip(parameters, self._shapes, strict=True):
            if parameter.dtype is not dtype or parameter.shape != shape:
                expected, came = (
                    f"{of[0]} of shape {tuple(of[1])}" for of in ((dtype, shape), (parameter.dtype, parameter.shape))
                )
                raise RuntimeError(
                    f"backward: expected a parameter {expected}, as in the forward pass, got {came}; convert a model "
                    "before its forward pass or after its backward pass"
                )
        return [parameter.contiguous() for parameter in parameters]

    def general(
        self, pieces: Sequence[CallLabel], x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Any, later: bool,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """The output and the states, as a sequence of one step has them: its backward pass is the one of sequences.

        `later`: as of `Seen`.
        """
        rows, finals = x.unsqueeze(0), []
        for k, (key, piece) in enumerate(zip(self._keys, pieces, strict=True)):
            own = parameters[self._ends[k] : self._ends[k + 1]]
            with labeled(piece):
                rows, last = apply(key, PlanInputs(rows, [state[k] for state in states], own))
            finals.append(last)
            context: Any = rows.grad_fn  # of the call's backward pass, if it has one
            if context is not None:
                context.later = later
        return rows.view(shape), [torch.stack(of) for of in zip(*finals, strict=True)]


_Call = tuple[StackedStep, Callable[[Tensor], Sequence[CallLabel]], Sequence[int], int]  # the last: how many states


class _StackedStepFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        stacked, _, shape, count = call
        memory, output, finals = stacked.forward(x, rest[:count], shape)
        ctx.save_for_backward(memory, x, *rest)
        ctx.call, ctx.later = call, False
        ctx.set_materialize_grads(False)
        return (output, *finals)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, (stacked, _, _, count), needed = ctx.saved_tensors, ctx.call, ctx.needs_input_grad[1:]
        memory, x, *rest = saved
        plain = PLAIN.issuperset(map(type, (*saved, *cotangents)))
        if plain:
            rest[count:] = stacked.usable(rest[count:], x.dtype)
        if not plain or torch.is_grad_enabled() or is_observed() or in_dispatch_mode() or is_batched(cotangents):
            found = _generally(ctx, x, rest, cotangents, needed)
        else:
            memory, x, *states = map(Tensor.contiguous, (memory, x, *rest[:count]))
            found = stacked.backward(memory, x, states, rest[count:], cotangents[0], cotangents[1:], needed)
        return (None, *found)


_apply: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, _StackedStepFunction).apply


def _generally(
    ctx: Any, x: Tensor, rest: Sequence[Tensor], cotangents: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients as the engine makes them of sequences: seen by who looks, of many cotangents, differentiable.

    The step is computed again for it.
    """
    ctx.later = ctx.later or torch.is_grad_enabled()
    with _untransformed(), torch.enable_grad(), uncast():
        # Of these alone, and not of what they were made of: a state may come from a call with the same parameters.
        x, *rest = inputs = [tensor.view_as(tensor) for tensor in (x, *rest)]
        stacked, pieces, shape, count = ctx.call
        output, finals = stacked.general(pieces(x.unsqueeze(0)), x, rest[:count], rest[count:], shape, ctx.later)
    pairs = [(of, d) for of, d in zip((output, *finals), cotangents, strict=True) if d is not None]
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [of for of, _ in pairs], wanted, [d for _, d in pairs], create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
    )  # fmt: skip
    return [next(found) if need else None for need in needed]


def _untransformed() -> Any:
    """A context without the transforms of torch.func that are at work."""
    return without_transforms()


def _rows(cotangent: Tensor) -> Tensor:
    """A cotangent whose memory has its numbers."""
    return cotangent.resolve_neg() if cotangent.is_neg() else cotangent


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE


def can_stack(key: str, dtype: torch.dtype, B: int) -> bool:
    """Whether a plan's step of B rows can be one of a `StackedStep`: every gradient is there, and it is alone."""
    native = compiled_plan(key, dtype)
    plan = native.plan
    every = all(gradient is not None for gradient in (plan.dx, *plan.d_states, *plan.d_parameters))
    return B > 0 and every and can_step(native, B, LOOPS)


def stacked_step(
    stacked: StackedStep, pieces: Callable[[Tensor], Sequence[CallLabel]], x: Tensor, states: Sequence[Tensor],
    parameters: Sequence[Tensor], shape: Sequence[int],
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """The output, in a shape, and the states (L, B, H) after a step, with their gradient.

    Args:
        stacked: the plans.
        pieces: what is said of the calls of the engine, one for each layer, whose input is (1, B, D).
        x: (B, D).
        states: (L, B, H).
        parameters: of all layers.
        shape: of the output, B and H and axes of size 1.
    """
    # The method of C alone: what Function.apply does before it is for torch.func, which takes the general way.
    output, *finals = _apply((stacked, pieces, shape, len(states)), x, *states, *parameters)
    return output, finals
