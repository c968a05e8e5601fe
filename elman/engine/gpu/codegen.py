"""Generates the source of the Triton kernels of a plan: readable Python, one function for each pass.

Each loop has two forms, of the same passes:

- `whole`: one kernel walks through all steps, for `ROWS` rows of the batch in each program. For narrow states.
- `step`: a kernel for each pass, launched at every step, with programs for rows and for tiles of columns. For wide
  states, whose matrices one program would take too long to read.

The programs before and after the loop have a kernel for each pointwise pass, over the rows of all steps.

Rows are counted from the first of a step, `begins[t]`, in 64 bits; within a program, offsets fit in 32 bits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elman.engine.gpu.names import memory_name, pointer_name
from elman.engine.gpu.pass_writer import (
    ROWS,
    STEP,
    WHOLE,
    Tiles,
    arguments_of,
    column_tiles,
    reads_cotangent,
    tiles_of,
    write_pass,
)
from elman.engine.gpu.passes import Pass, barriers, passes_of, separate_passes
from elman.engine.plan.ir import BufferColumns, BufferKind
from elman.engine.plan.planner import Plan

LOOPS = ("inference", "forward", "backward")
INTEGERS = ("T", "B", "t", "N", "last", "dy_stride")  # none is specialized: other sizes need no other kernel
HALVES = (BufferKind.CURRENT, BufferKind.NEXT, BufferKind.COTANGENT)

HEADER = '''"""Kernels that elman generated for the plan {key}; read them, but do not change them.

{description}
"""

import triton
import triton.language as tl

from elman.engine.gpu import functions
'''


class KernelSpec(NamedTuple):
    """A kernel of a generated module.

    Attributes:
        name: of its function.
        pointers: the names of its pointers, in order.
        integers: the names of the numbers after these.
        tiles: of columns, for each of which there is a program.
        only_for_next: only the next step uses its results.
        writes: the columns that it stores.
    """

    name: str
    pointers: tuple[str, ...]
    integers: tuple[str, ...]
    tiles: int = 1
    only_for_next: bool = False
    writes: tuple[BufferColumns, ...] = ()


class Source(NamedTuple):
    """A generated module: its text, and its kernels by program.

    Attributes:
        text: of the module.
        whole: the kernel of each loop.
        step: the kernels of each step of a loop.
        rows: the kernels of each pointwise stage of a program before or after the loop.
    """

    text: str
    whole: dict[str, KernelSpec]
    step: dict[str, list[KernelSpec]]
    rows: dict[str, list[list[KernelSpec]]]


def generate(plan: Plan, key: str, description: str) -> Source:
    """Generate the kernels of a plan."""
    programs = {"inference": plan.inference, "forward": plan.forward, "backward": plan.backward}
    lines: list[str] = HEADER.format(key=key, description=description).splitlines()
    source = Source("", {}, {}, {})
    for name, program in programs.items():
        passes = passes_of(name, program)
        for p in passes:
            lines += ["", "", *write_pass(p)]
        whole = _Loop(name, passes, backwards=name == "backward")
        source.whole[name] = whole.whole_spec()
        lines += ["", "", *whole.whole()]
        source.step[name] = []
        for p in passes:
            step = _Loop(f"{p.name}_step", [p], backwards=name == "backward")
            source.step[name].append(step.step_spec())
            lines += ["", "", *step.step()]
    for name, program in (("before", plan.before), ("after", plan.after)):
        source.rows[name] = []
        for passes in separate_passes(name, program):
            source.rows[name].append([_rows_spec(p) for p in passes])
            for p in passes:
                lines += ["", "", *write_pass(p), "", "", *_rows_kernel(p)]
    return source._replace(text="\n".join(lines) + "\n")


class _Loop:
    """Kernels that run passes at a step, or at all steps."""

    def __init__(self, name: str, passes: Sequence[Pass], backwards: bool) -> None:
        self.name, self.passes, self.backwards = name, passes, backwards
        self.buffers = list(dict.fromkeys(buffer for p in passes for buffer in p.buffers()))
        memories = [memory_name(buffer) for buffer in self.buffers]
        initial = [f"{memory_name(buffer)}_before" for buffer in self.buffers if buffer.kind is BufferKind.PREVIOUS]
        pointers = {pointer_name(buffer) for buffer in self.buffers}
        parameters = [name for p in passes for name in arguments_of(p) if name not in pointers]
        self.has_cotangent = any(map(reads_cotangent, passes))
        self.pointers = tuple(dict.fromkeys([*memories, *initial, *parameters, *(["dy"] * self.has_cotangent)]))
        self.has_last = backwards and any(p.only_for_next for p in passes)

    def whole_spec(self) -> KernelSpec:
        extra = [*(["last"] * self.has_last), *(["dy_stride"] * self.has_cotangent)]
        return KernelSpec(self.name, (*self.pointers, "begins"), ("T", "B", *extra))

    def step_spec(self) -> KernelSpec:
        (p,) = self.passes
        integers = ("t", "B", *(["dy_stride"] * self.has_cotangent))
        return KernelSpec(
            self.name, (*self.pointers, "begins"), integers, column_tiles(p, STEP), p.only_for_next, tuple(p.writes())
        )

    def whole(self) -> Iterator[str]:
        """Write the kernel that walks through all steps."""
        yield from _signature(self.whole_spec())
        yield '    """Runs all steps, for some rows of the batch."""'
        yield f"    row0 = tl.program_id(0).to(tl.int64) * {ROWS}"
        if self.backwards:
            yield "    for s in range(T):"
            yield "        t = T - 1 - s"
        else:
            yield "    for t in range(T):"
        yield from self._pointers_at_step(8)
        waits = barriers(self.passes)
        for p, wait in zip(self.passes, waits, strict=True):
            indent = " " * 8
            if self.backwards and p.only_for_next:
                yield f"{indent}if t != last:"
                indent += "    "
            if wait:
                yield f"{indent}tl.debug_barrier()"
            if (tiles := column_tiles(p, WHOLE)) > 1:
                yield f"{indent}for tile in range({tiles}):"
                yield f"{indent}    {self._call(p, 'tile', WHOLE)}"
            else:
                yield f"{indent}{self._call(p, '0', WHOLE)}"
        yield "        tl.debug_barrier()  # the next step reads what other threads have written"

    def step(self) -> Iterator[str]:
        """Write the kernel of one pass at one step."""
        yield from _signature(self.step_spec())
        yield '    """Runs one step, for some rows of the batch and one tile of columns."""'
        yield f"    row0 = tl.program_id(0).to(tl.int64) * {ROWS}"
        yield from self._pointers_at_step(4)
        yield f"    {self._call(self.passes[0], 'tl.program_id(1)', STEP)}"

    def _pointers_at_step(self, spaces: int) -> Iterator[str]:
        """Move the pointers to the rows of step t."""
        indent = " " * spaces
        yield f"{indent}first = tl.load(begins + t) + row0"
        yield f"{indent}limit = tl.load(begins + t + 1) - first"
        previous = [buffer for buffer in self.buffers if buffer.kind is BufferKind.PREVIOUS]
        for buffer in self.buffers:
            target, memory = f"at_{pointer_name(buffer)}", memory_name(buffer)
            if buffer.kind in (BufferKind.STEP, BufferKind.CHUNK):
                yield f"{indent}{target} = {memory} + first * {buffer.width}"
            elif buffer.kind is BufferKind.BLOCK:
                yield f"{indent}{target} = {memory} + row0 * {buffer.width}"
            elif buffer.kind in HALVES:
                # Steps use the halves in turn: what one writes as NEXT, the following reads as CURRENT.
                half = "t" if (buffer.kind is BufferKind.NEXT) == self.backwards else "t + 1"
                yield f"{indent}{target} = {memory} + ({half}) % 2 * tl.cast(B, tl.int64) * {buffer.width} " + (
                    f"+ row0 * {buffer.width}"
                )
        if previous:
            yield f"{indent}if t > 0:"
            for buffer in previous:
                at = f"(tl.load(begins + t - 1) + row0) * {buffer.width}"
                yield f"{indent}    at_{pointer_name(buffer)} = {memory_name(buffer)} + {at}"
            yield f"{indent}else:"
            for buffer in previous:
                yield (f"{indent}    at_{pointer_name(buffer)} = {memory_name(buffer)}_before + row0 * {buffer.width}")
        if self.has_cotangent:
            yield f"{indent}at_dy = dy + first * dy_stride"

    def _call(self, p: Pass, tile: str, form: Tiles) -> str:
        pointers = {pointer_name(buffer) for buffer in p.buffers()}
        arguments = [f"at_{name}" if name in pointers else name for name in arguments_of(p)]
        arguments += ["at_dy", "dy_stride"] if reads_cotangent(p) else []
        return f"{p.name}({', '.join([*arguments, 'limit', tile, *_constants(p, form)])})"


def _rows_spec(p: Pass) -> KernelSpec:
    return KernelSpec(f"{p.name}_rows", tuple(arguments_of(p)), ("N",), column_tiles(p, WHOLE))


def _rows_kernel(p: Pass) -> Iterator[str]:
    """Write the kernel of a pass over the rows of all steps."""
    yield from _signature(_rows_spec(p))
    yield '    """Runs some of the rows of all steps, for one tile of columns."""'
    yield f"    row0 = tl.program_id(0).to(tl.int64) * {ROWS}"
    yield "    limit = N - row0"
    moved = {pointer_name(buffer): buffer.width for buffer in p.buffers()}
    arguments = [f"{name} + row0 * {moved[name]}" if name in moved else name for name in arguments_of(p)]
    yield f"    {p.name}({', '.join([*arguments, 'limit', 'tl.program_id(1)', *_constants(p, WHOLE)])})"


def _constants(p: Pass, form: Tiles) -> list[str]:
    """Return the last arguments of the function of a pass."""
    return ["REAL", "PRECISION", *map(str, tiles_of(p, form))]


def _signature(spec: KernelSpec) -> Iterator[str]:
    yield f"@triton.jit(do_not_specialize={list(spec.integers)})"
    names = ", ".join([*spec.pointers, *spec.integers, "REAL: tl.constexpr", "PRECISION: tl.constexpr"])
    yield f"def {spec.name}({names}):"
