"""Prepared calls of stacked cells: for a few rows, preparing a call takes longer than running it."""

from collections.abc import Callable, Sequence
from ctypes import memmove
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.engine.compiled.entry import plan_key
from elman.engine.compiled.records import PlanInputs
from elman.engine.compiled.torch_ops import apply
from elman.engine.cpu import openmp
from elman.engine.cpu.backend import NATIVE, ROUNDING, NativeBackend, compiled_for
from elman.engine.cpu.call_rows import CallRows, Side, WholeRows
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.half_plan import HalfCall
from elman.engine.cpu.invocation import LINE, scratch_memory, with_contiguous_columns
from elman.engine.cpu.prepared_loop import BackwardLoop, ForwardLoop, OutputCotangent, can_prepare, max_steps
from elman.engine.executor import Labels, PreparedCall
from elman.engine.inputs import CellSpec
from elman.engine.observe.events import is_batched, is_observed, labeled
from elman.engine.outputs import as_tuple
from elman.engine.precision import uncast
from elman.engine.replay import gradients_of_replay
from elman.engine.torch_private import in_dispatch_mode, without_transforms

PLAIN = {Tensor, nn.Parameter, type(None)}
MAX_WHOLE_ROWS = 64  # numbers of steps whose rows a prepared call has laid out


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

    Cells are numbered as in `Executor.prepare`. Loops run forward; a reverse one reads a reversed copy of the input. Of
    sequences with lengths, loops read and write packed rows, which are copied from the input and to the outputs.

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
        self._size, self._width = size, widths[0]
        self._max_input = max(spec.input_size for spec in specs)
        self._whole_rows: dict[int, CallRows] = {}  # by the number of steps
        self._rows: CallRows | None = None  # those that the loops are set to

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

    def _rows_of(self, x: Tensor, lengths: NDArray[np.int64] | None) -> CallRows:
        """Lay out the rows of a call, and set the loops to them."""
        T = _steps(x)
        if lengths is not None:
            rows = CallRows(self._plans[0], T, lengths)
        else:
            rows = self._whole_rows.get(T) or self._new_whole_rows(T)
        if self._rows is not rows:
            for loop in self._loops:
                loop.set_rows(rows)
            self._rows = rows
        return rows

    def _new_whole_rows(self, T: int) -> CallRows:
        if len(self._whole_rows) >= MAX_WHOLE_ROWS:
            self._whole_rows.pop(next(iter(self._whole_rows)))
        return self._whole_rows.setdefault(T, WholeRows(self._plans[0], T, self._B))

    def _reverse(self, rows: CallRows, source: int, target: int, width: int, add: bool = False) -> int:
        """Copy packed rows with each sequence in reverse order, or add them to others; returns the target."""
        rows.copy(rows.packed(source, width), rows.packed(target, width), width, reverse=True, add=add)
        return target

    def _place(self, rows: CallRows, sequence: int, target: Side, direction: int, fill: bool = False) -> None:
        """Copy the states of a direction to its columns of the outputs, in the input's order."""
        if self._directions == 1 and not rows.is_ragged:  # contiguous
            memmove(target.address, sequence, rows.N * self._width * self._size)
            return
        target = target._replace(address=target.address + direction * self._width * self._size)
        rows.copy(rows.packed(sequence, self._width), target, self._width, reverse=direction == 1, fill=fill)

    def _outputs(self, rows: CallRows, outputs: Tensor) -> Side:
        """The rows of outputs (T, B, directions * H)."""
        row = self._width * self._directions
        return rows.padded(outputs.data_ptr(), self._B * row, row)

    def _take_scratch(self, rows: CallRows) -> tuple[Tensor, tuple[int, int, int]]:
        """Take scratch memory for packed rows: of states, of the widest input, of x; returns it and their addresses."""
        widths = self._width, self._max_input, self._row_shape[1]
        scratch = scratch_memory.take(rows.N * sum(widths) * self._size + LINE)
        begin = _aligned(scratch.data_ptr())
        offsets = accumulate((rows.N * width * self._size for width in widths[:2]), initial=begin)
        states, inputs, x = offsets
        return scratch, (states, inputs, x)

    def _gather(self, rows: CallRows, x: Tensor, target: int) -> int:
        """Copy the input (T, B, D) to packed rows; returns the target."""
        D = x.shape[-1]
        rows.copy(rows.padded(x.data_ptr(), x.stride(0), x.stride(1)), rows.packed(target, D), D)
        return target


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
        self._initial = x.new_empty(self._B, self._width)  # the initial states of a loop, in the order of its rows

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int], lengths: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the call; see `PreparedCall`."""
        rows, finals, outputs = self._rows_of(x, lengths), list(map(torch.empty_like, states)), x.new_empty(shape)
        source, loops, directions, ragged = x.data_ptr(), self._loops, self._directions, rows.is_ragged
        scratch: Tensor | None = None
        if directions > 1 or ragged:
            scratch, (sequence, reversed_input, packed_input) = self._take_scratch(rows)
            initial = self._initial.data_ptr()
            if ragged:
                source = self._gather(rows, x, packed_input)
        for k in range(self._last + 1):
            is_last = k == self._last
            target = (outputs if is_last else self._between[k % 2]).data_ptr()
            places = directions > 1 or (ragged and is_last)  # what a loop writes is not yet what the layer returns
            for direction in self._cells:
                i = k * directions + direction
                loop = loops[i]
                x_address = self._reverse(rows, source, reversed_input, loop.D) if direction else source
                before, after = self._at_cell(states, i), self._at_cell(finals, i)
                loop(x_address, before, (sequence if places else target,), after, (initial,) if ragged else None)
                if places:
                    side = self._outputs(rows, outputs) if is_last else rows.packed(target, self._width * directions)
                    self._place(rows, sequence, side, direction, fill=is_last)
            source = target
        if scratch is not None:
            scratch_memory.give_back(scratch)
        return outputs, finals


class _BackwardBuffers:
    """The prepared loops of a backward pass, for one pass at a time.

    Args:
        loops: of each cell.
        between: the gradients of the outputs of each layer but the last.
    """

    def __init__(self, loops: list[BackwardLoop], between: list[Tensor]) -> None:
        self.loops, self.between = loops, between
        self._rows: CallRows | None = None

    def set_rows(self, rows: CallRows) -> None:
        """Set the rows of the next pass."""
        if self._rows is not rows:
            for loop in self.loops:
                loop.set_rows(rows)
            self._rows = rows


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
        self._offsets: dict[int, _SavedOffsets] = {}  # by the number of steps, of sequences without lengths
        self._free: list[_BackwardBuffers] = []
        self._wanted: dict[Sequence[bool], _Wanted] = {}

    def _offsets_for(self, rows: CallRows) -> _SavedOffsets:
        """Lay out the memory that a call saves, in one block for all cells."""
        offsets = None if rows.is_ragged else self._offsets.get(rows.T)
        if offsets is None:
            offsets = self._make_offsets(rows)
            if not rows.is_ragged:
                self._offsets[rows.T] = offsets
        return offsets

    def _make_offsets(self, rows: CallRows) -> _SavedOffsets:
        all_histories, values, inputs, total = list[list[int]](), list[int](), list[int | None](), 0
        N, size = rows.N, self._size
        for i, (loop, native) in enumerate(zip(self._loops, self._plans, strict=True)):
            k, direction = divmod(i, self._directions)
            if direction or (self._directions > 1 if k else rows.is_ragged):
                inputs.append(total)
                total += _aligned(N * loop.D * size)
            else:
                inputs.append(all_histories[k - 1][0] + self._state_bytes[0] if k else None)
            histories = []
            for s, width in enumerate(native.plan.widths):
                histories.append(total)
                total += _aligned((self._B + N) * width * size) if s in loop.saved_states else 0
            all_histories.append(histories)
            values.append(total)
            total += _aligned(N * native.plan.saved_width * size)
        return _SavedOffsets(all_histories, values, inputs, total // size)

    def __call__(
        self, labels: Labels | None, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor],
        shape: Sequence[int], lengths: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Run the call; see `PreparedCall`."""
        assert labels is not None
        rows = self._rows_of(x, lengths)
        call = _Call(self, labels, shape, len(states), rows, self._offsets_for(rows))
        outputs, *finals = _apply(call, x, *states, *parameters)
        return outputs, finals

    def forward(
        self, x: Tensor, states: Sequence[Tensor], shape: Sequence[int], rows: CallRows, offsets: _SavedOffsets
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the call; returns the memory that `backward` reads, the outputs in a shape, and the final states."""
        sizes = self._state_bytes
        # Of what is returned, `memory` has copies: the caller may write to it before the backward pass.
        memory, outputs, finals = x.new_empty(offsets.numel), x.new_empty(shape), [torch.empty_like(s) for s in states]
        begin, directions, inputs = memory.data_ptr(), self._directions, self._input_addresses(x, memory, offsets)
        if rows.is_ragged:
            self._gather(rows, x, inputs[0])
        for i, loop in enumerate(self._loops):
            k, direction = divmod(i, directions)
            if direction:
                self._reverse(rows, inputs[i - 1], inputs[i], loop.D)
            before, histories = self._at_cell(states, i), [begin + offset for offset in offsets.histories[i]]
            sequences = [history + size for history, size in zip(histories, sizes, strict=True)]
            loop(inputs[i], before, sequences, self._at_cell(finals, i), histories, begin + offsets.values[i])
            if k == self._last:
                self._place(rows, sequences[0], self._outputs(rows, outputs), direction, fill=True)
            elif directions > 1:
                above = rows.packed(inputs[(k + 1) * directions], self._width * directions)
                self._place(rows, sequences[0], above, direction)
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
        rows: CallRows,
        offsets: _SavedOffsets,
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
            rows: as in `forward`.
            offsets: as in `forward`.

        Returns:
            A gradient for each; None where it is not needed.
        """
        try:
            buffers = self._free.pop()  # taken: a backward pass in another thread makes its own
        except IndexError:
            buffers = self._make_buffers(x)
        buffers.set_rows(rows)
        count, sizes, is_ragged = len(states), self._state_bytes, rows.is_ragged
        wanted = self._wanted.get(needed) or self._wanted.setdefault(needed, self._find_wanted(needed, count))
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted.x else None
        d_states = [torch.empty_like(state) for state in states] if wanted.states else []
        d_parameters: list[Tensor | None] = []
        begin, directions, inputs = memory.data_ptr(), self._directions, self._input_addresses(x, memory, offsets)
        cotangents = [None if d is None else _resolved(d).contiguous() for d in d_finals]
        addresses = list(map(Tensor.data_ptr, parameters))
        dy = None if dy is None else with_contiguous_columns(_resolved(dy))
        d_output = None if dy is None else rows.padded(dy.data_ptr(), *_strides(dy, rows.T))
        row, scratch = self._width * directions, None
        if directions > 1 or is_ragged:
            scratch, (d_rows, reversed_dx, packed_dx) = self._take_scratch(rows)
        for i in range(len(self._loops) - 1, wanted.lowest * directions - 1, -1):
            (k, direction), loop, a, b = divmod(i, directions), buffers.loops[i], self._ends[i], self._ends[i + 1]
            d_input = d_x if k == 0 else buffers.between[k - 1] if k > wanted.lowest else None
            sums = [x.new_empty(shape) for shape in loop.gradients.shapes] if wanted.parameters[i] else []
            loop.set_addresses(addresses[a:b])
            if d_input is None:
                d_source = None
            else:
                d_source = reversed_dx if direction else packed_dx if is_ragged and k == 0 else d_input.data_ptr()
            d_after = [None if d is None else d.data_ptr() + i * n for d, n in zip(cotangents, sizes, strict=True)]
            d_before = self._at_cell(d_states, i) if wanted.states else None
            histories = [begin + offset for offset in offsets.histories[i]]
            if is_ragged and d_output is not None and (direction or k == self._last):
                dy_of_cell: OutputCotangent | None = self._gather_direction(rows, d_output, direction, d_rows)
            else:
                dy_of_cell = d_output and self._of_direction(rows, d_output, direction)
            loop(inputs[i], histories, begin + offsets.values[i], dy_of_cell, d_after, d_before, d_source, sums)
            none: list[Tensor | None] = [None] * (b - a)
            d_parameters = (loop.gradients(parameters[a:b], sums) if sums else none) + d_parameters
            if direction == 0:
                if directions > 1 and d_source is not None:
                    self._reverse(rows, reversed_dx, d_source, loop.D, add=True)
                if d_source is None:
                    d_output = None
                else:
                    d_output = rows.packed(d_source, row) if is_ragged else rows.padded(d_source, self._B * row, row)
        if is_ragged and d_x is not None:
            D = x.shape[-1]
            source, target = rows.packed(packed_dx, D), rows.padded(d_x.data_ptr(), self._B * D, D)
            rows.copy(source, target, D, fill=True)
        if scratch is not None:
            scratch_memory.give_back(scratch)
        self._free.append(buffers)
        none = [None] * len(needed)
        gradients = [d_x, *(d_states or none[:count]), *none[len(d_parameters) : len(parameters)], *d_parameters]
        return [gradient if is_needed else None for gradient, is_needed in zip(gradients, needed, strict=True)]

    def _find_wanted(self, needed: Sequence[bool], count: int) -> _Wanted:
        wants_x, wants_states, needed = needed[0], any(needed[1 : 1 + count]), needed[1 + count :]
        parameters = [any(needed[a:b]) for a, b in pairwise(self._ends)]
        lowest = 0 if wants_x or wants_states else parameters.index(True) // self._directions
        return _Wanted(wants_x, wants_states, parameters, lowest)

    def _of_direction(self, rows: CallRows, dy: Side, direction: int) -> OutputCotangent:
        """The columns of a direction in the cotangent of the outputs, from the step at which it begins."""
        if rows.is_ragged:  # of a layer above, and packed
            return OutputCotangent(dy.address, 0, dy.step, dy.row)
        if not direction:
            return OutputCotangent(dy.address, dy.step, 0, dy.row)
        first = (rows.T - 1) * dy.step + self._width
        return OutputCotangent(dy.address + first * self._size, -dy.step, 0, dy.row)

    def _gather_direction(self, rows: CallRows, dy: Side, direction: int, address: int) -> OutputCotangent:
        """Copy the columns of a direction in the cotangent of the outputs to packed rows in its order."""
        width = self._width
        source = dy._replace(address=dy.address + direction * width * self._size)
        rows.copy(source, rows.packed(address, width), width, reverse=direction == 1)
        return OutputCotangent(address, 0, width, width)

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
            labels: of the call.
            tensors: x, the states and the parameters.
            count: the number of states.
            shape: of the outputs.
            later: as in `BackwardEvent`.

        Returns:
            The outputs and the final states.
        """
        x, states, parameters = tensors[0], tensors[1 : 1 + count], tensors[1 + count :]
        padded, finals, outputs = x.view(_steps(x), self._B, -1), [], list[Tensor]()
        layout, cell_labels = labels(padded)
        rows, states = layout.to_rows(padded), [state.view(-1, *state.shape[-2:]) for state in states]
        initial = list(map(layout.to_engine_state, states))
        for i, (key, label) in enumerate(zip(self._keys, cell_labels, strict=True)):
            direction, cell_parameters = i % self._directions, parameters[self._ends[i] : self._ends[i + 1]]
            inputs = PlanInputs(
                layout.reverse(rows) if direction else rows, [state[i] for state in initial], cell_parameters,
                sizes=layout.sizes,
            )  # fmt: skip
            with labeled(label):
                output, cell_finals = apply(key, inputs)
            finals.append(cell_finals)
            context: Any = output.grad_fn  # the autograd function of the call, if it has one
            if context is not None:
                context.later = later
            outputs.append(layout.reverse(output) if direction else output)
            if len(outputs) == self._directions:
                rows, outputs = torch.cat(outputs, -1) if direction else output, []
        stacked = map(torch.stack, zip(*finals, strict=True))
        last = map(layout.from_engine_state, stacked, states)
        shapes = zip(last, self._state_shapes, strict=True)
        return [layout.from_rows(rows).view(shape), *(state.view(of) for state, of in shapes)]


class _Call(NamedTuple):
    """The arguments of a differentiable call other than tensors."""

    prepared: DifferentiableCall
    labels: Labels
    shape: Sequence[int]
    num_states: int
    rows: CallRows
    offsets: _SavedOffsets


class _CallFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        memory, outputs, finals = call.prepared.forward(x, rest[: call.num_states], call.shape, call.rows, call.offsets)
        ctx.save_for_backward(memory, x, *rest)
        ctx.call, ctx.later = call, False
        ctx.set_materialize_grads(False)
        return (outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, call, needed = ctx.saved_tensors, ctx.call, ctx.needs_input_grad[1:]
        prepared, labels, shape, count, rows, offsets = call
        memory, x, *rest = saved
        is_plain = PLAIN.issuperset(map(type, (*saved, *cotangents)))
        if is_plain:
            rest[count:] = prepared.contiguous_parameters(rest[count:])
        if is_plain and not (torch.is_grad_enabled() or is_observed() or in_dispatch_mode() or is_batched(cotangents)):
            memory, *states = map(Tensor.contiguous, (memory, *rest[:count]))
            x = x if rows.is_ragged else x.contiguous()  # rows of an input with lengths are in `memory`
            gradients = prepared.backward(
                memory, x, states, rest[count:], cotangents[0], cotangents[1:], needed, rows, offsets
            )
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


def _strides(dy: Tensor, T: int) -> tuple[int, int]:
    """Find the strides of steps and rows of a cotangent: T, B and H, with axes of size 1 in any order."""
    strides, has_steps_first = dy.stride(), dy.dim() == 3 and dy.shape[0] == T
    return (strides[0], strides[1]) if has_steps_first else (strides[-2], strides[0])


def _aligned(size: int) -> int:
    return -(-size // LINE) * LINE
