"""The loops of a compiled plan over some rows, prepared but for the addresses of their tensors."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from ctypes import memmove, memset
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from elman.engine.compiled.rows import uniform_rows
from elman.engine.cpu import invocation, openmp
from elman.engine.cpu.arguments import Word, address, hop
from elman.engine.cpu.barrier import BARRIER_WORDS
from elman.engine.cpu.call_rows import CallRows, RowChunk
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.invocation import CHUNK_ROWS, CallFrame, CallLayout
from elman.engine.executor import MAX_PREPARED_ROWS, MAX_STEP_ROWS
from elman.engine.plan.layout import width

TIME, STEPS, ROWS, ORIGIN, ADD = map(int, (Word.TIME, Word.STEPS, Word.ROWS, Word.ORIGIN, Word.ADD))
MAX_UNPACKED = 4  # rows of a single step backward; with more, packing a matrix before the product pays
MAX_ALONE = 4  # rows of a single step forward that one thread runs
MAX_SCRATCH = 1 << 23  # bytes that a prepared loop keeps between calls; preparing larger calls takes a small part


class PreparedLoop:
    """The arguments and scratch memory of a plan's programs. Its calls must not overlap.

    Args:
        native: the compiled plan; `can_prepare` is true of it.
        loop: "inference", "forward" or "backward".
        like: a tensor of the dtype of all memory.
        max_steps: the largest number of steps. `set_rows` sets the rows of the next calls, and must be called first.
        B: the number of rows of each step.
    """

    def __init__(self, native: CompiledPlan, loop: str, like: Tensor, max_steps: int, B: int) -> None:
        self._native, self._layout, self._like, self._B = native, native.layouts[loop], like, B
        self.direct, frame = _is_direct(self._layout, max_steps, B), _frame(self._layout, max_steps, B)
        self.data, self._max_threads = frame.template, frame.threads
        scratch, barrier = like.new_empty(frame.numel), torch.zeros(BARRIER_WORDS, dtype=torch.int64)
        self._alive = [frame, scratch, barrier]
        begin = self._layout.aligned(scratch.data_ptr())
        for place, offset in frame.offsets:
            self.data[place] = begin + offset
        self.data[Word.BARRIER] = barrier.data_ptr()
        self._parameters = self._layout.parameters
        self._address = ctypes.addressof(self.data)
        self.D = width(native.plan.inputs[0])
        self._size, self._widths = like.element_size(), native.plan.widths
        self._row_bytes = [size * self._size for size in native.plan.widths]  # of each state of one sequence
        #: bytes of each state of one step
        self.state_bytes = [size * B for size in self._row_bytes]

    def set_rows(self, rows: CallRows) -> None:
        """Set the rows of the next calls."""
        self.rows, layout, T, data = rows, self._layout, rows.steps, self.data
        threads, split = invocation.threads_for(layout.loop, layout.real, T, -(-rows.N // T), self._max_threads)
        data[Word.SPLIT], data[Word.DEALT], data[Word.BEGINS] = int(split), int(rows.is_ragged), rows.begins
        in_order = rows.chunks[::-1] if layout.is_backward else rows.chunks
        self._chunks = [(chunk, self._words(chunk, add=k > 0)) for k, chunk in enumerate(in_order)]
        for word, value in self._chunks[0][1]:
            data[word] = value
        run, self.is_alone = self._native.run, threads == 1
        self._run = self._native.run_alone if self.is_alone else functools.partial(run, threads=threads)

    def set_addresses(self, addresses: Sequence[int]) -> None:
        """Set the addresses of the parameters, in the order of the plan."""
        for index, place, offset in self._parameters:
            self.data[place] = addresses[index] + offset

    def _words(self, chunk: RowChunk, add: bool) -> list[tuple[int, int]]:
        """The words that describe a chunk of steps, and their values."""
        begin, end, origin, rows = chunk
        steps = end - begin
        return [(TIME, begin), (STEPS, steps), (ROWS, rows), (ORIGIN, origin), (ADD, int(add))]

    def run(
        self,
        once: Sequence[int],
        each: Sequence[int],
        moving: Sequence[tuple[int, int, int]],
        before_chunk: Callable[[RowChunk], None] | None = None,
    ) -> None:
        """Run functions of the plan in order.

        Args:
            once: for the whole sequence.
            each: for every chunk of steps.
            moving: places of the addresses that move with the chunks, and the bytes from step to step and
                from row to row.
            before_chunk: called before the functions of each chunk.
        """
        data, run, address = self.data, self._run, self._address
        for function in once:
            data[0] = function
            run(address)
        several, time, origin = len(self._chunks) > 1, 0, 0
        for chunk, words in self._chunks:
            if several:
                for word, value in words:
                    data[word] = value
                for place, step_bytes, row_bytes in moving:
                    data[place] += (chunk.begin - time) * step_bytes + (chunk.origin - origin) * row_bytes
                time, origin = chunk.begin, chunk.origin
            if before_chunk is not None:
                before_chunk(chunk)
            for function in each:
                data[0] = function
                run(address)

    def _allocate_halves(self, buffer: str, i: int) -> int:
        """Allocate the two halves that successive states use in turn; returns the address of the first."""
        halves, arguments = self._like.new_empty(2, self._B, self._native.plan.widths[i]), self._native.arguments
        self._alive.append(halves)
        self.data[arguments[address(buffer)]] = halves.data_ptr()
        self.data[arguments[hop(buffer)]] = halves[0].numel()
        return halves.data_ptr()


class ForwardLoop(PreparedLoop):
    """A plan's forward loop. The addresses of its parameters must be set before it is called.

    Args:
        native: as in `PreparedLoop`.
        like: as in `PreparedLoop`.
        max_steps: as in `PreparedLoop`.
        B: as in `PreparedLoop`.
        save: save what `BackwardLoop` reads.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, max_steps: int, B: int, save: bool = False) -> None:
        super().__init__(native, "forward" if save else "inference", like, max_steps, B)
        plan, arguments, self._save = native.plan, native.arguments, save
        states = range(len(plan.widths))
        #: the states whose sequences it writes
        self.saved_states = [i for i in states if i == 0 or (save and plan.sequences[i])]
        self._x, self._saved = arguments[address("x")], native.saved if save else None
        # Of these states, the places of the sequence and of the initial state; of the others, the first half.
        self._sequences = [(i, arguments[address(f"state{i}")], native.states[i].before) for i in self.saved_states]
        self._halves = [(i, self._allocate_halves(f"state{i}", i)) for i in states if i not in self.saved_states]
        self._moving = [(self._x, 0, self.D * self._size)]  # as in `run`
        self._moving += [(place, 0, self._row_bytes[i]) for i, place, _ in self._sequences]
        if self._saved is not None:
            self._moving.append((self._saved, 0, plan.saved_width * self._size))

    @override
    def set_rows(self, rows: CallRows) -> None:
        super().set_rows(rows)
        loop, before = "forward" if self._save else "inference", ["before"] if self._native.plan.before.stages else []
        functions, names = self._native.functions[loop], [*before, loop]
        if self.is_alone and not self._save:
            names = ["step"]  # both in one
        self._once = [] if self.direct else [functions["pack_forward"]]
        self._each = [functions[name] for name in names]

    def __call__(
        self,
        x: int,
        before: Sequence[int],
        sequences: Sequence[int],
        after: Sequence[int],
        initial: Sequence[int] | None = None,
        saved: int = 0,
    ) -> None:
        """Run the loop. Each argument is an address, or one for each state.

        Args:
            x: the input, packed rows (N, D).
            before: of the initial states (B, H).
            sequences: memory for the states after every step (N, H); read only of the first state, and, with `save`,
                of the states that the backward loop reads.
            after: memory for the states after the last step (B, H).
            initial: memory for the initial states in the order of the rows, of the states of `sequences`; None if
                they have that order.
            saved: memory for the other values that the backward loop reads.
        """
        data, sizes, rows, widths, size = self.data, self.state_bytes, self.rows, self._widths, self._size
        data[self._x] = x
        if self._saved is not None:
            data[self._saved] = saved
        for i, place, before_place in self._sequences:
            data[place], first = sequences[i], before[i]
            if initial is not None:
                rows.sort(first, initial[i], widths[i], size)
                first = initial[i]
            if before_place is not None:
                data[before_place] = first
        for i, first in self._halves:
            rows.sort(before[i], first, widths[i], size)
            if rows.is_ragged:  # steps write only the rows of sequences that still run
                memmove(first + sizes[i], first, sizes[i])
        self.run(self._once, self._each, self._moving)
        for i in self.saved_states:
            rows.copy_last(sequences[i], before[i], after[i], widths[i], size)
        for i, first in self._halves:
            rows.copy_last_of_halves(first, after[i], widths[i], size)


class OutputCotangent(NamedTuple):
    """The cotangent of the outputs.

    Attributes:
        address: of its first row.
        step: the stride from step to step, in numbers, of a tensor (T, B, H).
        begin: the stride from row to row, of packed rows (N, H).
        row: the stride from row to row within a step.
    """

    address: int
    step: int
    begin: int
    row: int


class BackwardLoop(PreparedLoop):
    """A plan's backward loop. The addresses of its parameters must be set before it is called.

    Args:
        native: as in `PreparedLoop`.
        like: as in `PreparedLoop`.
        max_steps: as in `PreparedLoop`.
        B: as in `PreparedLoop`.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, max_steps: int, B: int) -> None:
        super().__init__(native, "backward", like, max_steps, B)
        arguments, plan, self.gradients = native.arguments, native.plan, native.gradients
        states = range(len(plan.widths))
        self._x, self._saved, self._dx = arguments[address("x")], native.saved, native.dx
        self._histories = [(i, native.states[i]) for i in states if i == 0 or plan.sequences[i]]
        self._halves = [self._allocate_halves(f"d_state{i}", i) for i in states]
        self._sums, self._plan = native.sums, plan
        # Of ragged rows, the states before each row of a chunk are copied to memory of their own.
        self._max_chunk = _max_chunk(max_steps, B)
        self._previous = [(i, places.previous) for i, places in self._histories if places.previous is not None]
        self._previous_rows: list[Tensor] = []
        # An unwanted gradient of x is written to the first, chunk over chunk; every row of missing cotangents of the
        # outputs is read from the second.
        dummies = like.new_empty(self._max_chunk, self.D), like.new_zeros(plan.widths[0])
        self._alive += dummies
        self._unwanted_dx, zeros = (dummy.data_ptr() for dummy in dummies)
        self._no_cotangent = OutputCotangent(zeros, 0, 0, 0)
        self._moving = [(self._x, 0, self.D * self._size)]
        if self._saved is not None:
            self._moving.append((self._saved, 0, plan.saved_width * self._size))
        self._dx_moving = [] if self._dx is None else [(self._dx, 0, self.D * self._size)]
        for i, places in self._histories:
            if places.address is not None:
                self._moving.append((places.address, 0, self._row_bytes[i]))
        self._moving_previous = [(place, 0, self._row_bytes[i]) for i, place in self._previous]
        both = (False, True)
        self._functions = {(wants, sums): self._functions_for(wants, sums) for wants in both for sums in both}

    @override
    def set_rows(self, rows: CallRows) -> None:
        super().set_rows(rows)
        # The halves that the loop reads first: of ragged rows, the one or the other.
        T, is_ragged = rows.steps, rows.is_ragged
        halves = list(zip(self._halves, self.state_bytes, strict=True))
        self._firsts = [half + T % 2 * size for half, size in halves]
        self._seconds = [half + (T + 1) % 2 * size for half, size in halves] if is_ragged else []
        if is_ragged and not self._previous_rows:
            self._previous_rows = [
                self._like.new_empty(self._max_chunk, self._plan.widths[i]) for i, _ in self._previous
            ]

    def _functions_for(self, wants_x: bool, wants_parameters: bool) -> tuple[list[int], list[int]]:
        after = self._plan.after.stages and (wants_x or (wants_parameters and self._plan.sums_need_after))
        once = [] if self.direct else ["pack_backward", *(["pack_after"] if after else [])]
        each = ["backward", *(["after"] if after else []), *(["reduce"] if wants_parameters else [])]
        functions = self._native.functions["backward"]
        return [functions[name] for name in once], [functions[name] for name in each]

    def __call__(
        self,
        x: int,
        histories: Sequence[int],
        saved: int,
        dy: OutputCotangent | None,
        d_after: Sequence[int | None],
        d_before: Sequence[int] | None,
        dx: int | None,
        sums: Sequence[Tensor],
    ) -> None:
        """Run the loop. Arguments are addresses, one for each state where several.

        Args:
            x: as in `ForwardLoop`.
            histories: of the initial state followed by the states after every step, (B + N, H); read only of the
                states whose sequences `ForwardLoop` writes.
            saved: as in `ForwardLoop`.
            dy: the cotangent of the outputs.
            d_after: of the cotangents of the states after the last step.
            d_before: memory for the gradients of the initial states; None if they are not wanted.
            dx: memory for the gradient of x; None if it is not wanted.
            sums: memory for the sums that give the gradients of the parameters; none if these are not wanted.
        """
        data, sizes = self.data, self.state_bytes
        data[self._x] = x
        if self._saved is not None:
            data[self._saved] = saved
        if self._dx is not None:
            data[self._dx] = self._unwanted_dx if dx is None else dx
        for i, places in self._histories:
            history = histories[i]
            if places.address is not None:
                data[places.address] = history + sizes[i]
            if places.before is not None:
                data[places.before] = history
            if places.previous is not None:
                data[places.previous] = history
        data[Word.LAST] = 0 if d_before is None else -1
        data[Word.DY], data[Word.DY_STEP], data[Word.DY_BEGIN], data[Word.DY_ROW] = dy = dy or self._no_cotangent
        rows, widths = self.rows, self._widths
        for i, (first, cotangent, size) in enumerate(zip(self._firsts, d_after, sizes, strict=True)):
            if cotangent is None:
                memset(first, 0, size)
            else:
                rows.sort(cotangent, first, widths[i], self._size)
        for second, first, size in zip(self._seconds, self._firsts, sizes, strict=False):
            memmove(second, first, size)
        for place, total in zip(self._sums, sums, strict=False):
            data[place] = total.data_ptr()
        moving = [(Word.DY, dy.step * self._size, dy.begin * self._size), *self._moving]
        moving += [] if dx is None else self._dx_moving
        copy_previous: Callable[[RowChunk], None] | None = None
        if self.rows.is_ragged and sums:
            copy_previous = functools.partial(self._copy_previous, histories)
        else:
            moving += self._moving_previous
        self.run(*self._functions[dx is not None, bool(sums)], moving, copy_previous)
        if d_before is not None:
            for i, (last, gradient) in enumerate(zip(self._halves, d_before, strict=True)):
                rows.unsort(last, gradient, widths[i], self._size)

    def _copy_previous(self, histories: Sequence[int], chunk: RowChunk) -> None:
        """Copy the states before each row of a chunk, which are in a row only if all sequences are equally long."""
        for (i, place), memory in zip(self._previous, self._previous_rows, strict=True):
            self.data[place] = memory.data_ptr()
            self.rows.copy_previous(histories[i], memory.data_ptr(), chunk, self._plan.widths[i], self._size)


def max_steps(T: int, B: int) -> int:
    """Return the number of steps to allocate for: T rounded up to a power of two, so that lengths may vary."""
    return min(1 << (T - 1).bit_length(), MAX_PREPARED_ROWS // max(B, 1))


def can_prepare(native: CompiledPlan, steps: int, B: int, loops: Sequence[str] = ("inference",)) -> bool:
    """Return True if small calls need only addresses: no random numbers, no values computed from parameters.

    Args:
        native: the compiled plan.
        steps: the largest number of steps.
        B: the number of rows of each step.
        loops: as in `PreparedLoop`.
    """
    layouts = [native.layouts[loop] for loop in loops]
    if not 0 < steps * B <= MAX_PREPARED_ROWS or native.plan.step.draws or any(layout.compute for layout in layouts):
        return False
    return all(_frame(layout, steps, B).numel * native.real.bytes <= MAX_SCRATCH for layout in layouts)


def _is_direct(layout: CallLayout, steps: int, B: int) -> bool:
    """Return True if matrices are multiplied without packing, which takes longer for a single step of few rows."""
    return steps == 1 and (MAX_UNPACKED if layout.is_backward else MAX_STEP_ROWS) >= B


def _frame(layout: CallLayout, steps: int, B: int) -> CallFrame:
    direct = _is_direct(layout, steps, B)
    threads = 1 if direct and B <= MAX_ALONE else openmp.threads()
    return layout.make_frame(uniform_rows(steps, B), threads, direct, max_rows=_max_chunk(steps, B))


def _max_chunk(steps: int, B: int) -> int:
    """The largest number of rows of a chunk, whichever lengths the sequences have."""
    return max(B, min(steps * B, CHUNK_ROWS))
