"""One call of a compiled plan: its slots, its memory, its chunks of steps."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from elman.engine.cpu import codegen, openmp
from elman.engine.cpu.barrier import BARRIER
from elman.engine.cpu.eager_graph import recipe
from elman.engine.cpu.function_builder import stride as stride_of
from elman.engine.cpu.ir_builder import Real
from elman.engine.cpu.memory import empty
from elman.engine.cpu.reductions import outer_scratch
from elman.engine.cpu.rows import REMEMBERED, Rows
from elman.engine.plan.ir import BufferKind, Product, Program
from elman.engine.plan.planner import Plan

ROWS = 512  # of steps times batch, in a chunk: worked on together between the loop and what comes before and after it
LINE = 64  # bytes, of a cache


class ScratchSize(NamedTuple):
    """Memory that a call needs for a slot, in numbers: of packed matrices, for B, a chunk's rows, the threads."""

    slot: int
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
        number: of each slot.
    """

    def __init__(self, plan: Plan, loop: Program, around: Program, real: Real, number: dict[str, int]) -> None:
        self.plan, self.loop, self.real, self.number = plan, loop, real, number
        self.given: dict[fx.Node, int] = {}  # parameters, or values made of them, and the slots they go to
        pieces: dict[int, ScratchSize] = {}
        for program in (around, loop):
            for weight, transposed in program.weights():
                slot = self.number[codegen.panels_name(weight, transposed)]
                pieces[slot] = ScratchSize(slot, codegen.panels_size(weight, transposed, real))
                self.given[weight] = self.number[weight.name]
            for node in codegen.vectors(program):
                self.given[node] = self.number[node.name]
            for buffer in program.buffers():
                slot, stride = self.number[buffer.name], stride_of(buffer, real)
                if buffer.kind is BufferKind.CHUNK or (buffer.kind is BufferKind.BLOCK and program is around):
                    pieces[slot] = ScratchSize(slot, rows=max(stride, pieces.get(slot, ScratchSize(slot)).rows))
                elif buffer.kind is BufferKind.BLOCK:
                    pieces.setdefault(slot, ScratchSize(slot, batch=stride))
        self.scratch = max((outer_scratch(real, r.x_size) for r in plan.reductions), default=0)
        self.backwards = loop is plan.backward
        if self.backwards:
            slot = self.number["scratch"]
            pieces[slot] = ScratchSize(slot, threads=self.scratch)
        self.pieces = list(pieces.values())
        self.template = (ctypes.c_int64 * len(self.number))()
        for name, value in {**openmp.addresses(), "scratch.each": self.scratch}.items():
            self.template[self.number[name]] = value
        # Parameters as they are have their place in the list of them; values made of several must be worked out.
        order = {node: i for i, node in enumerate(plan.parameters)}
        self.plain = [(order[node], slot) for node, slot in self.given.items() if node in order]
        made = {node: slot for node, slot in self.given.items() if node not in order}
        self.made = list(made.values())
        self.make = recipe(plan.parameters, list(made), getattr(torch, real.name)) if made else None

    @staticmethod
    def aligned(address: int) -> int:
        """Where the memory of a call begins, in what was allocated for it."""
        return -(-address // LINE) * LINE

    def frame(self, rows: Rows, count: int) -> "CallFrame":
        """What is the same in every call with such rows, while torch has this number of threads."""
        # Of ragged rows hardly any come twice.
        return self.new_frame(rows, count) if rows.packed else self._known_frame(rows, count)

    @functools.lru_cache(maxsize=REMEMBERED)  # noqa: B019  a layout lives as long as the process
    def _known_frame(self, rows: Rows, count: int) -> "CallFrame":
        return self.new_frame(rows, count)

    def new_frame(self, rows: Rows, count: int, direct: bool = False) -> "CallFrame":
        """As `frame`, made anew; `direct`ly multiplied are few rows by matrices that nobody packs."""
        threads, split = threads_for(self.loop, self.real, rows.T, -(-rows.N // rows.T), count)
        chunks = rows.chunks(ROWS)
        most = max(int(rows.begins[end] - rows.begins[begin]) for begin, end in chunks)
        # Packed matrices, buffers of a step and buffers of a chunk, in one piece of memory.
        size, places, total = self.real.bytes, [], 0
        for p in self.pieces:
            places.append((p.slot, total))
            needed = (p.panels * (not direct) + p.batch * rows.B + p.rows * most + p.threads * threads) * size
            total += -(-needed // LINE) * LINE
        template = type(self.template).from_buffer_copy(self.template)
        for name, value in {
            "B": rows.B,
            "split": int(split),
            "dealt": int(rows.packed),
            "direct": int(direct),
            "begins": rows.address,
        }.items():
            template[self.number[name]] = value
        return CallFrame(rows, threads, split, chunks, (total + LINE) // size, tuple(places), template)


class CallFrame(NamedTuple):
    """What is the same in every call with one T and B, on as many threads."""

    rows: Rows  # to whose memory the template points
    threads: int
    split: bool  # the columns among the threads, and not the rows
    chunks: tuple[tuple[int, int], ...]  # the steps at which each begins and ends
    numbers: int  # of memory, in all
    places: tuple[tuple[int, int], ...]  # slots, and where their memory begins, in bytes
    template: Any  # of the slots


class Invocation:
    """One call's slots and memory.

    Args:
        layout: of the programs that will run.
        entry: runs the function whose address is in the first slot, on some threads.
        rows: of the call.
        x: whose dtype is that of all memory.
        parameters: in the order of the plan.
    """

    def __init__(
        self, layout: CallLayout, entry: Callable[[int, int], None], rows: Rows, x: Tensor, parameters: Sequence[Tensor]
    ) -> None:
        self.layout, self.entry, self.number, self.x = layout, entry, layout.number, x
        self.rows, self.frame = rows, (frame := layout.frame(rows, openmp.threads()))
        self.threads, self.chunks = frame.threads, frame.chunks
        self.data = type(frame.template).from_buffer_copy(frame.template)
        self.address = ctypes.addressof(self.data)
        self.alive: list[Tensor] = []
        self.moving: list[tuple[int, int, int, int]] = []  # slot, address, bytes from step to step and from row to row
        self.swaps: dict[str, Tensor] = {}
        self.states: dict[str, tuple[Tensor, Tensor]] = {}
        for index, slot in layout.plain:
            self.put(slot, parameters[index].contiguous())
        if layout.make is not None:
            for slot, value in zip(layout.made, layout.make(*parameters), strict=True):
                assert value is not None
                self.put(slot, value.to(x.dtype).contiguous())
        memory = empty(x, frame.numbers)
        self.alive.append(memory)
        begin = layout.aligned(memory.data_ptr())
        for slot, offset in frame.places:
            self.data[slot] = begin + offset
        if frame.split:
            self.point("barrier", torch.zeros(BARRIER, dtype=torch.int64))

    def set(self, name: str, value: int) -> None:
        """Put a number into a slot."""
        self.data[self.number[name]] = value

    def put(self, slot: int, tensor: Tensor) -> None:
        """Put a tensor's address into the slot of a number."""
        self.data[slot] = tensor.data_ptr()
        self.alive.append(tensor)

    def point(self, name: str, tensor: Tensor) -> None:
        """Put a tensor's address into a slot, if there is one."""
        if name in self.number:
            self.put(self.number[name], tensor)

    def along(self, name: str, tensor: Tensor, before: Tensor | None = None) -> None:
        """A tensor with numbers for every row, whose slot moves with the chunks; `before`, of the rows before those."""
        if name not in self.number:
            return
        row = tensor.shape[-1] * tensor.element_size()
        self.alive.append(tensor)
        self.moving.append((self.number[name], tensor.data_ptr(), 0, row))
        if before is not None:
            self.point(f"{name}.before", before)
            self.states[name] = (tensor, before)

    def swapped(self, name: str, size: int, initial: Tensor | None, half: int) -> Tensor:
        """Memory for two states, which take turns; one begins as `initial`, or zero, and of ragged rows both."""
        shape = (2, self.rows.B, size)
        if initial is None:
            both = self.x.new_zeros(shape)
        else:
            both = self.x.new_empty(shape)
            both[slice(None) if self.rows.packed else half] = initial
        self.point(name, both)
        if f"{name}.hop" in self.number:
            self.set(f"{name}.hop", both[0].numel())
        self.swaps[name] = both
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
        self.moving.append((self.number["dy"], dy.data_ptr(), step * size, begin * size))
        for name, value in (("step", step), ("begin", begin), ("row", dy.stride(-2))):
            self.set(f"dy.{name}", value)

    def move(self, begin: int, end: int, add: bool = False) -> None:
        """Point every slot at a chunk."""
        first, last = int(self.rows.begins[begin]), int(self.rows.begins[end])
        sizes = {"time": begin, "steps": end - begin, "rows": last - first, "origin": first, "add": int(add)}
        for name, value in sizes.items():
            self.set(name, value)
        for number, address, step, row in self.moving:
            self.data[number] = address + begin * step + first * row
        for name, (sequence, before) in self.states.items():
            if self.layout.backwards and f"{name}.previous" in self.number:
                self.point(f"{name}.previous", self.rows.earlier(begin, end, sequence, before))

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
