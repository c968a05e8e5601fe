"""One call of a compiled plan: arguments, scratch memory, chunks of steps, number of threads."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from elman.engine.cpu import codegen, openmp
from elman.engine.cpu.arguments import Argument, PlanArguments, Role, Word, address, panels, value, vectors
from elman.engine.cpu.barrier import BARRIER_WORDS
from elman.engine.cpu.eager_graph import build_function
from elman.engine.cpu.function_builder import stride as stride_of
from elman.engine.cpu.ir_builder import Real
from elman.engine.cpu.memory import empty
from elman.engine.cpu.reductions import outer_scratch
from elman.engine.cpu.rows import MAX_CACHED_SHAPES, StepRows
from elman.engine.plan.ir import BufferKind, Product, Program
from elman.engine.plan.planner import Plan

ROWS = 512  # of steps times batch, in a chunk: worked on together between the loop and what comes before and after it
LINE = 64  # bytes, of a cache


class ScratchSize(NamedTuple):
    """Memory that an argument points to, in numbers: of packed matrices, for B, a chunk's rows, the threads."""

    place: int
    panels: int = 0
    batch: int = 0
    rows: int = 0
    threads: int = 0


class CallLayout:
    """What a call of some programs needs, whatever T and B are.

    Args:
        plan: of the programs.
        loop: the program of the loop.
        around: the program that runs on whole chunks, before the loop or after it.
        real: of the numbers.
        arguments: of the plan.
    """

    def __init__(self, plan: Plan, loop: Program, around: Program, real: Real, arguments: PlanArguments) -> None:
        self.plan, self.loop, self.real, self.arguments = plan, loop, real, arguments
        self.given: dict[fx.Node, int] = {}  # parameters, or values made of them, and the places of their addresses
        pieces: dict[int, ScratchSize] = {}
        for program in (around, loop):
            for weight, transposed in program.weights():
                place = arguments[panels(weight, transposed)]
                pieces[place] = ScratchSize(place, codegen.panels_size(weight, transposed, real))
                self.given[weight] = arguments[value(weight)]
            for node in vectors(program):
                self.given[node] = arguments[value(node)]
            for buffer in program.buffers():
                place, stride = arguments[address(buffer.name)], stride_of(buffer, real)
                if buffer.kind is BufferKind.CHUNK or (buffer.kind is BufferKind.BLOCK and program is around):
                    pieces[place] = ScratchSize(place, rows=max(stride, pieces.get(place, ScratchSize(place)).rows))
                elif buffer.kind is BufferKind.BLOCK:
                    pieces.setdefault(place, ScratchSize(place, batch=stride))
        self.scratch = max((outer_scratch(real, r.x_size) for r in plan.reductions), default=0)
        self.backwards = loop is plan.backward
        if self.backwards:
            pieces[Word.SCRATCH] = ScratchSize(Word.SCRATCH, threads=self.scratch)
        self.pieces = list(pieces.values())
        self.template = (ctypes.c_int64 * len(arguments))()
        self.template[Word.SCRATCH_EACH] = self.scratch
        for word, pointer in openmp.addresses().items():
            self.template[word] = pointer
        # Parameters as they are have their place in the list of them; values made of several must be worked out.
        order = {node: i for i, node in enumerate(plan.parameters)}
        self.plain = [(order[node], place) for node, place in self.given.items() if node in order]
        made = {node: place for node, place in self.given.items() if node not in order}
        self.made = list(made.values())
        self.make = build_function(plan.parameters, list(made), getattr(torch, real.name)) if made else None

    @staticmethod
    def aligned(address: int) -> int:
        """Where the memory of a call begins, in what was allocated for it."""
        return -(-address // LINE) * LINE

    def frame(self, rows: StepRows, count: int) -> "CallFrame":
        """What is the same in every call with such rows, while torch has this number of threads."""
        # Of ragged rows hardly any come twice.
        return self.new_frame(rows, count) if rows.packed else self._known_frame(rows, count)

    @functools.lru_cache(maxsize=MAX_CACHED_SHAPES)  # noqa: B019  a layout lives as long as the process
    def _known_frame(self, rows: StepRows, count: int) -> "CallFrame":
        return self.new_frame(rows, count)

    def new_frame(self, rows: StepRows, count: int, direct: bool = False) -> "CallFrame":
        """As `frame`, made anew; `direct`ly multiplied are few rows by matrices that nobody packs."""
        threads, split = threads_for(self.loop, self.real, rows.T, -(-rows.N // rows.T), count)
        chunks = rows.chunks(ROWS)
        most = max(int(rows.begins[end] - rows.begins[begin]) for begin, end in chunks)
        # Packed matrices, buffers of a step and buffers of a chunk, in one piece of memory.
        size, places, total = self.real.bytes, [], 0
        for p in self.pieces:
            places.append((p.place, total))
            needed = (p.panels * (not direct) + p.batch * rows.B + p.rows * most + p.threads * threads) * size
            total += -(-needed // LINE) * LINE
        template = type(self.template).from_buffer_copy(self.template)
        template[Word.B] = rows.B
        template[Word.SPLIT] = int(split)
        template[Word.DEALT] = int(rows.packed)
        template[Word.DIRECT] = int(direct)
        template[Word.BEGINS] = rows.address
        return CallFrame(rows, threads, split, chunks, (total + LINE) // size, tuple(places), template)


class CallFrame(NamedTuple):
    """What is the same in every call with one T and B, on as many threads."""

    rows: StepRows  # to whose memory the template points
    threads: int
    split: bool  # the columns among the threads, and not the rows
    chunks: tuple[tuple[int, int], ...]  # the steps at which each begins and ends
    numbers: int  # of memory, in all
    places: tuple[tuple[int, int], ...]  # of arguments, and where their memory begins, in bytes
    template: Any  # of the arguments


class StateArguments(NamedTuple):
    """The arguments of one state, or of its cotangent: places in the array, None for what a plan does not have."""

    address: int | None
    before: int | None
    previous: int | None
    hop: int | None


def state_arguments(arguments: PlanArguments, buffer: str) -> StateArguments:
    """Those of the state in a buffer."""
    roles = (Role.ADDRESS, Role.BEFORE, Role.PREVIOUS, Role.HOP)
    return StateArguments(*(arguments.find(Argument(role, buffer)) for role in roles))


class Invocation:
    """One call's arguments and memory.

    Args:
        layout: of the programs that will run.
        entry: runs the function whose address is in the first argument, on some threads.
        rows: of the call.
        x: whose dtype is that of all memory.
        parameters: in the order of the plan.
    """

    def __init__(
        self,
        layout: CallLayout,
        entry: Callable[[int, int], None],
        rows: StepRows,
        x: Tensor,
        parameters: Sequence[Tensor],
    ) -> None:
        self.layout, self.entry, self.x = layout, entry, x
        self.rows, self.frame = rows, (frame := layout.frame(rows, openmp.threads()))
        self.threads, self.chunks = frame.threads, frame.chunks
        self.data = type(frame.template).from_buffer_copy(frame.template)
        self.address = ctypes.addressof(self.data)
        self.alive: list[Tensor] = []
        self.moving: list[tuple[int, int, int, int]] = []  # place, address, bytes from step to step and from row to row
        self.states: list[tuple[int, Tensor, Tensor]] = []
        for index, place in layout.plain:
            self.put(place, parameters[index].contiguous())
        if layout.make is not None:
            for place, value in zip(layout.made, layout.make(*parameters), strict=True):
                assert value is not None
                self.put(place, value.to(x.dtype).contiguous())
        memory = empty(x, frame.numbers)
        self.alive.append(memory)
        begin = layout.aligned(memory.data_ptr())
        for place, offset in frame.places:
            self.data[place] = begin + offset
        if frame.split:
            self.put(Word.BARRIER, torch.zeros(BARRIER_WORDS, dtype=torch.int64))

    def put(self, place: int, tensor: Tensor) -> None:
        """Put a tensor's address into an argument."""
        self.data[place] = tensor.data_ptr()
        self.alive.append(tensor)

    def along(self, place: int | None, tensor: Tensor) -> None:
        """A tensor with numbers for every row, whose address moves with the chunks; nothing where nobody reads it."""
        if place is not None:
            row = tensor.shape[-1] * tensor.element_size()
            self.alive.append(tensor)
            self.moving.append((place, tensor.data_ptr(), 0, row))

    def state(self, arguments: StateArguments, sequence: Tensor, initial: Tensor) -> None:
        """A state after every step, and the one before the first."""
        self.along(arguments.address, sequence)
        if arguments.before is not None:
            self.put(arguments.before, initial)
        if self.layout.backwards and arguments.previous is not None:
            self.states.append((arguments.previous, sequence, initial))

    def swapped(self, arguments: StateArguments, size: int, initial: Tensor | None, half: int) -> Tensor:
        """Memory for two states, which take turns; one begins as `initial`, or zero, and of ragged rows both."""
        shape = (2, self.rows.B, size)
        if initial is None:
            both = self.x.new_zeros(shape)
        else:
            both = self.x.new_empty(shape)
            both[slice(None) if self.rows.packed else half] = initial
        if arguments.address is not None:
            self.put(arguments.address, both)
        if arguments.hop is not None:
            self.data[arguments.hop] = both[0].numel()
        return both

    def cotangent(self, dy: Tensor) -> None:
        """The cotangent of the outputs, whose rows may lie anywhere."""
        if dy.stride(-1) != 1 and dy.shape[-1] > 1:
            # Of what is the same everywhere, as the gradient of a sum is, one row is enough.
            same, first = not any(dy.stride()), (slice(1),) * (dy.dim() - 1)
            dy = dy[first].contiguous().expand_as(dy) if same else dy.contiguous()
        # Packed rows have a stride; others have one from step to step and one within a step.
        step, begin = (0, dy.stride(0)) if self.rows.packed else (dy.stride(0), 0)
        self.alive.append(dy)
        size = dy.element_size()
        self.moving.append((Word.DY, dy.data_ptr(), step * size, begin * size))
        data = self.data
        data[Word.DY_STEP], data[Word.DY_BEGIN], data[Word.DY_ROW] = step, begin, dy.stride(-2)

    def move(self, begin: int, end: int, add: bool = False) -> None:
        """Point every address at a chunk."""
        data, first, last = self.data, int(self.rows.begins[begin]), int(self.rows.begins[end])
        data[Word.TIME], data[Word.STEPS], data[Word.ADD] = begin, end - begin, int(add)
        data[Word.ROWS], data[Word.ORIGIN] = last - first, first
        for place, pointer, step, row in self.moving:
            data[place] = pointer + begin * step + first * row
        for place, sequence, initial in self.states:
            self.put(place, self.rows.previous_states(begin, end, sequence, initial))

    def run(self, function: int) -> None:
        """Run a function of the plan on all threads."""
        self.data[0] = function
        self.entry(self.address, self.threads)


# What the choice of threads reckons with: roughly what a core of today does.
FLOPS = 1e11  # multiply-adds count twice
BANDWIDTH = 5e10  # bytes per second, of matrices that pass through the caches at every step
WAIT = 5e-7  # seconds, of a barrier
START = 1e-5  # seconds, of setting all threads to work, where they spin while they wait
WAKE = 1e-4  # the same, where they sleep; once for every function that a call runs


def threads_for(loop: Program, real: Real, T: int, B: int, count: int) -> tuple[int, bool]:
    """How many threads of `count` a loop uses, and whether they share the columns of a step rather than its rows."""
    products_of_step = [stage for stage in loop.stages if isinstance(stage, Product)]
    numbers = sum(stage.depth * stage.width for stage in products_of_step)

    def seconds(rows: int, share: float) -> float:
        return max(2 * rows * numbers * share / FLOPS, real.bytes * numbers * share / BANDWIDTH) + rows * share * 1e-7

    start = WAKE * (1 + 2 * -(-T * B // ROWS)) if openmp.asleep() else START
    by_rows = T * seconds(-(-B // count), 1) + start
    by_columns = T * (seconds(B, 1 / count) + WAIT * len(loop.stages)) + start
    if count == 1 or T * seconds(B, 1) <= min(by_rows, by_columns):
        return 1, False
    return count, by_columns < by_rows
