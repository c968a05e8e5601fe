"""A plan as LLVM IR: one function for each of its programs, in terms of the library of products.

Every function takes the address of an array of 64-bit slots (see `slots`), the number of the calling thread and how
many there are. Threads share the rows of the batch, each taking its own through all steps; where these are too few,
`split` asks them to share the columns of every stage instead, with a barrier after each.
"""

from typing import Any

from torch.fx import Node

from elman.through_time.graph import Domain, biases, source, width
from elman.through_time.native.signatures import declare
from elman.through_time.native.tiles import panel_width
from elman.through_time.native.writer import INT, POINTER, Code, Integer, Real, Value
from elman.through_time.operations import POINTWISE
from elman.through_time.plan import Plan
from elman.through_time.schedule import Buffer, Kind, Place, Pointwise, Product, Program, leaves

# Vectors computed side by side: a step is a long chain of operations that wait for each other, and the processor looks
# ahead no further than one such chain.
TOGETHER = 2
ARGUMENTS = ("*data", "me", "all")
FUNCTIONS = (
    "pack_forward",
    "before",
    "inference",
    "forward",
    "pack_backward",
    "pack_after",
    "backward",
    "after",
    "reduce",
)
HEADER = ("work", "thread_num", "num_threads", "barrier", "yield", "B", "rows", "steps", "time", "split", "add")


def slots(plan: Plan) -> dict[str, int]:
    """The number of each slot: sizes first, then the addresses of buffers, packed matrices and parameters."""
    names = list(HEADER)
    for program in (plan.before, plan.inference, plan.forward, plan.backward, plan.after):
        names += [buffer.name for buffer in program.buffers()]
        names += [f"{buffer.name}.before" for buffer in program.buffers() if buffer.kind is Kind.PREVIOUS]
        names += [panels_name(*weight) for weight in program.weights()]
        names += [weight.name for weight, _ in program.weights()]
        names += [node.name for node in vectors(program)]
    names += ["dy", "dy.step", "dy.row", "scratch", "scratch.each"]
    for reduction in plan.reductions:
        names += [rows_name(reduction.d), reduction.nodes[0].name]
        if reduction.x:
            names.append(rows_name(reduction.x))
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def rows_name(place: Place) -> str:
    """The slot of a buffer whose rows a sum runs over; of earlier states, laid out as one matrix."""
    return f"{place.buffer.name}.previous" if place.buffer.kind is Kind.PREVIOUS else place.buffer.name


def panels_name(weight: Node, transposed: bool) -> str:
    """The slot of a packed matrix."""
    return f"panels.{weight.name}{'.t' if transposed else ''}"


def panels_size(weight: Node, transposed: bool, real: Real) -> int:
    """How many numbers a packed matrix has."""
    n, k = weight.meta["shape"]
    K, N = (k, n) if transposed else (n, k)
    NR = panel_width(real)
    size: int = K * -(-N // NR) * NR
    return size


def vectors(program: Program) -> list[Node]:
    """The parameters that a program uses element by element."""
    found: dict[Node, None] = {}
    for stage in program.stages:
        if isinstance(stage, Pointwise):
            _Values(stage).collect(found)
    return list(found)


def write(module: Any, plan: Plan, real: Real) -> None:
    """Write the functions of a plan into a module."""
    emitter = _Emitter(module, plan, real)
    emitter.rows("before", plan.before)
    emitter.loop("inference", plan.inference)
    emitter.loop("forward", plan.forward)
    emitter.loop("backward", plan.backward, backwards=True)
    emitter.rows("after", plan.after)
    emitter.pack("pack_forward", [plan.before, plan.forward])
    emitter.pack("pack_backward", [plan.backward])
    emitter.pack("pack_after", [plan.after])
    emitter.reduce()


def stride(buffer: Buffer, real: Real) -> int:
    """How many numbers from one row of a buffer to the next: more than its width where nobody else reads it."""
    if buffer.kind not in (Kind.BLOCK, Kind.CHUNK):
        return buffer.width
    NR = panel_width(real)
    # One vector more than whole panels, so that rows do not lie at multiples of a page.
    return -(-buffer.width // NR) * NR + real.lanes


class _Body:
    """One function being written: its slots, and where the rows of its buffers lie."""

    def __init__(self, module: Any, name: str, plan: Plan, real: Real, number: dict[str, int]) -> None:
        self.code = Code(module, name, ARGUMENTS, real, public=True)
        self.plan, self.real, self.number = plan, real, number
        self.step: Integer = 0  # since the pointers in the slots
        self.forth = 0  # where the next step's row is: 1 in a loop forward, 0 backward
        self.timed = False

    def slot(self, name: str) -> Value:
        code = self.code
        return code.b.load(code.at(code["data"], self.number[name], INT), typ=INT)

    def pointer(self, name: str) -> Value:
        return self.code.b.inttoptr(self.slot(name), POINTER)

    def stride(self, place: Place) -> int:
        return stride(place.buffer, self.real)

    def start(self, place: Place) -> Value:
        """The address of the first row of this step, at the place's first column."""
        code, B, size = self.code, self.slot("B"), place.buffer.width
        base = self.pointer(place.buffer.name)
        kind = place.buffer.kind
        if kind in (Kind.STEP, Kind.CHUNK) and self.timed:
            base = code.at(base, code.mul(code.mul(self.step, B), self.stride(place)))
        elif kind is Kind.PREVIOUS:
            earlier = code.at(base, code.mul(code.mul(code.sub(self.step, 1), B), size))
            first = code.is_(self.step, "==", 0)
            base = code.b.select(first, self.pointer(f"{place.buffer.name}.before"), earlier)
        elif kind in (Kind.NOW, Kind.NEXT, Kind.COTANGENT):
            time = code.add(self.slot("time"), self.step, self.forth if kind is Kind.NEXT else 1 - self.forth)
            half = code.rem(time, 2)
            base = code.at(base, code.mul(code.mul(half, B), size))
        return code.at(base, place.offset)


class _Emitter:
    def __init__(self, module: Any, plan: Plan, real: Real) -> None:
        self.module, self.plan, self.real, self.number = module, plan, real, slots(plan)

    def body(self, name: str) -> _Body:
        return _Body(self.module, name, self.plan, self.real, self.number)

    def rows(self, name: str, program: Program) -> None:
        """A function that runs a program on `rows` rows at once, shared among the threads."""
        body = self.body(name)
        code = body.code
        begin, end = code.share(body.slot("rows"), code["me"], code["all"])
        with code.b.if_then(code.is_(begin, "<", end)):
            for stage in program.stages:
                self.stage(body, stage, begin, end, 0, 1)
        code.end()

    def loop(self, name: str, program: Program, backwards: bool = False) -> None:
        """A function that runs a program for each of `steps` steps, for all rows of the batch."""
        body = self.body(name)
        code, b = body.code, body.code.b
        split = code.is_(body.slot("split"), "!=", 0)
        me, everyone = code["me"], code["all"]
        begin, end = code.share(body.slot("B"), code.choose(split, 0, me), code.choose(split, 1, everyone))
        part, parts = code.choose(split, me, 0), code.choose(split, everyone, 1)
        body.timed, body.forth = True, 0 if backwards else 1
        steps = code.choose(code.is_(begin, "<", end), body.slot("steps"), 0)
        with code.loop(0, steps) as count:
            body.step = code.sub(code.sub(steps, 1), count) if backwards else count
            for stage in program.stages:
                self.stage(body, stage, begin, end, part, parts)
                with b.if_then(code.is_(parts, ">", 1)):
                    code.call(declare(code, "barrier"), body.pointer("barrier"), parts, body.slot("yield"))
        code.end()

    def stage(self, body: _Body, stage: Any, begin: Integer, end: Integer, part: Integer, parts: Integer) -> None:
        if isinstance(stage, Product):
            self.product(body, stage, begin, end, part, parts)
        else:
            _Values(stage).write(body, begin, end, part, parts)

    def product(self, body: _Body, stage: Product, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        code, NR = body.code, panel_width(self.real)
        panels = -(-stage.width // NR)
        first, last = code.share(panels, part, parts)
        a, lda, c, ldc = body.start(stage.a), body.stride(stage.a), body.start(stage.c), body.stride(stage.c)
        columns = panels * NR if stage.c.buffer.kind is Kind.BLOCK else stage.width
        code.call(
            declare(code, "product"),
            code.at(a, code.mul(begin, lda)), lda, body.pointer(panels_name(stage.weight, stage.transposed)),
            code.at(c, code.mul(begin, ldc)), ldc, code.sub(end, begin), columns, stage.depth, first, last,
            int(stage.add),
        )  # fmt: skip

    def pack(self, name: str, programs: list[Program]) -> None:
        """A function that packs the matrices of some programs."""
        body = self.body(name)
        code = body.code
        for weight, transposed in dict.fromkeys(weight for program in programs for weight in program.weights()):
            n, k = weight.meta["shape"]
            steps = (1, k) if transposed else (k, 1)
            K, N = (k, n) if transposed else (n, k)
            share = code.share(-(-N // panel_width(self.real)), code["me"], code["all"])
            source_, panels = body.pointer(weight.name), body.pointer(panels_name(weight, transposed))
            code.call(declare(code, "pack"), source_, *steps, K, N, *share, panels)
        code.end()

    def reduce(self) -> None:
        """A function that adds the sums over `rows` rows to those of earlier calls, or begins with them."""
        body = self.body("reduce")
        code = body.code
        scratch = code.at(body.pointer("scratch"), code.mul(code["me"], body.slot("scratch.each")))
        sums = {r.d: r.nodes[0] for r in self.plan.reductions if r.x is None}
        null = code.b.inttoptr(INT(0), POINTER)
        for r in self.plan.reductions:
            d, share = code.at(body.pointer(rows_name(r.d)), r.d.offset), (code["me"], code["all"])
            if r.x:
                x = r.x
                with_sums = sums.pop(r.d, None)
                right = code.at(body.pointer(rows_name(x)), x.offset), stride(x.buffer, self.real)
                code.call(
                    declare(code, "outer"), d, stride(r.d.buffer, self.real), *right,
                    body.pointer(r.nodes[0].name), r.x_size, body.slot("rows"), r.size, r.x_size, *share,
                    body.slot("add"), body.pointer(with_sums.name) if with_sums else null, scratch,
                )  # fmt: skip
        for place, node in sums.items():
            d, size = code.at(body.pointer(rows_name(place)), place.offset), width(node.all_input_nodes[0])
            code.call(
                declare(code, "column_sums"), d, stride(place.buffer, self.real), body.slot("rows"), size,
                code["me"], code["all"], body.slot("add"), body.pointer(node.name),
            )  # fmt: skip
        code.end()


class _Values:
    """The values of a pointwise stage, a vector of columns at a time."""

    def __init__(self, stage: Pointwise) -> None:
        self.stage = stage

    def collect(self, found: dict[Node, None]) -> None:
        """The parameters that the stage uses."""
        for node, start, _ in self.stage.stores:
            if node is not None:
                self._collect(node, start, found)

    def _collect(self, node: Node, start: int, found: dict[Node, None]) -> None:
        if node.meta["domain"] is Domain.WEIGHT:
            found[node] = None
            return
        node, start = source(node, start, self.stage.width, self.stage.memory)
        if node in self.stage.memory:
            return
        if node in self.stage.products:
            found.update(dict.fromkeys(biases(node)))
            return
        for argument in node.all_input_nodes:
            self._collect(argument, start, found)

    def write(self, body: _Body, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        self.body, code, lanes = body, body.code, body.real.lanes
        whole, rest = divmod(self.stage.width, lanes)
        first, last = code.share(whole + bool(rest), part, parts)
        starts = {place: body.start(place) for place, _ in leaves(self.stage).values() if place}
        starts |= {place: body.start(place) for *_, place in self.stage.stores}
        with code.loop(begin, end) as row:
            self.row = row
            self.rows = {p: code.at(start, code.mul(row, body.stride(p))) for p, start in starts.items()}
            end = code.least(last, whole)
            pairs = code.mul(code.div(code.sub(end, first), TOGETHER), TOGETHER)
            middle = code.add(first, code.choose(code.is_(pairs, ">", 0), pairs, 0))
            with code.loop(first, middle, TOGETHER) as vector:
                self._columns([code.mul(code.add(vector, i), lanes) for i in range(TOGETHER)], None)
            with code.loop(middle, end) as vector:
                self._columns([code.mul(vector, lanes)], None)
            if rest:
                with code.b.if_then(code.is_(last, ">", whole)):
                    self._columns([INT(whole * lanes)], code.first_lanes(rest))

    def _columns(self, columns: list[Value], mask: Value) -> None:
        self.columns, self.mask = columns, mask
        self.done: dict[tuple[Node, int], list[Value]] = {}
        values = [(self.value(node, start), place) for node, start, place in self.stage.stores]
        for value, place in values:
            for one, column in zip(value, columns, strict=True):
                self.body.code.store_vector(one, self.rows[place], column, mask)

    def value(self, node: Node | None, start: int) -> list[Value]:
        """A value, in a vector for each of the columns that are computed together."""
        if node is None:
            return [self.body.code.fill(0) for _ in self.columns]
        if node.meta["domain"] is not Domain.WEIGHT:
            node, start = source(node, start, self.stage.width, self.stage.memory)
        if (node, start) not in self.done:
            self.done[node, start] = self._value(node, start)
        return self.done[node, start]

    def _value(self, node: Node, start: int) -> list[Value]:
        stage, code = self.stage, self.body.code
        if node in stage.memory:
            return self._loaded(stage.memory[node], start)
        if node in stage.products:
            value = self._loaded(stage.products[node], start)
            for bias in biases(node):
                value = [code.b.fadd(v, b) for v, b in zip(value, self.value(bias, start), strict=True)]
            return value
        if node.meta["domain"] is Domain.WEIGHT:
            pointer = self.body.pointer(node.name)
            if node.meta["shape"] in ((), (1,)):
                return [code.fill(code.load(pointer))] * len(self.columns)
            return [code.load_vector(pointer, code.add(column, start), self.mask) for column in self.columns]
        given = [self.value(a, start) if isinstance(a, Node) else [a] * len(self.columns) for a in node.args]
        return [POINTWISE[node.target](code, *one, **node.kwargs) for one in zip(*given, strict=True)]

    def _loaded(self, place: Place, start: int) -> list[Value]:
        code, body = self.body.code, self.body
        found = [code.load_vector(self.rows[place], code.add(column, start), self.mask) for column in self.columns]
        if place.buffer.kind is not Kind.COTANGENT:
            return found
        row = code.mul(self.row, body.slot("dy.row"))
        dy = code.at(body.pointer("dy"), code.add(code.mul(body.step, body.slot("dy.step")), row, place.offset + start))
        return [
            code.b.fadd(value, code.load_vector(dy, column, self.mask))
            for value, column in zip(found, self.columns, strict=True)
        ]
