"""One call of a compiled plan: arguments, scratch memory, chunks of steps, number of threads."""

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from elman.engine.compiled.eager_graph import build_function, find_parts
from elman.engine.compiled.rows import MAX_CACHED_SHAPES, StepRows
from elman.engine.cpu import codegen, openmp
from elman.engine.cpu.arguments import Argument, PlanArguments, Role, Word, address, panels, value, vectors
from elman.engine.cpu.barrier import BARRIER_WORDS
from elman.engine.cpu.function_builder import stride as stride_of
from elman.engine.cpu.ir_builder import Real
from elman.engine.cpu.reductions import outer_scratch
from elman.engine.plan.ir import BufferKind, Product, Program
from elman.engine.plan.planner import Plan

CHUNK_ROWS = 512  # steps times batch: the loop and what runs before or after it alternate in chunks of these rows
LINE = 64  # bytes of a cache line


class ScratchSize(NamedTuple):
    """The size of scratch memory, in elements: for packed matrices, and per row of the batch, of a chunk, per thread.

    Attributes:
        place: of the argument that points to it.
    """

    place: int
    panels: int = 0
    batch: int = 0
    rows: int = 0
    threads: int = 0


class CallLayout:
    """The memory and the parameters that calls of a loop need, for any T and B.

    Args:
        plan: that the programs belong to.
        loop: the program of the loop.
        around: the program that runs on whole chunks, before the loop or after it.
        real: the type of the elements.
        arguments: the places of all arguments of the plan.
    """

    def __init__(self, plan: Plan, loop: Program, around: Program, real: Real, arguments: PlanArguments) -> None:
        self.plan, self.loop, self.real, self.arguments = plan, loop, real, arguments
        places: dict[fx.Node, int] = {}  # of the addresses of parameters, and of values computed from them
        scratch: dict[int, ScratchSize] = {}
        for program in (around, loop):
            for weight, transposed in program.weights():
                place = arguments[panels(weight, transposed)]
                scratch[place] = ScratchSize(place, codegen.panels_size(weight, transposed, real))
                places[weight] = arguments[value(weight)]
            for node in vectors(program):
                places[node] = arguments[value(node)]
            for buffer in program.buffers():
                place, stride = arguments[address(buffer.name)], stride_of(buffer, real)
                if buffer.kind is BufferKind.CHUNK or (buffer.kind is BufferKind.BLOCK and program is around):
                    scratch[place] = ScratchSize(place, rows=max(stride, scratch.get(place, ScratchSize(place)).rows))
                elif buffer.kind is BufferKind.BLOCK:
                    scratch.setdefault(place, ScratchSize(place, batch=stride))
        per_thread = max((outer_scratch(real, r.x_size) for r in plan.reductions), default=0)
        self.is_backward = loop is plan.backward
        if self.is_backward:
            scratch[Word.SCRATCH] = ScratchSize(Word.SCRATCH, threads=per_thread)
        self._scratch = list(scratch.values())
        self.template = (ctypes.c_int64 * len(arguments))()
        self.template[Word.SCRATCH_EACH] = per_thread
        for word, pointer in openmp.addresses().items():
            self.template[word] = pointer
        index = {node: i for i, node in enumerate(plan.parameters)}
        #: of each parameter and each part of one: its index, its place and its offset in bytes
        self.parameters = [(index[node], place, 0) for node, place in places.items() if node in index]
        computed = {node: place for node, place in places.items() if node not in index}
        dtype = getattr(torch, real.name)
        parts = find_parts(plan.parameters, list(computed), dtype) if computed else {}
        for node, (i, begin) in parts.items():
            self.parameters.append((i, computed.pop(node), begin * real.bytes))
        #: of other values computed from parameters, and the function that computes them
        self.computed_places = list(computed.values())
        self.compute = build_function(plan.parameters, list(computed), dtype) if computed else None

    @staticmethod
    def aligned(address: int) -> int:
        """The first address from `address` up that begins a cache line."""
        return -(-address // LINE) * LINE

    def frame(self, rows: StepRows, count: int) -> "CallFrame":
        """Return what all calls with such rows share, for this number of threads."""
        # Ragged rows hardly ever repeat.
        return self.make_frame(rows, count) if rows.packed else self._cached_frame(rows, count)

    @functools.lru_cache(maxsize=MAX_CACHED_SHAPES)  # noqa: B019  shared by all layouts, which live as long as the process
    def _cached_frame(self, rows: StepRows, count: int) -> "CallFrame":
        return self.make_frame(rows, count)

    def make_frame(self, rows: StepRows, count: int, direct: bool = False, max_rows: int = 0) -> "CallFrame":
        """Make a frame.

        Args:
            rows: of the calls.
            count: the number of threads.
            direct: matrices are not packed, which is faster for few rows.
            max_rows: of a chunk; 0: as many as the rows have.
        """
        threads, split = threads_for(self.loop, self.real, rows.T, -(-rows.N // rows.T), count)
        chunks = rows.chunks(CHUNK_ROWS)
        max_rows = max_rows or max(int(rows.begins[end] - rows.begins[begin]) for begin, end in chunks)
        # One block of memory holds packed matrices, buffers of a step and buffers of a chunk.
        size, offsets, total = self.real.bytes, [], 0
        for s in self._scratch:
            offsets.append((s.place, total))
            numel = s.panels * (not direct) + s.batch * rows.B + s.rows * max_rows + s.threads * threads
            total += -(-numel * size // LINE) * LINE
        template = type(self.template).from_buffer_copy(self.template)
        template[Word.B] = rows.B
        template[Word.SPLIT] = int(split)
        template[Word.DEALT] = int(rows.packed)
        template[Word.DIRECT] = int(direct)
        template[Word.BEGINS] = rows.address
        return CallFrame(rows, threads, split, chunks, (total + LINE) // size, tuple(offsets), template)


class CallFrame(NamedTuple):
    """The data that calls with the same T and B share, for one number of threads.

    Attributes:
        rows: of the call; the template points to their memory.
        threads: how many run the loop.
        split: threads share the columns, not the rows.
        chunks: the steps at which each chunk begins and ends.
        numel: elements of scratch memory.
        offsets: the place of each argument that points to scratch memory, and its offset in bytes.
        template: of the arguments.
    """

    rows: StepRows
    threads: int
    split: bool
    chunks: tuple[tuple[int, int], ...]
    numel: int
    offsets: tuple[tuple[int, int], ...]
    template: Any


class StateArguments(NamedTuple):
    """The places of the arguments of a state, or of its cotangent; see `Role`. None if a plan does not have one."""

    address: int | None
    before: int | None
    previous: int | None
    hop: int | None


def state_arguments(arguments: PlanArguments, buffer: str) -> StateArguments:
    """Find the arguments of the state in a buffer."""
    roles = (Role.ADDRESS, Role.BEFORE, Role.PREVIOUS, Role.HOP)
    return StateArguments(*(arguments.find(Argument(role, buffer)) for role in roles))


def with_contiguous_columns(dy: Tensor) -> Tensor:
    """Return the cotangent of outputs as the kernels read it: any strides, but those of 1 from column to column."""
    if dy.stride(-1) == 1 or dy.shape[-1] == 1:
        return dy
    if any(dy.stride()):
        return dy.contiguous()
    # The gradient of a sum, say, has strides of zero: one row of it is enough.
    return dy[(slice(1),) * (dy.dim() - 1)].contiguous().expand_as(dy)


class Invocation:
    """The arguments and memory of one call.

    Args:
        layout: of the programs that will run.
        entry: runs the function whose address is the first argument, on some threads.
        rows: of the call.
        x: a tensor of the dtype of all memory.
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
        self._alive: list[Tensor] = []
        #: place, address, bytes from step to step and from row to row, of tensors whose addresses move with the chunks
        self._moving: list[tuple[int, int, int, int]] = []
        self._previous: list[tuple[int, Tensor, Tensor]] = []  # place, sequence and initial value of states
        self._previous_of_chunk: list[Tensor] = []
        for index, place, offset in layout.parameters:
            parameter = parameters[index].contiguous()
            self.data[place] = parameter.data_ptr() + offset
            self._alive.append(parameter)
        if layout.compute is not None:
            for place, value in zip(layout.computed_places, layout.compute(*parameters), strict=True):
                assert value is not None
                self.put(place, value.to(x.dtype).contiguous())
        self._scratch = scratch_memory.take(frame.numel * layout.real.bytes)
        begin = layout.aligned(self._scratch.data_ptr())
        for place, offset in frame.offsets:
            self.data[place] = begin + offset
        if frame.split:
            self.put(Word.BARRIER, torch.zeros(BARRIER_WORDS, dtype=torch.int64))

    def put(self, place: int, tensor: Tensor) -> None:
        """Put a tensor's address into an argument."""
        self.data[place] = tensor.data_ptr()
        self._alive.append(tensor)

    def put_rows(self, place: int | None, tensor: Tensor) -> None:
        """Put the address of a tensor that has every row of the call, and moves with the chunks; unless None."""
        if place is not None:
            row = tensor.shape[-1] * tensor.element_size()
            self._alive.append(tensor)
            self._moving.append((place, tensor.data_ptr(), 0, row))

    def put_state(self, arguments: StateArguments, sequence: Tensor, initial: Tensor) -> None:
        """Put the addresses of a state after every step, and before the first."""
        self.put_rows(arguments.address, sequence)
        if arguments.before is not None:
            self.put(arguments.before, initial)
        if self.layout.is_backward and arguments.previous is not None:
            self._previous.append((arguments.previous, sequence, initial))

    def allocate_halves(self, arguments: StateArguments, size: int, initial: Tensor | None, half: int) -> Tensor:
        """Allocate two halves (2, B, size), which successive states use in turn.

        Args:
            arguments: of the state.
            size: its width.
            initial: copied into one half, or into both if rows are ragged; None: zeros.
            half: the half that gets the initial value.
        """
        shape = (2, self.rows.B, size)
        if initial is None:
            halves = self.x.new_zeros(shape)
        else:
            halves = self.x.new_empty(shape)
            halves[slice(None) if self.rows.packed else half] = initial
        if arguments.address is not None:
            self.put(arguments.address, halves)
        if arguments.hop is not None:
            self.data[arguments.hop] = halves[0].numel()
        return halves

    def put_cotangent(self, dy: Tensor) -> None:
        """Put the address and the strides of the cotangent of the outputs."""
        dy = with_contiguous_columns(dy)
        # Packed rows have one stride; others have one from step to step and one within a step.
        step, begin = (0, dy.stride(0)) if self.rows.packed else (dy.stride(0), 0)
        self._alive.append(dy)
        size = dy.element_size()
        self._moving.append((Word.DY, dy.data_ptr(), step * size, begin * size))
        data = self.data
        data[Word.DY_STEP], data[Word.DY_BEGIN], data[Word.DY_ROW] = step, begin, dy.stride(-2)

    def move(self, begin: int, end: int, add: bool = False) -> None:
        """Move every address to a chunk of steps; `add`: sums are added to those of the chunk before."""
        data, first, last = self.data, int(self.rows.begins[begin]), int(self.rows.begins[end])
        data[Word.TIME], data[Word.STEPS], data[Word.ADD] = begin, end - begin, int(add)
        data[Word.ROWS], data[Word.ORIGIN] = last - first, first
        for place, pointer, step, row in self._moving:
            data[place] = pointer + begin * step + first * row
        # Of ragged rows these are copies, of which one chunk at a time is kept.
        self._previous_of_chunk.clear()
        for place, sequence, initial in self._previous:
            states = self.rows.previous_states(begin, end, sequence, initial)
            data[place] = states.data_ptr()
            self._previous_of_chunk.append(states)

    def run(self, function: int) -> None:
        """Run a function of the plan on all threads."""
        self.data[0] = function
        self.entry(self.address, self.threads)

    def release(self) -> None:
        """Give the scratch memory back; nothing may run after it."""
        scratch_memory.give_back(self._scratch)


# The cost model that chooses threads: rough figures of one core of a current CPU.
FLOPS = 1e11  # per second; a multiply-add counts twice
BANDWIDTH = 5e10  # bytes per second, of matrices that pass through the caches at every step
WAIT = 5e-7  # seconds of a barrier
START = 1e-5  # seconds to start all threads if they spin while they wait
WAKE = 1e-4  # the same if they sleep; once for every function that a call runs
PER_ROW = 1e-7  # seconds of all but the products


def loop_seconds(loop: Program, real: Real, T: int, B: int, count: int) -> tuple[float, float, float]:
    """Estimate the time of a loop on one thread, and on `count` that share the rows or the columns of a step."""
    numel = sum(stage.depth * stage.width for stage in loop.stages if isinstance(stage, Product))

    def seconds(rows: int, share: float) -> float:
        products = max(2 * rows / FLOPS, real.packed_bytes / BANDWIDTH) * numel * share
        return products + rows * share * PER_ROW

    start = WAKE * (1 + 2 * -(-T * B // CHUNK_ROWS)) if openmp.asleep() else START
    by_rows = T * seconds(-(-B // count), 1) + start
    by_columns = T * (seconds(B, 1 / count) + WAIT * len(loop.stages)) + start
    return T * seconds(B, 1), by_rows, by_columns


def threads_for(loop: Program, real: Real, T: int, B: int, count: int) -> tuple[int, bool]:
    """Choose how many threads of `count` run a loop, and whether they share the columns of a step, not its rows."""
    if count == 1:
        return 1, False
    alone, by_rows, by_columns = loop_seconds(loop, real, T, B, count)
    if alone <= min(by_rows, by_columns):
        return 1, False
    return count, by_columns < by_rows


HUGE_PAGES_FROM = 1 << 22  # bytes
MAX_KEPT = 1 << 26  # bytes of a block that is kept for the next call


class ScratchMemory:
    """Blocks of scratch memory that calls take and give back.

    The system clears fresh memory page by page, which takes as long as the products of a small call.
    """

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, size: int) -> Tensor:
        """Take a block of at least `size` bytes."""
        try:
            block: Tensor | None = self._free.pop()  # not shared: other threads take their own
        except IndexError:
            block = None
        return block if block is not None and len(block) >= size else _empty(size)

    def give_back(self, block: Tensor) -> None:
        """Keep a block for later calls, if it is not too large. So the largest of those of a model remains."""
        if len(block) <= MAX_KEPT and not self._free:
            self._free.append(block)


scratch_memory = ScratchMemory()


def _empty(size: int) -> Tensor:
    """Allocate scratch memory of `size` bytes, in huge pages if it is large.

    Large blocks are given back to the system when they are freed, and come again page by page, and every product reads
    all packed matrices: with pages of 2 MiB instead of 4 KiB, a loop with H = 1024 ran 6 % faster. Many systems give
    huge pages only to programs that ask. Results do not ask for them: threads that write to one huge page for the first
    time wait for each other, which made a step with H = 1024 that saves its gates slower.
    """
    tensor = torch.empty(size, dtype=torch.uint8, device="cpu")
    if size >= HUGE_PAGES_FROM and (madvise := _madvise()) is not None:
        address = tensor.data_ptr()
        begin = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        # Advice alone: a system without huge pages uses small ones.
        madvise(begin, address + size - begin, mmap.MADV_HUGEPAGE)
    return tensor


@functools.cache
def _madvise() -> Any:
    if sys.platform != "linux" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
