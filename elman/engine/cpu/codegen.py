"""Generates LLVM IR for a plan: one function for each of its programs, which calls the kernel library.

Every function takes the address of its arguments (`arguments.py`), the number of the calling thread and how many there
are. Threads share the rows of the batch, each taking its own through all steps; where these are too few, `Word.SPLIT`
asks them to share the columns of every stage instead, with a barrier after each.
"""

from contextlib import nullcontext
from typing import Any

from torch.fx import Node

from elman.engine.cpu.arguments import PlanArguments, Word, rows, total, value
from elman.engine.cpu.arguments import panels as panels_of
from elman.engine.cpu.function_builder import Body, stride
from elman.engine.cpu.gemm_tile import packed_size, panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Integer, Real, Value
from elman.engine.cpu.pointwise import Values
from elman.engine.cpu.signatures import declare
from elman.engine.plan.ir import BufferKind, Product, Program
from elman.engine.plan.planner import Plan
from elman.engine.trace.values import shape_of

FUNCTIONS = (
    "pack_forward",
    "before",
    "inference",
    "step",
    "forward",
    "pack_backward",
    "pack_after",
    "backward",
    "after",
    "reduce",
)


def _sizes(weight: Node, transposed: bool) -> tuple[int, int]:
    """K and N, of the matrix that a product multiplies with."""
    rows, columns = shape_of(weight)
    return (columns, rows) if transposed else (rows, columns)


def panels_size(weight: Node, transposed: bool, real: Real) -> int:
    """How many numbers a packed matrix has."""
    return packed_size(real, *_sizes(weight, transposed))


def write(module: Any, plan: Plan, real: Real, arguments: PlanArguments) -> None:
    """Write the functions of a plan into a module."""
    emitter = _Emitter(module, plan, real, arguments)
    emitter.rows("before", plan.before)
    emitter.loop("inference", plan.inference)
    emitter.all("step", ["before", "inference"])
    emitter.loop("forward", plan.forward)
    emitter.loop("backward", plan.backward, backwards=True)
    emitter.rows("after", plan.after)
    emitter.pack("pack_forward", [plan.before, plan.forward])
    emitter.pack("pack_backward", [plan.backward])
    emitter.pack("pack_after", [plan.after])
    emitter.reduce()


class _Emitter:
    def __init__(self, module: Any, plan: Plan, real: Real, arguments: PlanArguments) -> None:
        self.module, self.plan, self.real, self.arguments = module, plan, real, arguments

    def body(self, name: str) -> Body:
        return Body(self.module, name, self.real, self.arguments)

    def rows(self, name: str, program: Program) -> None:
        """A function that runs a program on `rows` rows at once, shared among the threads."""
        body = self.body(name)
        code = body.code
        begin, end = code.share(body.word(Word.ROWS), code["me"], code["all"])
        with code.b.if_then(code.is_(begin, "<", end)):
            for stage in program.stages:
                self.stage(body, stage, begin, end, 0, 1)
        code.end()

    def all(self, name: str, functions: list[str]) -> None:
        """A function that calls others, one after the other."""
        code = self.body(name).code
        for function in functions:
            code.call(self.module.get_global(function), code["data"], code["me"], code["all"])
        code.end()

    def loop(self, name: str, program: Program, backwards: bool = False) -> None:
        """A function that runs a program for each of `steps` steps, for all rows of the batch.

        Backwards, what is only for the next step is left out in step `last`.
        """
        body = self.body(name)
        code, b = body.code, body.code.b
        split = code.is_(body.word(Word.SPLIT), "!=", 0)
        me, everyone = code["me"], code["all"]
        part, parts = code.choose(split, me, 0), code.choose(split, everyone, 1)
        sharer, sharers = code.choose(split, 0, me), code.choose(split, 1, everyone)
        # Where sequences end early, they are dealt like cards: else the threads with the short ones would wait.
        dealt = code.is_(body.word(Word.DEALT), "!=", 0)
        shared = code.share(body.word(Word.B), sharer, sharers)
        begin, body.skip = code.choose(dealt, sharer, shared[0]), code.choose(dealt, sharers, 1)
        body.timed, body.forth = True, 0 if backwards else 1
        some = b.or_(dealt, code.is_(begin, "<", shared[1]))
        steps = code.choose(some, body.word(Word.STEPS), 0)
        with code.loop(0, steps) as count:
            body.step = code.sub(code.sub(steps, 1), count) if backwards else count
            end = code.choose(dealt, code.sub(body.begin(1), body.begin()), shared[1])
            another = code.is_(code.add(body.word(Word.TIME), body.step), "!=", body.word(Word.LAST))
            for stage, for_next in zip(program.stages, program.for_next(), strict=True):
                with b.if_then(another) if backwards and for_next else nullcontext():
                    self.stage(body, stage, begin, end, part, parts)
                    with b.if_then(code.is_(parts, ">", 1)):
                        code.call(declare(code, "barrier"), body.pointer(Word.BARRIER), parts, body.word(Word.SYSCALL))
        code.end()

    def stage(self, body: Body, stage: Any, begin: Integer, end: Integer, part: Integer, parts: Integer) -> None:
        if isinstance(stage, Product):
            self.product(body, stage, begin, end, part, parts)
        else:
            Values(stage).write(body, begin, end, part, parts)

    def product(self, body: Body, stage: Product, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        code, NR = body.code, panel_width(self.real)
        panels = -(-stage.width // NR)
        first, last = code.share(panels, part, parts)
        a, lda, c, ldc = body.start(stage.a), body.stride(stage.a), body.start(stage.c), body.stride(stage.c)
        columns = panels * NR if stage.c.buffer.kind is BufferKind.BLOCK else stage.width
        rows = code.div(code.add(code.sub(end, begin), code.sub(body.skip, 1)), body.skip)
        a, lda = code.at(a, code.mul(begin, lda)), code.mul(lda, body.skip)
        c, ldc = code.at(c, code.mul(begin, ldc)), code.mul(ldc, body.skip)
        with code.b.if_else(code.is_(body.word(Word.DIRECT), "!=", 0)) as (direct, packed):
            with direct:
                steps = (1, stage.depth) if stage.transposed else (shape_of(stage.weight)[1], 1)
                code.call(
                    declare(code, "direct"), a, lda, body.pointer(value(stage.weight)), *steps, c, ldc, rows,
                    stage.width, stage.depth, first, last, int(stage.add),
                )  # fmt: skip
            with packed:
                panels = body.pointer(panels_of(stage.weight, stage.transposed))
                code.call(
                    declare(code, "product"), a, lda, panels, c, ldc, rows, columns, stage.depth, first, last,
                    int(stage.add), code.rem(body.step, 2),
                )  # fmt: skip

    def pack(self, name: str, programs: list[Program]) -> None:
        """A function that packs the matrices of some programs."""
        body = self.body(name)
        code = body.code
        for weight, transposed in dict.fromkeys(weight for program in programs for weight in program.weights()):
            K, N = _sizes(weight, transposed)
            steps = (1, K) if transposed else (N, 1)
            share = code.share(-(-N // panel_width(self.real)), code["me"], code["all"])
            source_, panels = body.pointer(value(weight)), body.pointer(panels_of(weight, transposed))
            code.call(declare(code, "pack"), source_, *steps, K, N, *share, panels)
        code.end()

    def reduce(self) -> None:
        """A function that adds the sums over `rows` rows to those of earlier calls, or begins with them."""
        body = self.body("reduce")
        code = body.code
        scratch = code.at(body.pointer(Word.SCRATCH), code.mul(code["me"], body.word(Word.SCRATCH_EACH)))
        sums = {(r.d, r.size): r.nodes[0] for r in self.plan.reductions if r.x is None}
        null = code.b.inttoptr(INT(0), POINTER)
        for r in self.plan.reductions:
            d, share = code.at(body.pointer(rows(r.d)), r.d.offset), (code["me"], code["all"])
            if r.x:
                x = r.x
                with_sums = sums.pop((r.d, r.size), None)
                right = code.at(body.pointer(rows(x)), x.offset), stride(x.buffer, self.real)
                code.call(
                    declare(code, "outer"), d, stride(r.d.buffer, self.real), *right,
                    body.pointer(total(r.nodes[0])), r.x_size, body.word(Word.ROWS), r.size, r.x_size, *share,
                    body.word(Word.ADD), body.pointer(total(with_sums)) if with_sums else null, scratch,
                )  # fmt: skip
        for (place, size), node in sums.items():
            d = code.at(body.pointer(rows(place)), place.offset)
            code.call(
                declare(code, "column_sums"), d, stride(place.buffer, self.real), body.word(Word.ROWS), size,
                code["me"], code["all"], body.word(Word.ADD), body.pointer(total(node)),
            )  # fmt: skip
        code.end()
