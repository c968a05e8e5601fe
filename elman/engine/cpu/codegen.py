"""Generates LLVM IR for a plan: one function for each of its programs, which calls the kernel library.

Every function takes the address of its arguments (`arguments.py`), the number of the calling thread and the number of
threads. Threads share the rows of the batch, and each takes its rows through all steps. Where there are too few rows,
`Word.SPLIT` makes them share the columns of every stage instead, with a barrier after each.
"""

from contextlib import nullcontext
from typing import Any

from torch.fx import Node

from elman.engine.cpu.arguments import PlanArguments, Word, rows, total, value
from elman.engine.cpu.arguments import panels as panels_of
from elman.engine.cpu.function_builder import Kernel, stride
from elman.engine.cpu.gemm_tile import packed_size, panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Integer, Real, Value
from elman.engine.cpu.pointwise import PointwiseEmitter
from elman.engine.cpu.signatures import declare
from elman.engine.plan.ir import BufferKind, Product, Program
from elman.engine.plan.planner import Plan
from elman.engine.trace.values import shape_of

#: the functions that run each loop
FUNCTIONS = {
    "inference": ("pack_forward", "before", "inference", "step"),
    "forward": ("pack_forward", "before", "forward"),
    "backward": ("pack_backward", "pack_after", "backward", "after", "reduce"),
}


def _matrix_shape(weight: Node, transposed: bool) -> tuple[int, int]:
    """Return K and N of the matrix that a product multiplies by."""
    rows, columns = shape_of(weight)
    return (columns, rows) if transposed else (rows, columns)


def panels_size(weight: Node, transposed: bool, real: Real) -> int:
    """Return how many numbers a packed matrix has."""
    return packed_size(real, *_matrix_shape(weight, transposed))


def write(module: Any, plan: Plan, loop: str, real: Real, arguments: PlanArguments) -> None:
    """Write the functions that run a loop of a plan into a module."""
    emitter = _Emitter(module, plan, real, arguments)
    if loop == "backward":
        emitter.pack("pack_backward", [plan.backward])
        emitter.pack("pack_after", [plan.after])
        emitter.loop("backward", plan.backward, backwards=True)
        emitter.chunk("after", plan.after)
        emitter.reduce()
        return
    emitter.pack("pack_forward", [plan.before, plan.forward])
    emitter.chunk("before", plan.before)
    if loop == "forward":
        emitter.loop("forward", plan.forward)
    else:
        emitter.loop("inference", plan.inference)
        emitter.sequence("step", ["before", "inference"])


class _Emitter:
    def __init__(self, module: Any, plan: Plan, real: Real, arguments: PlanArguments) -> None:
        self.module, self.plan, self.real, self.arguments = module, plan, real, arguments

    def kernel(self, name: str) -> Kernel:
        return Kernel(self.module, name, self.real, self.arguments)

    def chunk(self, name: str, program: Program) -> None:
        """Write a function that runs a program on all rows of a chunk at once, shared among the threads."""
        kernel = self.kernel(name)
        code = kernel.code
        begin, end = code.share(kernel.word(Word.ROWS), code["thread"], code["thread_count"])
        with code.b.if_then(code.compare(begin, "<", end)):
            for stage in program.stages:
                self.stage(kernel, stage, begin, end, 0, 1)
        code.end()

    def sequence(self, name: str, functions: list[str]) -> None:
        """Write a function that calls others, one after the other."""
        code = self.kernel(name).code
        for function in functions:
            code.call(self.module.get_global(function), code["data"], code["thread"], code["thread_count"])
        code.end()

    def loop(self, name: str, program: Program, backwards: bool = False) -> None:
        """Write a function that runs a program for each step of a chunk, for all rows of the batch.

        Backwards, stages that only the next step needs are left out in step `Word.LAST`.
        """
        kernel = self.kernel(name)
        code, b = kernel.code, kernel.code.b
        split = code.compare(kernel.word(Word.SPLIT), "!=", 0)
        thread, thread_count = code["thread"], code["thread_count"]
        # Threads share either the columns (this part of `parts`) or the rows (this `row_part` of `row_parts`).
        part, parts = code.select(split, thread, 0), code.select(split, thread_count, 1)
        row_part, row_parts = code.select(split, 0, thread), code.select(split, 1, thread_count)
        # Rows of ragged sequences go to the threads in turn. In blocks, threads with the short ones would idle.
        dealt = code.compare(kernel.word(Word.DEALT), "!=", 0)
        block = code.share(kernel.word(Word.B), row_part, row_parts)
        begin, kernel.row_step = code.select(dealt, row_part, block[0]), code.select(dealt, row_parts, 1)
        kernel.in_loop, kernel.next_offset = True, 0 if backwards else 1
        has_rows = b.or_(dealt, code.compare(begin, "<", block[1]))
        steps = code.select(has_rows, kernel.word(Word.STEPS), 0)
        with code.loop(0, steps) as count:
            kernel.step = code.sub(code.sub(steps, 1), count) if backwards else count
            end = code.select(dealt, code.sub(kernel.begin(1), kernel.begin()), block[1])
            has_next = code.compare(code.add(kernel.word(Word.TIME), kernel.step), "!=", kernel.word(Word.LAST))
            for stage, only_for_next in zip(program.stages, program.only_for_next_step(), strict=True):
                with b.if_then(has_next) if backwards and only_for_next else nullcontext():
                    self.stage(kernel, stage, begin, end, part, parts)
                    with b.if_then(code.compare(parts, ">", 1)):
                        memory, syscall = kernel.pointer(Word.BARRIER), kernel.word(Word.SYSCALL)
                        code.call(declare(code, "barrier"), memory, parts, syscall)
        code.end()

    def stage(self, kernel: Kernel, stage: Any, begin: Integer, end: Integer, part: Integer, parts: Integer) -> None:
        if isinstance(stage, Product):
            self.product(kernel, stage, begin, end, part, parts)
        else:
            PointwiseEmitter(stage).write(kernel, begin, end, part, parts)

    def product(self, kernel: Kernel, stage: Product, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        code, NR = kernel.code, panel_width(self.real)
        panels = -(-stage.width // NR)
        first, last = code.share(panels, part, parts)
        a, lda = kernel.start(stage.a), kernel.stride(stage.a)
        c, ldc = kernel.start(stage.c), kernel.stride(stage.c)
        # Rows of a BLOCK buffer are padded to whole panels, so tiles may write all of their columns.
        columns = panels * NR if stage.c.buffer.kind is BufferKind.BLOCK else stage.width
        rows = code.div(code.add(code.sub(end, begin), code.sub(kernel.row_step, 1)), kernel.row_step)
        a, lda = code.at(a, code.mul(begin, lda)), code.mul(lda, kernel.row_step)
        c, ldc = code.at(c, code.mul(begin, ldc)), code.mul(ldc, kernel.row_step)
        with code.b.if_else(code.compare(kernel.word(Word.DIRECT), "!=", 0)) as (direct, packed):
            with direct:
                steps = (1, stage.depth) if stage.transposed else (shape_of(stage.weight)[1], 1)
                code.call(
                    declare(code, "direct"), a, lda, kernel.pointer(value(stage.weight)), *steps, c, ldc, rows,
                    stage.width, stage.depth, first, last, int(stage.add),
                )  # fmt: skip
            with packed:
                panels = kernel.pointer(panels_of(stage.weight, stage.transposed))
                # Every other step takes the panels in reverse, for the last ones are still in the cache.
                code.call(
                    declare(code, "product"), a, lda, panels, c, ldc, rows, columns, stage.depth, first, last,
                    int(stage.add), code.rem(kernel.step, 2),
                )  # fmt: skip

    def pack(self, name: str, programs: list[Program]) -> None:
        """Write a function that packs the matrices of some programs."""
        kernel = self.kernel(name)
        code = kernel.code
        for weight, transposed in dict.fromkeys(weight for program in programs for weight in program.weights()):
            K, N = _matrix_shape(weight, transposed)
            steps = (1, K) if transposed else (N, 1)
            share = code.share(-(-N // panel_width(self.real)), code["thread"], code["thread_count"])
            source, panels = kernel.pointer(value(weight)), kernel.pointer(panels_of(weight, transposed))
            code.call(declare(code, "pack"), source, *steps, K, N, *share, panels)
        code.end()

    def reduce(self) -> None:
        """Write a function that sums over the rows of a chunk; with `Word.ADD`, added to the sums of earlier chunks."""
        kernel = self.kernel("reduce")
        code = kernel.code
        scratch = code.at(kernel.pointer(Word.SCRATCH), code.mul(code["thread"], kernel.word(Word.SCRATCH_EACH)))
        row_sums = {(r.d, r.size): r.nodes[0] for r in self.plan.reductions if r.x is None}
        null = code.b.inttoptr(INT(0), POINTER)
        for r in self.plan.reductions:
            d, share = code.at(kernel.pointer(rows(r.d)), r.d.offset), (code["thread"], code["thread_count"])
            if r.x:
                # The sums of the rows of D are computed with D^T X, which reads the same numbers.
                x, sums = r.x, row_sums.pop((r.d, r.size), None)
                right = code.at(kernel.pointer(rows(x)), x.offset), stride(x.buffer, self.real)
                code.call(
                    declare(code, "outer"), d, stride(r.d.buffer, self.real), *right,
                    kernel.pointer(total(r.nodes[0])), r.x_size, kernel.word(Word.ROWS), r.size, r.x_size, *share,
                    kernel.word(Word.ADD), kernel.pointer(total(sums)) if sums else null, scratch,
                )  # fmt: skip
        for (columns, size), node in row_sums.items():
            d = code.at(kernel.pointer(rows(columns)), columns.offset)
            code.call(
                declare(code, "column_sums"), d, stride(columns.buffer, self.real), kernel.word(Word.ROWS), size,
                code["thread"], code["thread_count"], kernel.word(Word.ADD), kernel.pointer(total(node)),
            )  # fmt: skip
        code.end()
