"""Prepared calls of stacked cells: for a few rows, preparing a call takes longer than running it."""

from collections.abc import Callable, Sequence
from ctypes import memmove
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.compiled.entry import plan_key
from elman.engine.compiled.records import PlanInputs
from elman.engine.compiled.torch_ops import apply
from elman.engine.cpu import openmp
from elman.engine.cpu.backend import NATIVE, ROUNDING, NativeBackend, compiled_for
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.half_plan import HalfCall
from elman.engine.cpu.invocation import LINE, with_contiguous_columns
from elman.engine.cpu.prepared_loop import BackwardLoop, ForwardLoop, OutputCotangent, can_prepare, max_steps
from elman.engine.executor import Labels, PreparedCall
from elman.engine.inputs import CellSpec
from elman.engine.observe.events import is_batched, is_observed, labeled
from elman.engine.outputs import as_tuple
from elman.engine.precision import uncast
from elman.engine.replay import gradients_of_replay
from elman.engine.torch_private import in_dispatch_mode, without_transforms

PLAIN = {Tensor, nn.Parameter, type(None)}


def prepare(
    specs: Sequence[CellSpec], x: Tensor, lead: tuple[int, ...], gradients: bool, directions: int
) -> PreparedCall | None:
    """Prepare calls of stacked cells for sequences with the rows of x, or for one step if x has one."""
    if x.dtype == torch.bfloat16:
        if len(specs) > 1:
            return None  # what passes between layers, and what directions add up, is bfloat16, too
        wide = [spec._replace(parameters={k: v.float() for k, v in spec.parameters.items()}) for spec in specs]
        prepared = _prepare(wide, x.float(), lead, gradients, directions, ROUNDING)
        return prepared and HalfCall(prepared, x.dtype)
    return _prepare(specs, x, lead, gradients, directions, NATIVE)


def _prepare(
    specs: Sequence[CellSpec],
    x: Tensor,
    lead: tuple[int, ...],
    gradients: bool,
    directions: int,
    backend: NativeBackend,
) -> PreparedCall | None:
    keys = [key for key in (plan_key(spec, x, backend) for spec in specs) if key is not None]
    if len(keys) < len(specs):
        return None
    plans, steps, B = [compiled_for(key, x.dtype) for key in keys], max_steps(_steps(x), x.shape[-2]), x.shape[-2]
    loops = ("forward", "backward") if gradients else ("inference",)
    if not all(can_prepare(plan, steps, B, loops) for plan in plans):
        return None
    if not gradients:
        return InferenceCall(specs, x, lead, steps, plans, directions)
    if not all(map(_has_all_gradients, plans)):
        return None
    return DifferentiableCall(specs, x, lead, steps, keys, plans, directions)


def _has_all_gradients(native: CompiledPlan) -> bool:
    plan = native.plan
    return all(gradient is not None for gradient in (plan.dx, *plan.d_states, *plan.d_parameters))


def _steps(x: Tensor) -> int:
    """The number of steps of an input (T, B, D), or (B, D) for one."""
    return 1 if x.dim() == 2 else x.shape[0]


class _Prepared:
    """Checks tensors before a call, sets the addresses of parameters that have moved, and copies between directions.

    Cells are numbered as in `Executor.prepare`. Loops run forward; a reverse one reads a reversed copy of the input.

    Args:
        specs: as in `Executor.prepare`.
        x: an example of the input, (T, B, D) or (B, D).
        lead: as in `Executor.prepare`.
        steps: the largest number of steps.
        plans: of the cells.
        directions: as in `Executor.prepare`.
    """

    _loops: Sequence[ForwardLoop]  # of each cell

    def __init__(
        self,
        specs: Sequence[CellSpec],
        x: Tensor,
        lead: tuple[int, ...],
        steps: int,
        plans: Sequence[CompiledPlan],
        directions: int,
    ) -> None:
        widths, size, B = as_tuple(specs[0].state_size), x.element_size(), x.shape[-2]
        self._max_steps, self._B, self._dtype = steps, B, x.dtype
        self._row_shape = torch.Size((B, specs[0].input_size))
        self._state_shapes = [torch.Size((*lead, B, width)) for width in widths]
        self._parameter_shapes = [parameter.shape for spec in specs for parameter in spec.parameters.values()]
        self._ends = [0, *accumulate(len(spec.parameters) for spec in specs)]  # of the parameters of each cell
        self._addresses: list[int] = []
        self._threads = openmp.threads()
        self._state_bytes = [B * width * size for width in widths]  # of each state of a cell
        self._plans, self._directions, self._last = plans, directions, len(specs) // directions - 1
        self._cells = range(directions)  # of a layer, counted from its first
        self._size, self._width, self._copy = size, widths[0], plans[0].copy_steps
        self._max_input = max(spec.input_size for spec in specs)

    def fits(self, parameters: Sequence[Tensor], x: Tensor, states: Sequence[Tensor]) -> bool:
        """Return True if the call can run with these tensors; stores the addresses of the parameters."""
        if self._threads != openmp.threads():
            return False
        if x.shape[-2:] != self._row_shape or _steps(x) > self._max_steps or len(states) != len(self._state_shapes):
            return False
        if not self._match((x,), (x.shape,)) or not self._match(states, self._state_shapes):
            return False
        if not all(map(Tensor.is_contiguous, parameters)) or (parameters and parameters[0].dtype is not self._dtype):
            return False
        addresses = list(map(Tensor.data_ptr, parameters))
        if addresses != self._addresses:  # shapes are those of then: to compare them, too, takes 8 % of a small step
            if not self._match(parameters, self._parameter_shapes):
                return False
            for loop, (a, b) in zip(self._loops, pairwise(self._ends), strict=True):
                loop.set_addresses(addresses[a:b])
            self._addresses = addresses
        return True

    def _match(self, tensors: Sequence[Tensor], shapes: Sequence[torch.Size]) -> bool:
        dtype = self._dtype
        for tensor, shape in zip(tensors, shapes, strict=True):
            if tensor.shape != shape or tensor.dtype is not dtype or not tensor.is_cpu or tensor.is_neg():
                return False
        return True

    def _at_cell(self, states: Sequence[Tensor], i: int) -> list[int]:
        """The address of cell i in each of the states."""
        return [state.data_ptr() + i * size for state, size in zip(states, self._state_bytes, strict=True)]

    def _reverse(self, source: int, target: int, T: int, width: int, add: bool = False) -> int:
        """Copy steps (T, B, width) in reverse order, or add them to others; returns the target."""
        step = self._B * width
        last = source + (T - 1) * step * self._size
        self._copy(last, -step, width, target, step, width, T, self._B, width, int(add))
        return target

    def _place(self, sequence: int, target: int, T: int, direction: int) -> None:
        """Copy the states of a direction to its columns of the outputs (T, B, directions * H), in the input's order."""
        B, H, row, size = self._B, self._width, self._width * self._directions, self._size
        step = -B * H if direction else B * H
        first = sequence + (T - 1) * B * H * size * direction
        self._copy(first, step, H, target + direction * H * size, B * row, row, T, B, H, 0)


class InferenceCall(_Prepared):
    """A call without gradients; the arguments are those of `_Prepared`."""

    def __init__(
        self,
        specs: Sequence[CellSpec],
        x: Tensor,
        lead: tuple[int, ...],
        steps: int,
        plans: Sequence[CompiledPlan],
        directions: int,
    ) -> None:
        super().__init__(specs, x, lead, steps, plans, directions)
        self._loops = [ForwardLoop(plan, x, steps, self._B) for plan in plans]
        # The outputs of the layers but the last, which two layers use in turn.
        between = min(self._last, 2)
        self._between = [x.new_empty(steps * self._B * self._width * directions) for _ in range(between)]

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the call; see `PreparedCall`."""
        finals, outputs = [torch.empty_like(state) for state in states], x.new_empty(shape)
        source, T, loops, directions = x.data_ptr(), _steps(x), self._loops, self._directions
        if directions > 1:
            scratch = x.new_empty(T * self._B * (self._max_input + self._width))
            sequence = scratch.data_ptr()
            reversed_input = sequence + T * self._state_bytes[0]
        for k in range(self._last + 1):
            target = (outputs if k == self._last else self._between[k % 2]).data_ptr()
            for direction in self._cells:
                i = k * directions + direction
                loop = loops[i]
                if loop.T != T:
                    loop.set_steps(T)
                x_address = self._reverse(source, reversed_input, T, loop.D) if direction else source
                states_address = target if directions == 1 else sequence
                loop(x_address, self._at_cell(states, i), (states_address,), self._at_cell(finals, i))
                if directions > 1:
                    self._place(sequence, target, T, direction)
            source = target
        return outputs, finals


class _BackwardBuffers(NamedTuple):
    """The prepared loops of a backward pass, for one pass at a time.

    Attributes:
        loops: of each cell.
        between: the gradients of the outputs of each layer but the last.
    """

    loops: list[BackwardLoop]
    between: list[Tensor]


class _Wanted(NamedTuple):
    """Which gradients a backward pass computes.

    Attributes:
        x: that of x.
        states: those of the states.
        parameters: of each cell, those of its parameters.
        lowest: the lowest layer that has to run.
    """

    x: bool
    states: bool
    parameters: list[bool]
    lowest: int


class _SavedOffsets(NamedTuple):
    """Offsets, in bytes, of the values saved for backward.

    Attributes:
        histories: of each state of each cell, the initial one and those after every step.
        values: of each cell, of the other values.
        inputs: of each cell, of its input; None where that is x.
        numel: the number of elements of all.
    """

    histories: list[list[int]]
    values: list[int]
    inputs: list[int | None]
    numel: int


class DifferentiableCall(_Prepared):
    """A call with gradients; the arguments are those of `_Prepared`, and the keys of the plans."""

    def __init__(
        self,
        specs: Sequence[CellSpec],
        x: Tensor,
        lead: tuple[int, ...],
        steps: int,
        keys: Sequence[str],
        plans: Sequence[CompiledPlan],
        directions: int,
    ) -> None:
        super().__init__(specs, x, lead, steps, plans, directions)
        self._keys = keys
        self._loops = [ForwardLoop(plan, x, steps, self._B, save=True) for plan in plans]
        self._offsets: dict[int, _SavedOffsets] = {}  # by the number of steps
        self._free: list[_BackwardBuffers] = []
        self._wanted: dict[Sequence[bool], _Wanted] = {}

    def _offsets_for(self, T: int) -> _SavedOffsets:
        """Lay out the memory that T steps save, in one block for all cells."""
        all_histories, values, inputs, total = list[list[int]](), list[int](), list[int | None](), 0
        for i, (loop, native) in enumerate(zip(self._loops, self._plans, strict=True)):
            k, direction = divmod(i, self._directions)
            if direction or (k and self._directions > 1):
                inputs.append(total)
                total += _aligned(T * self._B * loop.D * self._size)
            else:
                inputs.append(all_histories[k - 1][0] + self._state_bytes[0] if k else None)
            histories = []
            for s, state_bytes in enumerate(self._state_bytes):
                histories.append(total)
                total += _aligned((T + 1) * state_bytes) if s in loop.saved_states else 0
            all_histories.append(histories)
            values.append(total)
            total += _aligned(T * self._B * native.plan.saved_width * self._size)
        return _SavedOffsets(all_histories, values, inputs, total // self._size)

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int],
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the call; see `PreparedCall`."""
        assert labels is not None
        outputs, *finals = _apply(_Call(self, labels, shape, len(states)), x, *states, *parameters)
        return outputs, finals

    def forward(self, x: Tensor, states: Sequence[Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the call; returns the memory that `backward` reads, the outputs in a shape, and the final states."""
        T, sizes = _steps(x), self._state_bytes
        offsets = self._offsets.get(T) or self._offsets.setdefault(T, self._offsets_for(T))
        # Of what is returned, `memory` has copies: the caller may write to it before the backward pass.
        memory, outputs, finals = x.new_empty(offsets.numel), x.new_empty(shape), [torch.empty_like(s) for s in states]
        begin, directions, inputs = memory.data_ptr(), self._directions, self._input_addresses(x, memory, offsets)
        for i, loop in enumerate(self._loops):
            if loop.T != T:
                loop.set_steps(T)
            k, direction = divmod(i, directions)
            if direction:
                self._reverse(inputs[i - 1], inputs[i], T, loop.D)
            before, histories = self._at_cell(states, i), [begin + offset for offset in offsets.histories[i]]
            for s in loop.saved_states:
                memmove(histories[s], before[s], sizes[s])
            sequences = [history + size for history, size in zip(histories, sizes, strict=True)]
            loop(inputs[i], before, sequences, self._at_cell(finals, i), begin + offsets.values[i])
            if k == self._last:
                self._place(sequences[0], outputs.data_ptr(), T, direction)
            elif directions > 1:
                self._place(sequences[0], inputs[(k + 1) * directions], T, direction)
        return memory, outputs, finals

    def _input_addresses(self, x: Tensor, memory: Tensor, offsets: _SavedOffsets) -> list[int]:
        """The address of the input of each cell."""
        begin = memory.data_ptr()
        return [x.data_ptr() if offset is None else begin + offset for offset in offsets.inputs]

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
        """Compute the gradients of x, the initial states and the parameters.

        Args:
            memory: of `forward`.
            x: as in `forward`.
            states: as in `forward`.
            parameters: of all layers.
            dy: the cotangent of the outputs.
            d_finals: those of the final states.
            needed: whether the gradient of x, of each state and of each parameter is wanted.

        Returns:
            A gradient for each; None where it is not needed.
        """
        try:
            buffers = self._free.pop()  # taken: a backward pass in another thread makes its own
        except IndexError:
            buffers = self._make_buffers(x)
        count, sizes, T = len(states), self._state_bytes, _steps(x)
        offsets = self._offsets[T]
        wanted = self._wanted.get(needed) or self._wanted.setdefault(needed, self._find_wanted(needed, count))
        d_x = torch.empty_like(x) if wanted.x else None
        d_states = [torch.empty_like(state) for state in states] if wanted.states else []
        d_parameters: list[Tensor | None] = []
        begin, directions, inputs = memory.data_ptr(), self._directions, self._input_addresses(x, memory, offsets)
        cotangents = [None if d is None else _resolved(d).contiguous() for d in d_finals]
        addresses = list(map(Tensor.data_ptr, parameters))
        dy = None if dy is None else with_contiguous_columns(_resolved(dy))
        d_output = None if dy is None else _output_cotangent(dy, T)
        row = self._width * directions
        for i in range(len(self._loops) - 1, wanted.lowest * directions - 1, -1):
            (k, direction), loop, a, b = divmod(i, directions), buffers.loops[i], self._ends[i], self._ends[i + 1]
            if loop.T != T:
                loop.set_steps(T)
            d_input = d_x if k == 0 else buffers.between[k - 1] if k > wanted.lowest else None
            if direction and d_input is not None:
                reversed_dx = x.new_empty(T * self._B * loop.D)
            sums = [x.new_empty(shape) for shape in loop.gradients.shapes] if wanted.parameters[i] else []
            loop.set_addresses(addresses[a:b])
            d_source = None if d_input is None else (reversed_dx if direction else d_input).data_ptr()
            d_after = [None if d is None else d.data_ptr() + i * n for d, n in zip(cotangents, sizes, strict=True)]
            d_before = self._at_cell(d_states, i) if wanted.states else None
            histories = [begin + offset for offset in offsets.histories[i]]
            dy_of_cell = d_output and self._of_direction(d_output, direction, T)
            loop(inputs[i], histories, begin + offsets.values[i], dy_of_cell, d_after, d_before, d_source, sums)
            none: list[Tensor | None] = [None] * (b - a)
            d_parameters = (loop.gradients(parameters[a:b], sums) if sums else none) + d_parameters
            if direction == 0:
                if directions > 1 and d_source is not None:
                    self._reverse(reversed_dx.data_ptr(), d_source, T, loop.D, add=True)
                d_output = None if d_source is None else OutputCotangent(d_source, self._B * row, row)
        self._free.append(buffers)
        none = [None] * len(needed)
        gradients = [d_x, *(d_states or none[:count]), *none[len(d_parameters) : len(parameters)], *d_parameters]
        return [gradient if is_needed else None for gradient, is_needed in zip(gradients, needed, strict=True)]

    def _find_wanted(self, needed: Sequence[bool], count: int) -> _Wanted:
        wants_x, wants_states, needed = needed[0], any(needed[1 : 1 + count]), needed[1 + count :]
        parameters = [any(needed[a:b]) for a, b in pairwise(self._ends)]
        lowest = 0 if wants_x or wants_states else parameters.index(True) // self._directions
        return _Wanted(wants_x, wants_states, parameters, lowest)

    def _of_direction(self, dy: OutputCotangent, direction: int, T: int) -> OutputCotangent:
        """The columns of a direction in the cotangent of the outputs, from the step at which it begins."""
        if not direction:
            return dy
        first = (T - 1) * dy.step + self._width
        return OutputCotangent(dy.address + first * self._size, -dy.step, dy.row)

    def _make_buffers(self, like: Tensor) -> _BackwardBuffers:
        steps, B = self._max_steps, self._B
        loops = [BackwardLoop(plan, like, steps, B) for plan in self._plans]
        above = loops[self._directions :: self._directions]
        return _BackwardBuffers(loops, [like.new_empty(steps * B, loop.D) for loop in above])

    def contiguous_parameters(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the parameters as contiguous tensors.

        Raises:
            RuntimeError: for another shape or dtype than in the forward pass: `model.to` converts parameters in place.
        """
        if not parameters:
            return parameters
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

    def run_unprepared(
        self, labels: Labels, tensors: Sequence[Tensor], count: int, shape: Any, later: bool
    ) -> list[Tensor]:
        """Run the call by the executor's `run`, whose backward pass can be observed, batched and differentiated.

        Args:
            labels: of the calls of the engine.
            tensors: x, the states and the parameters.
            count: the number of states.
            shape: of the outputs.
            later: as in `BackwardEvent`.

        Returns:
            The outputs and the final states.
        """
        x, states, parameters = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
        rows, finals, outputs = x.view(_steps(x), self._B, -1), [], list[Tensor]()
        states = [state.view(-1, *state.shape[-2:]) for state in states]
        for i, (key, label) in enumerate(zip(self._keys, labels(rows), strict=True)):
            direction, cell_parameters = i % self._directions, parameters[self._ends[i] : self._ends[i + 1]]
            source = rows.flip(0) if direction else rows
            with labeled(label):
                output, cell_finals = apply(key, PlanInputs(source, [state[i] for state in states], cell_parameters))
            finals.append(cell_finals)
            context: Any = output.grad_fn  # the autograd function of the call, if it has one
            if context is not None:
                context.later = later
            outputs.append(output.flip(0) if direction else output)
            if len(outputs) == self._directions:
                rows, outputs = torch.cat(outputs, -1) if direction else output, []
        stacked = map(torch.stack, zip(*finals, strict=True))
        return [rows.view(shape), *(last.view(of) for last, of in zip(stacked, self._state_shapes, strict=True))]


class _Call(NamedTuple):
    """The arguments of a differentiable call other than tensors."""

    prepared: DifferentiableCall
    labels: Labels
    shape: Sequence[int]
    num_states: int


class _CallFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory, outputs, finals = call.prepared.forward(x, rest[: call.num_states], call.shape)
        ctx.save_for_backward(memory, x, *rest)
        ctx.call, ctx.later = call, False
        ctx.set_materialize_grads(False)
        return (outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, (prepared, labels, shape, count), needed = ctx.saved_tensors, ctx.call, ctx.needs_input_grad[1:]
        memory, x, *rest = saved
        is_plain = PLAIN.issuperset(map(type, (*saved, *cotangents)))
        if is_plain:
            rest[count:] = prepared.contiguous_parameters(rest[count:])
        if is_plain and not (torch.is_grad_enabled() or is_observed() or in_dispatch_mode() or is_batched(cotangents)):
            memory, x, *states = map(Tensor.contiguous, (memory, x, *rest[:count]))
            gradients = prepared.backward(memory, x, states, rest[count:], cotangents[0], cotangents[1:], needed)
            return (None, *gradients)
        create_graph = torch.is_grad_enabled()
        later = ctx.later = ctx.later or create_graph

        def replay(tensors: Sequence[Tensor]) -> list[Tensor]:
            with without_transforms(), uncast():
                return prepared.run_unprepared(labels, tensors, count, shape, later)  # type: ignore[no-any-return]

        return (None, *gradients_of_replay(replay, (x, *rest), cotangents, needed, create_graph))


# Skips the torch.func handling of Function.apply: under torch.func, no call is prepared.
_apply: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, _CallFunction).apply


def _resolved(cotangent: Tensor) -> Tensor:
    return cotangent.resolve_neg() if cotangent.is_neg() else cotangent


def _output_cotangent(dy: Tensor, T: int) -> OutputCotangent:
    """Find the steps and rows of a cotangent in a shape of outputs: T, B and H, with axes of size 1 in any order."""
    strides, has_steps_first = dy.stride(), dy.dim() == 3 and dy.shape[0] == T
    row, step = (strides[1], strides[0]) if has_steps_first else (strides[0], strides[-2])
    return OutputCotangent(dy.data_ptr(), step, row)


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE
