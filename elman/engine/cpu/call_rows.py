"""The rows of a prepared call: as loops read them and as tensors have them, and the copies between both."""

import ctypes
from bisect import bisect_right
from ctypes import memmove
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from elman.engine.cpu import openmp
from elman.engine.cpu.arguments import Word
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.invocation import CHUNK_ROWS
from elman.engine.cpu.steps import FIRST_WORD, WORDS

MIN_SHARED = 1 << 16  # numbers of a copy that threads share; to start them takes as long as a copy of fewer

CopyWords = ctypes.c_int64 * (FIRST_WORD + len(WORDS))


class Side(NamedTuple):
    """One side of a copy of rows, as in `steps.copy_rows`: addresses of memory and tables, strides in numbers."""

    address: int
    steps: int
    step: int
    sequences: int
    row: int


class RowChunk(NamedTuple):
    """Steps that are worked on together, from `begin` to `end`, and their rows, from `origin` on."""

    begin: int
    end: int
    origin: int
    rows: int


class CallRows:
    """The rows of one call.

    Loops have the rows packed: step after step, at each the sequences that still run, the longest first. Tensors have
    every sequence at every step.

    Args:
        native: a plan whose library copies rows.
        T: the number of steps of tensors.
        lengths: (B,), at most T.
    """

    is_ragged = True

    def __init__(self, native: CompiledPlan, T: int, lengths: NDArray[np.int64]) -> None:
        B = len(lengths)
        # begins: where each step begins, with an entry more at either end, which kernels read; numbers: 0, 1, 2, ...;
        # sorted: the lengths in the order of the loops, and order: the places in the batch; before: of a sequence of
        # states after the initial ones, the row before the first row of each step; halves: the row of the last state,
        # as `ForwardLoop` leaves it.
        ends = list(accumulate((T + 2, max(T, B), B, B, T + 1, B)))
        self._memory = memory = np.empty(ends[-1], np.int64)
        address = memory.ctypes.data
        self.begins = address + 8
        self._numbers, self._lengths, self._order, self._before, self._halves = (address + 8 * end for end in ends[:5])
        tables = self._numbers, self._lengths, self._order, self._before, self._halves
        native.lay_out_rows(lengths.ctypes.data, T, B, self.begins, *tables)
        #: the number of steps of tensors and of the loops, of sequences, of rows of the loops
        self.T, self.steps, self.B, self.N = T, int(memory[ends[1]]), B, int(memory[T + 1])
        self._has_empty = int(memory[2]) < B  # sequences without a step
        self._native, functions = native, openmp.addresses()
        self._threading = functions.get(Word.THREAD_NUM, 0), functions.get(Word.NUM_THREADS, 0)
        self.chunks = self._make_chunks()

    def _make_chunks(self) -> list[RowChunk]:
        """The chunks of the loops: of at most CHUNK_ROWS rows, but at least one step."""
        if self.N <= CHUNK_ROWS:
            return [RowChunk(0, self.steps, 0, self.N)]
        begins, chunks, t = self._memory[1 : self.steps + 2].tolist(), list[RowChunk](), 0
        while t < self.steps:
            end = max(t + 1, min(bisect_right(begins, begins[t] + CHUNK_ROWS) - 1, self.steps))
            chunks.append(RowChunk(t, end, begins[t], begins[end] - begins[t]))
            t = end
        return chunks

    def packed(self, address: int, row: int) -> Side:
        """The rows of the loops at an address, with the distance between them."""
        return Side(address, self.begins, row, self._numbers, row)

    def padded(self, address: int, step: int, row: int) -> Side:
        """The rows of a tensor (T, B, ...) at an address, with its strides."""
        return Side(address, self._numbers, step, self._order, row)

    def copy(
        self, source: Side, target: Side, width: int, reverse: bool = False, add: bool = False, fill: bool = False
    ) -> None:
        """Copy all rows.

        Args:
            source: the rows to read.
            target: the rows to write; memory of their own.
            width: numbers of a row.
            reverse: reverse each sequence.
            add: add to the target.
            fill: write zeros to the target behind the end of each sequence.
        """
        self._copy(source, target, 0, self.T if fill else self.steps, width, 0, reverse, add, self.B * fill)

    def copy_previous(self, history: int, target: int, chunk: RowChunk, width: int, size: int) -> None:
        """Copy the states before each row of a chunk; `history` has the initial ones, and those after each row."""
        source = Side(history, self._before, width, self._numbers, width)
        # Tables count rows from the beginning of the sequence.
        self._copy(source, self.packed(target - chunk.origin * width * size, width), chunk.begin, chunk.end, width)

    def sort(self, states: int, target: int, width: int, size: int) -> None:
        """Copy states (B, width) from the order of the batch to that of the loops; numbers have `size` bytes."""
        del size
        self._copy(self.padded(states, 0, width), self.packed(target, width), 0, 1, width, self.B)

    def unsort(self, states: int, target: int, width: int, size: int) -> None:
        """Copy states (B, width) from the order of the loops to that of the batch."""
        del size
        self._copy(self.packed(states, width), self.padded(target, 0, width), 0, 1, width, self.B)

    def copy_last(self, sequence: int, before: int, target: int, width: int, size: int) -> None:
        """Copy the state after the last step of each sequence, or that before the first, to the order of the batch.

        Args:
            sequence: the states after every step.
            before: the initial states, in the order of the batch.
            target: memory for (B, width).
            width: numbers of a state.
            size: bytes of a number.
        """
        if self._has_empty:
            memmove(target, before, self.B * width * size)
        self._copy(self.packed(sequence, width), self.padded(target, 0, width), 0, 1, width, 0, True)

    def copy_last_of_halves(self, halves: int, target: int, width: int, size: int) -> None:
        """Copy the same from two halves (2, B, width), which steps use in turn, and which began as initial states."""
        del size
        source = Side(halves, self._numbers, 0, self._halves, width)
        self._copy(source, self.padded(target, 0, width), 0, 1, width, self.B)

    def _copy(
        self, source: Side, target: Side, first: int, last: int, width: int,
        count: int = 0, reverse: bool = False, add: bool = False, fill: int = 0,
    ) -> None:  # fmt: skip
        native = self._native
        words = CopyWords(
            native.copy_rows, *self._threading, *source, *target, self.begins, self._lengths, first, last, count, width,
            reverse, add, fill,
        )  # fmt: skip
        if last > first + 1 and self.N * width >= MIN_SHARED:
            native.run(ctypes.addressof(words), openmp.threads())
        else:
            native.run_alone(ctypes.addressof(words))


class WholeRows(CallRows):
    """The rows of sequences that all have T steps: loops read them as tensors have them."""

    is_ragged = False

    def __init__(self, native: CompiledPlan, T: int, B: int) -> None:
        super().__init__(native, T, np.full(B, T))

    @override
    def _make_chunks(self) -> list[RowChunk]:
        steps, B = max(1, min(self.T, CHUNK_ROWS // max(self.B, 1))), self.B
        bounds = [(begin, min(begin + steps, self.T)) for begin in range(0, self.T, steps)]
        return [RowChunk(begin, end, begin * B, (end - begin) * B) for begin, end in bounds]

    @override
    def sort(self, states: int, target: int, width: int, size: int) -> None:
        memmove(target, states, self.B * width * size)

    @override
    def unsort(self, states: int, target: int, width: int, size: int) -> None:
        memmove(target, states, self.B * width * size)

    @override
    def copy_last(self, sequence: int, before: int, target: int, width: int, size: int) -> None:
        step = self.B * width * size
        memmove(target, sequence + (self.T - 1) * step, step)  # a copy by torch takes ten times as long

    @override
    def copy_last_of_halves(self, halves: int, target: int, width: int, size: int) -> None:
        step = self.B * width * size
        memmove(target, halves + self.T % 2 * step, step)
