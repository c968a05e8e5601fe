"""Prepared steps of a stack: for streams, preparing a sequence of length one takes longer than the step."""

from collections.abc import Callable, Sequence
from ctypes import memmove
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.cpu.compiled_plan import CompiledPlan, PlanInputs
from elman.engine.cpu.entry import plan_key
from elman.engine.cpu.invocation import LINE
from elman.engine.cpu.kernel_cache import compiled_plan
from elman.engine.cpu.single_step import BackwardStep, ForwardStep, can_step
from elman.engine.cpu.torch_ops import apply
from elman.engine.executor import Labels, PreparedStep
from elman.engine.inputs import CellSpec
from elman.engine.observe.events import is_batched, is_observed, labeled
from elman.engine.outputs import as_tuple
from elman.engine.precision import uncast
from elman.engine.replay import gradients_of_replay
from elman.engine.torch_private import in_dispatch_mode, without_transforms

PLAIN = {Tensor, nn.Parameter, type(None)}


def prepare_step(specs: Sequence[CellSpec], x: Tensor, gradients: bool) -> PreparedStep | None:
    """Prepare a step of stacked cells for as many rows as x (B, D) has; None if calls need more than addresses."""
    keys = [key for key in (plan_key(spec, x) for spec in specs) if key is not None]
    if len(keys) < len(specs):
        return None
    plans = [compiled_plan(key, x.dtype) for key in keys]
    if gradients:
        if all(_can_step_back(plan, len(x)) for plan in plans):
            return DifferentiableStep(specs, x, keys, plans)
    elif all(can_step(plan, len(x)) for plan in plans):
        return InferenceStep(specs, x, plans)
    return None


def _can_step_back(native: CompiledPlan, B: int) -> bool:
    plan = native.plan
    has_all_gradients = all(gradient is not None for gradient in (plan.dx, *plan.d_states, *plan.d_parameters))
    return B > 0 and has_all_gradients and can_step(native, B, ("forward", "backward"))


class _Prepared:
    """Checks tensors before a call, and sets the addresses of parameters that have moved.

    Args:
        specs: the cells, from the lowest layer up.
        x: (B, D), of the rows that the step is prepared for.
    """

    _steps: Sequence[ForwardStep]  # of each layer

    def __init__(self, specs: Sequence[CellSpec], x: Tensor) -> None:
        widths = as_tuple(specs[0].state_size)
        shapes = [(len(x), specs[0].input_size), *((len(specs), len(x), width) for width in widths)]
        self._shapes, self._dtype = [torch.Size(shape) for shape in shapes], x.dtype
        self._parameter_shapes = [parameter.shape for spec in specs for parameter in spec.parameters.values()]
        self._ends = [0, *accumulate(len(spec.parameters) for spec in specs)]  # of the parameters of each layer
        self._addresses: list[int] = []
        self._state_bytes = [len(x) * width * x.element_size() for width in widths]  # of each state of a layer
        #: the offset of each state of each layer, in tensors (L, B, H)
        self._layer_offsets = [[k * size for size in self._state_bytes] for k in range(len(specs))]

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Return True if the step can run with these tensors; stores the addresses of the parameters."""
        tensors = x, *states
        if len(tensors) != len(self._shapes) or not self._match(tensors, self._shapes):
            return False
        if not all(map(Tensor.is_contiguous, parameters)) or parameters[0].dtype is not self._dtype:
            return False
        addresses = list(map(Tensor.data_ptr, parameters))
        if addresses != self._addresses:  # shapes are those of then: to compare them, too, takes 8 % of a small step
            if not self._match(parameters, self._parameter_shapes):
                return False
            for step, (a, b) in zip(self._steps, pairwise(self._ends), strict=True):
                step.set_addresses(addresses[a:b])
            self._addresses = addresses
        return True

    def _match(self, tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> bool:
        dtype = self._dtype
        for tensor, shape in zip(tensors, shapes, strict=True):
            if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu or tensor.is_neg():
                return False
        return True


class InferenceStep(_Prepared):
    """A step without gradients.

    Args:
        specs: the cells, from the lowest layer up.
        x: (B, D), of the rows that the step is prepared for.
        plans: of the cells.
    """

    def __init__(self, specs: Sequence[CellSpec], x: Tensor, plans: Sequence[CompiledPlan]) -> None:
        super().__init__(specs, x)
        self._steps = [ForwardStep(plan, x, len(x)) for plan in plans]

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the step; see `PreparedStep`."""
        new = [torch.empty_like(state) for state in states]
        address, before, after = x.data_ptr(), [s.data_ptr() for s in states], [s.data_ptr() for s in new]
        for step, offsets in zip(self._steps, self._layer_offsets, strict=True):
            step(address, before, after, offsets)
            address = after[0] + offsets[0]
        output = x.new_empty(shape)
        memmove(output.data_ptr(), address, self._state_bytes[0])  # a copy by torch takes ten times as long
        return output, new


class _BackwardBuffers(NamedTuple):
    """The prepared steps of a backward pass, for one pass at a time.

    Attributes:
        steps: of each layer.
        between: the gradients of the outputs of each layer but the last.
    """

    steps: list[BackwardStep]
    between: list[Tensor]


class _Wanted(NamedTuple):
    """Which gradients a backward pass computes.

    Attributes:
        x: that of x.
        states: those of the states.
        parameters: of each layer, those of its parameters.
        lowest: the lowest layer that has to run.
    """

    x: bool
    states: bool
    parameters: list[bool]
    lowest: int


class DifferentiableStep(_Prepared):
    """A step with gradients.

    Args:
        specs: the cells, from the lowest layer up.
        x: (B, D), of the rows that the step is prepared for.
        keys: of the plans of the cells.
        plans: of the cells.
    """

    def __init__(
        self, specs: Sequence[CellSpec], x: Tensor, keys: Sequence[str], plans: Sequence[CompiledPlan]
    ) -> None:
        super().__init__(specs, x)
        self._keys, self._plans, self._B, size = keys, plans, len(x), x.element_size()
        self._steps = [ForwardStep(plan, x, len(x), save=True) for plan in plans]
        # One block of memory holds each state of all layers, then what each layer saves.
        self._state_offsets, self._saved_offsets, total = [], [], 0
        for state_size in self._state_bytes:
            self._state_offsets.append(total)
            total += _aligned(state_size * len(keys))
        for native in plans:
            self._saved_offsets.append(total)
            total += _aligned(self._B * native.plan.saved_width * size)
        self._numel = total // size
        self._free: list[_BackwardBuffers] = []
        self._wanted: dict[Sequence[bool], _Wanted] = {}

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the step; see `PreparedStep`."""
        assert labels is not None
        output, *finals = _apply(_Call(self, labels, shape, len(states)), x, *states, *parameters)
        return output, finals

    def forward(self, x: Tensor, states: Sequence[Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the step; returns the memory that `backward` reads, the output in a shape, and the new states."""
        memory = x.new_empty(self._numel)
        begin, address = memory.data_ptr(), x.data_ptr()
        before, after = [state.data_ptr() for state in states], [begin + offset for offset in self._state_offsets]
        for step, offsets, saved in zip(self._steps, self._layer_offsets, self._saved_offsets, strict=True):
            step(address, before, after, offsets, begin + saved)
            address = after[0] + offsets[0]
        # Copies: the caller may write to what is returned before the backward pass.
        output, finals = x.new_empty(shape), [torch.empty_like(state) for state in states]
        memmove(output.data_ptr(), address, self._state_bytes[0])
        for final, source in zip(finals, after, strict=True):
            memmove(final.data_ptr(), source, final.nbytes)
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
        """Compute the gradients of x, the states before the step and the parameters.

        Args:
            memory: of `forward`.
            x: as in `forward`.
            states: as in `forward`.
            parameters: of all layers.
            dy: the cotangent of the output.
            d_finals: those of the states after the step.
            needed: whether the gradient of x, of each state and of each parameter is wanted.

        Returns:
            A gradient for each; None where it is not needed.
        """
        try:
            buffers = self._free.pop()  # taken: a backward pass in another thread makes its own
        except IndexError:
            buffers = self._make_buffers(x)
        count = len(states)
        wanted = self._wanted.get(needed) or self._wanted.setdefault(needed, self._find_wanted(needed, count))
        d_x = torch.empty_like(x) if wanted.x else None
        d_states = [torch.empty_like(state) for state in states] if wanted.states else []
        d_parameters: list[Tensor | None] = []
        begin = memory.data_ptr()
        before, after = [state.data_ptr() for state in states], [begin + offset for offset in self._state_offsets]
        cotangents = [None if d is None else _resolved(d).contiguous() for d in d_finals]
        d_after = [None if d is None else d.data_ptr() for d in cotangents]
        d_before = [d.data_ptr() for d in d_states] if wanted.states else None
        addresses = list(map(Tensor.data_ptr, parameters))
        dy = None if dy is None else _resolved(dy).contiguous()
        d_output = None if dy is None else dy.data_ptr()
        for k in range(len(buffers.steps) - 1, wanted.lowest - 1, -1):
            step, a, b = buffers.steps[k], self._ends[k], self._ends[k + 1]
            d_input = d_x if k == 0 else buffers.between[k - 1] if k > wanted.lowest else None
            sums = [x.new_empty(shape) for shape in step.gradients.shapes] if wanted.parameters[k] else []
            step.set_addresses(addresses[a:b])
            input_address = after[0] + self._layer_offsets[k - 1][0] if k else x.data_ptr()
            d_input_address = None if d_input is None else d_input.data_ptr()
            step(
                input_address, before, after, self._layer_offsets[k], begin + self._saved_offsets[k], d_output, d_after,
                d_before, d_input_address, sums,
            )  # fmt: skip
            none: list[Tensor | None] = [None] * (b - a)
            d_parameters = (step.gradients(parameters[a:b], sums) if sums else none) + d_parameters
            d_output = d_input_address
        self._free.append(buffers)
        none = [None] * len(needed)
        gradients = [d_x, *(d_states or none[:count]), *none[len(d_parameters) : len(parameters)], *d_parameters]
        return [gradient if is_needed else None for gradient, is_needed in zip(gradients, needed, strict=True)]

    def _find_wanted(self, needed: Sequence[bool], count: int) -> _Wanted:
        wants_x, wants_states, needed = needed[0], any(needed[1 : 1 + count]), needed[1 + count :]
        parameters = [any(needed[a:b]) for a, b in pairwise(self._ends)]
        return _Wanted(wants_x, wants_states, parameters, 0 if wants_x or wants_states else parameters.index(True))

    def _make_buffers(self, like: Tensor) -> _BackwardBuffers:
        steps = [BackwardStep(plan, like, self._B) for plan in self._plans]
        return _BackwardBuffers(steps, [like.new_empty(self._B, step.D) for step in steps[1:]])

    def contiguous_parameters(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the parameters as contiguous tensors.

        Raises:
            RuntimeError: for another shape or dtype than in the forward pass: `model.to` converts parameters in place.
        """
        dtype, addresses = self._dtype, list(map(Tensor.data_ptr, parameters))
        contiguous = all(map(Tensor.is_contiguous, parameters))
        if addresses == self._addresses and parameters[0].dtype is dtype and contiguous:
            return parameters
        for parameter, shape in zip(parameters, self._parameter_shapes, strict=True):
            if parameter.dtype is not dtype or parameter.shape != shape:
                raise RuntimeError(
                    f"backward: expected a parameter {dtype} of shape {tuple(shape)}, as in the forward pass, got "
                    f"{parameter.dtype} of shape {tuple(parameter.shape)}; convert a model before its forward pass or "
                    "after its backward pass"
                )
        return [parameter.contiguous() for parameter in parameters]

    def run_as_sequence(
        self, labels: Labels, tensors: Sequence[Tensor], count: int, shape: Any, later: bool
    ) -> list[Tensor]:
        """Run the step as a sequence of length one, whose backward pass can be observed, batched and differentiated.

        Args:
            labels: of the calls of the engine.
            tensors: x, the states and the parameters.
            count: the number of states.
            shape: of the output.
            later: as in `BackwardEvent`.

        Returns:
            The output and the states.
        """
        x, states, parameters = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
        rows, finals = x.unsqueeze(0), []
        for k, (key, label) in enumerate(zip(self._keys, labels(rows), strict=True)):
            layer_parameters = parameters[self._ends[k] : self._ends[k + 1]]
            with labeled(label):
                rows, layer_finals = apply(key, PlanInputs(rows, [state[k] for state in states], layer_parameters))
            finals.append(layer_finals)
            context: Any = rows.grad_fn  # the autograd function of the call, if it has one
            if context is not None:
                context.later = later
        return [rows.view(shape), *(torch.stack(layers) for layers in zip(*finals, strict=True))]


class _Call(NamedTuple):
    """The arguments of a differentiable step other than tensors."""

    step: DifferentiableStep
    labels: Labels
    shape: Sequence[int]
    num_states: int


class _StepFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory, output, finals = call.step.forward(x, rest[: call.num_states], call.shape)
        ctx.save_for_backward(memory, x, *rest)
        ctx.call, ctx.later = call, False
        ctx.set_materialize_grads(False)
        return (output, *finals)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, (step, labels, shape, count), needed = ctx.saved_tensors, ctx.call, ctx.needs_input_grad[1:]
        memory, x, *rest = saved
        is_plain = PLAIN.issuperset(map(type, (*saved, *cotangents)))
        if is_plain:
            rest[count:] = step.contiguous_parameters(rest[count:])
        if is_plain and not (torch.is_grad_enabled() or is_observed() or in_dispatch_mode() or is_batched(cotangents)):
            memory, x, *states = map(Tensor.contiguous, (memory, x, *rest[:count]))
            gradients = step.backward(memory, x, states, rest[count:], cotangents[0], cotangents[1:], needed)
            return (None, *gradients)
        create_graph = torch.is_grad_enabled()
        later = ctx.later = ctx.later or create_graph

        def replay(tensors: Sequence[Tensor]) -> list[Tensor]:
            with without_transforms(), uncast():
                return step.run_as_sequence(labels, tensors, count, shape, later)  # type: ignore[no-any-return]

        return (None, *gradients_of_replay(replay, (x, *rest), cotangents, needed, create_graph))


# Skips the torch.func handling of Function.apply: under torch.func, a step runs as a sequence.
_apply: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, _StepFunction).apply


def _resolved(cotangent: Tensor) -> Tensor:
    return cotangent.resolve_neg() if cotangent.is_neg() else cotangent


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE
