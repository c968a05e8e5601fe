"""One call of a compiled plan: its slots, its memory, its chunks of steps."""

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from elman.through_time.native import emit, pool
from elman.through_time.native.body import stride as stride_of
from elman.through_time.native.memory import empty
from elman.through_time.native.recipe import recipe
from elman.through_time.native.sums import outer_scratch
from elman.through_time.native.team import BARRIER
from elman.through_time.native.writer import Real
from elman.through_time.plan import Plan
from elman.through_time.program import Kind, Product, Program

ROWS = 512  # of steps times batch, in a chunk: worked on together between the loop and what comes before and after it
LINE = 64  # bytes, of a cache
FRAMES = 1024  # remembered, of as many layouts and shapes


class Piece(NamedTuple):
    """Memory that a call needs for a slot, in numbers: so many, and more for the batch, a chunk's rows, the threads."""

    slot: int
    fixed: int = 0
    batch: int = 0
    rows: int = 0
    threads: int = 0


class Layout:
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
        pieces: dict[int, Piece] = {}
        for program in (around, loop):
            for weight, transposed in program.weights():
                slot = self.number[emit.panels_name(weight, transposed)]
                pieces[slot] = Piece(slot, emit.panels_size(weight, transposed, real))
                self.given[weight] = self.number[weight.name]
            for node in emit.vectors(program):
                self.given[node] = self.number[node.name]
            for buffer in program.buffers():
                slot, stride = self.number[buffer.name], stride_of(buffer, real)
                if buffer.kind is Kind.CHUNK or (buffer.kind is Kind.BLOCK and program is around):
                    pieces[slot] = Piece(slot, rows=max(stride, pieces.get(slot, Piece(slot)).rows))
                elif buffer.kind is Kind.BLOCK:
                    pieces.setdefault(slot, Piece(slot, batch=stride))
        self.scratch = max((outer_scratch(real, r.x_size) for r in plan.reductions), default=0)
        self.backwards = loop is plan.backward
        if self.backwards:
            slot = self.number["scratch"]
            pieces[slot] = Piece(slot, threads=self.scratch)
        self.pieces = list(pieces.values())
        self.template = (ctypes.c_int64 * len(self.number))()
        for name, value in {**pool.addresses(), "scratch.each": self.scratch}.items():
            self.template[self.number[name]] = value
        # Parameters as they are have their place in the list of them; values made of several must be worked out.
        order = {node: i for i, node in enumerate(plan.parameters)}
        self.plain = [(order[node], slot) for node, slot in self.given.items() if node in order]
        made = {node: slot for node, slot in self.given.items() if node not in order}
        self.made = list(made.values())
        self.make = recipe(plan.parameters, list(made), getattr(torch, real.name)) if made else None

    @functools.lru_cache(maxsize=FRAMES)  # noqa: B019  a layout lives as long as the process
    def frame(self, T: int, B: int, count: int) -> "Frame":
        """What is the same in every call with this T and B, while torch has this number of threads."""
        threads, split = threads_for(self.loop, self.real, T, B, count)
        steps = max(1, min(T, ROWS // max(B, 1)))
        # Packed matrices, buffers of a step and buffers of a chunk, in one piece of memory.
        rows, size, places, total = steps * B, self.real.bytes, [], 0
        for p in self.pieces:
            places.append((p.slot, total))
            needed = (p.fixed + p.batch * B + p.rows * rows + p.threads * threads) * size
            total += -(-needed // LINE) * LINE
        template = type(self.template).from_buffer_copy(self.template)
        template[self.number["B"]], template[self.number["split"]] = B, int(split)
        chunks = tuple((t, min(t + steps, T)) for t in range(0, T, steps))
        return Frame(threads, split, chunks, (total + LINE) // size, tuple(places), template)


class Frame(NamedTuple):
    """What is the same in every call with one T and B, on as many threads."""

    threads: int
    split: bool  # the columns among the threads, and not the rows
    chunks: tuple[tuple[int, int], ...]  # the steps at which each begins and ends
    numbers: int  # of memory, in all
    places: tuple[tuple[int, int], ...]  # slots, and where their memory begins, in bytes
    template: Any  # of the slots


class Call:
    """One call's slots and memory.

    Args:
        layout: of the programs that will run.
        entry: runs the function whose address is in the first slot, on some threads.
        x: (T, B, D), whose dtype is that of all memory.
        parameters: in the order of the plan.
    """

    def __init__(
        self, layout: Layout, entry: Callable[[int, int], None], x: Tensor, parameters: Sequence[Tensor]
    ) -> None:
        self.layout, self.entry, self.number, self.x = layout, entry, layout.number, x
        T, B, _ = x.shape
        frame = layout.frame(T, B, pool.threads())
        self.threads, self.chunks = frame.threads, frame.chunks
        self.data = type(frame.template).from_buffer_copy(frame.template)
        self.address = ctypes.addressof(self.data)
        self.alive: list[Tensor] = []
        self.moving: list[tuple[int, int, int]] = []
        self.first: list[tuple[int, int, int, int]] = []
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
        begin = -(-memory.data_ptr() // LINE) * LINE
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
        """A tensor (T, B, ...) whose slot moves with the chunks; `before` is the row before its first."""
        if name not in self.number:
            return
        step = tensor.stride(0) * tensor.element_size()
        self.alive.append(tensor)
        self.moving.append((self.number[name], tensor.data_ptr(), step))
        if before is not None:
            self.alive.append(before)
            self.states[name] = (before, tensor)
            if f"{name}.before" in self.number:
                self.first.append((self.number[f"{name}.before"], before.data_ptr(), tensor.data_ptr(), step))

    def swapped(self, name: str, size: int, initial: Tensor | None, half: int) -> Tensor:
        """Memory for two states, which take turns; one begins as `initial`, or zero."""
        shape = (2, self.x.shape[1], size)
        if initial is None:
            both = self.x.new_zeros(shape)
        else:
            both = self.x.new_empty(shape)
            both[half] = initial
        self.point(name, both)
        self.swaps[name] = both
        return both

    def cotangent(self, dy: Tensor) -> None:
        """The cotangent of the outputs, whose rows may lie anywhere."""
        if dy.stride(-1) != 1 and dy.shape[-1] > 1:
            dy = dy.contiguous()
        self.along("dy", dy)
        self.set("dy.step", dy.stride(0))
        self.set("dy.row", dy.stride(1))

    def move(self, begin: int, end: int, add: bool = False) -> None:
        """Point every slot at a chunk."""
        for name, value in (("time", begin), ("steps", end - begin), ("rows", (end - begin) * self.x.shape[1])):
            self.set(name, value)
        self.set("add", int(add))
        for number, address, step in self.moving:
            self.data[number] = address + begin * step
        for number, first, address, step in self.first:
            self.data[number] = address + (begin - 1) * step if begin else first
        for name, (before, sequence) in self.states.items():
            if self.layout.backwards and f"{name}.previous" in self.number:
                earlier = sequence[begin - 1 :] if begin else torch.cat((before[None], sequence[: end - 1]))
                self.point(f"{name}.previous", earlier)

    def run(self, function: int) -> None:
        """Run a function of the plan on all threads."""
        self.data[0] = function
        self.entry(self.address, self.threads)


# What the choice of threads reckons with: roughly what a core of today does.
FLOPS = 1e11  # multiply-adds count twice
BANDWIDTH = 5e10  # bytes per second, of matrices that pass through the caches at every step
WAIT = 5e-7  # seconds, of a barrier
START = 1e-5  # seconds, of setting all threads to work


def threads_for(loop: Program, real: Real, T: int, B: int, count: int) -> tuple[int, bool]:
    """How many threads of `count` a loop uses, and whether they share the columns of a step rather than its rows."""
    products_of_step = [stage for stage in loop.stages if isinstance(stage, Product)]
    numbers = sum(stage.depth * stage.width for stage in products_of_step)

    def seconds(rows: int, share: float) -> float:
        return max(2 * rows * numbers * share / FLOPS, real.bytes * numbers * share / BANDWIDTH) + rows * share * 1e-7

    by_rows = T * seconds(-(-B // count), 1) + START
    by_columns = T * (seconds(B, 1 / count) + WAIT * len(loop.stages)) + START
    if count == 1 or T * seconds(B, 1) <= min(by_rows, by_columns):
        return 1, False
    return count, by_columns < by_rows
