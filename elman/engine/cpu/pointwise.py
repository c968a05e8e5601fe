"""Generates vector code for a pointwise stage."""

from contextlib import nullcontext

from torch.fx import Node

from elman.engine.cpu.arguments import Word
from elman.engine.cpu.arguments import value as value_of
from elman.engine.cpu.function_builder import Kernel
from elman.engine.cpu.ir_builder import INT, Integer, Value
from elman.engine.cpu.lowering import COMBINE, LOWERING, Combine
from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.ir import BufferColumns, BufferKind, Operand, Pointwise, Store
from elman.engine.plan.layout import Broadcast, match_reduction
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.aten import CONSTANT

# Vectors computed side by side: a step is a long chain of dependent operations, and the processor looks ahead no
# further than one such chain.
UNROLL = 2
UNIFORM = (Broadcast.SCALAR, Broadcast.PER_HEAD)  # one number for all columns of a head


class PointwiseEmitter:
    """Emits a pointwise stage: for each row and head, `UNROLL` vectors of columns at a time."""

    def __init__(self, stage: Pointwise) -> None:
        self.stage = stage
        self.reductions = [store for store in stage.stores if store.reduction is not None]
        # Reductions to a number per row or head; several segments of a row may share the location of the result.
        self.accumulators = {store.location: store for store in self.reductions if _result(store) in UNIFORM}
        self.uniform = [operand for operand in stage.operands() if operand.broadcast in UNIFORM]

    def write(self, kernel: Kernel, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        """Emit rows begin..end of this step, and of their columns the `part`-th of `parts` shares."""
        self.kernel, code, stage = kernel, kernel.code, self.stage
        blocks = -(-stage.width // (UNROLL * kernel.real.lanes))
        first, last = code.share(blocks, part, parts)
        if self.reductions:
            # One thread reduces all columns of a row.
            is_first = code.compare(part, "==", 0)
            first, last = INT(0), code.select(is_first, blocks, 0)
            end = code.select(is_first, end, begin)
        locations = dict.fromkeys([*stage.loads(), *(store.location for store in stage.stores)])
        starts = {location: kernel.start(location) for location in locations}
        with code.loop(begin, end, kernel.row_step) as row:
            self.row = row
            self.rows = {
                loc: code.opaque(code.at(start, code.mul(row, kernel.stride(loc)))) for loc, start in starts.items()
            }
            self.totals = {loc: [code.local(kernel.real.vector) for _ in range(UNROLL)] for loc in self.accumulators}
            self._begin_reductions(Broadcast.SCALAR)
            with code.loop(0, stage.heads) if stage.heads > 1 else nullcontext(INT(0)) as head:
                self._emit_head(head, first, last)
            self._finish_reductions(Broadcast.SCALAR, INT(0))

    def _emit_head(self, head: Value, first: Value, last: Value) -> None:
        """Emit the blocks first..last of a head's columns: whole ones in a loop, then the last, if it has fewer."""
        code, lanes = self.kernel.code, self.kernel.real.lanes
        self.head = head
        self.computed: dict[Operand, list[Value]] = {}  # the vectors of each operand at `columns`
        self._begin_reductions(Broadcast.PER_HEAD)
        self.columns, self.masks = [INT(0)], [None]
        for operand in self.uniform:
            self.value(operand)
        self.computed_per_head = dict(self.computed)
        block = UNROLL * lanes
        whole, rest = divmod(self.stage.width, block)
        if whole:
            end = code.minimum(last, whole) if rest else last
            with code.loop(first, end) as i:
                self._emit_columns([code.add(code.mul(i, block), v * lanes) for v in range(UNROLL)])
        if rest:
            with code.b.if_then(code.compare(last, ">", whole)):
                self._emit_columns([INT(n) for n in range(whole * block, self.stage.width, lanes)], rest % lanes)
        self._finish_reductions(Broadcast.PER_HEAD, head)

    def _emit_columns(self, columns: list[Value], rest: int = 0) -> None:
        """Emit vectors of columns; of the last, only `rest` lanes, unless that is 0."""
        self.columns, self.masks = columns, [None] * len(columns)
        if rest:
            self.masks[-1] = self.kernel.code.first_lanes(rest)
        self.computed = {operand: vectors * len(columns) for operand, vectors in self.computed_per_head.items()}
        values = [self._value_to_store(store) for store in self.stage.stores]
        is_whole = len(columns) == UNROLL and not rest
        for i, (column, mask) in enumerate(zip(columns, self.masks, strict=True)):
            for vectors, store in zip(values, self.stage.stores, strict=True):
                if store.location in self.totals:
                    self._accumulate(store, vectors[i], self.totals[store.location][i if is_whole else 0], mask)
                elif store.reduction is not None:
                    self._accumulate_over_heads(store, vectors[i], column, mask)
                else:
                    index = self._index(column, Broadcast.ELEMENTWISE)
                    self.kernel.code.store_vector(vectors[i], self.rows[store.location], index, mask)

    def _value_to_store(self, store: Store) -> list[Value]:
        if store.node is None:
            return [self.kernel.code.fill(0) for _ in self.columns]
        return self.value(self.stage.operand(store.node, store.start))

    def _index(self, column: Value, broadcast: Broadcast) -> Value:
        """Return the position of a column's number in a row of an operand that is broadcast in this way."""
        code = self.kernel.code
        if broadcast is Broadcast.ELEMENTWISE:
            return code.add(code.mul(self.head, self.stage.width), column) if self.stage.heads > 1 else column
        return {Broadcast.PER_HEAD: self.head, Broadcast.PER_COLUMN: column, Broadcast.SCALAR: INT(0)}[broadcast]

    # Values.

    def value(self, operand: Operand) -> list[Value]:
        """Return the vectors of a value at the current columns, computed once."""
        if operand not in self.computed:
            self.computed[operand] = self._compute(operand)
        return self.computed[operand]

    def _compute(self, operand: Operand) -> list[Value]:
        node, code = operand.node, self.kernel.code
        if node.target is CONSTANT:
            return [code.fill(node.args[1])] * len(self.columns)
        location = self.stage.location(operand)
        if location is not None:
            vectors = self._load(location, operand)
            for bias in self.stage.inputs(operand):
                vectors = [code.b.fadd(v, b) for v, b in zip(vectors, self.value(bias), strict=True)]
            return vectors
        if domain_of(node) is Domain.WEIGHT:
            pointer = self.kernel.pointer(value_of(node))
            return self._load_vectors(pointer, operand)
        inputs = dict(zip(node.all_input_nodes, self.stage.inputs(operand), strict=True))
        arguments = [self.value(inputs[a]) if isinstance(a, Node) else [a] * len(self.columns) for a in node.args]
        return [LOWERING[node.target](code, *vectors, **node.kwargs) for vectors in zip(*arguments, strict=True)]

    def _load(self, location: BufferColumns, operand: Operand) -> list[Value]:
        code, kernel = self.kernel.code, self.kernel
        vectors = self._load_vectors(self.rows[location], operand)
        if location.buffer.kind is not BufferKind.COTANGENT:
            return vectors
        # What the next step sent back, plus the cotangent of this step's output, whose rows may lie anywhere.
        step = (
            code.mul(kernel.step, kernel.word(Word.DY_STEP)),
            code.mul(kernel.first_row(), kernel.word(Word.DY_BEGIN)),
        )
        row = code.mul(self.row, kernel.word(Word.DY_ROW))
        dy = code.at(kernel.pointer(Word.DY), code.add(*step, row, location.offset))
        cotangents = self._load_vectors(dy, operand)
        return [code.b.fadd(vector, cotangent) for vector, cotangent in zip(vectors, cotangents, strict=True)]

    def _load_vectors(self, pointer: Value, operand: Operand) -> list[Value]:
        code, vectors = self.kernel.code, []
        for column, mask in zip(self.columns, self.masks, strict=True):
            index = code.add(self._index(column, operand.broadcast), operand.start)
            if operand.broadcast in UNIFORM:
                vectors.append(code.fill(code.load(pointer, index)))
            else:
                vectors.append(code.load_vector(pointer, index, mask))
        return vectors

    # Reductions.

    def _begin_reductions(self, result: Broadcast) -> None:
        for location, totals in self.totals.items():
            store = self.accumulators[location]
            if _result(store) is result:
                for total in totals:
                    self.kernel.code.b.store(self.kernel.code.fill(_reduction(store)[0]), total)

    def _accumulate(self, store: Store, vector: Value, total: Value, mask: Value) -> None:
        code, (identity, combine) = self.kernel.code, _reduction(store)
        if mask is not None:
            vector = code.b.select(mask, vector, code.fill(identity))
        code.b.store(combine(code, code.b.load(total, typ=code.real.vector), vector), total)

    def _accumulate_over_heads(self, store: Store, vector: Value, column: Value, mask: Value) -> None:
        """Combine a vector with those of the heads before it, in the memory of the result."""
        code, (identity, combine) = self.kernel.code, _reduction(store)
        total = code.load_vector(self.rows[store.location], column, mask)
        total = code.b.select(code.compare(self.head, "==", 0), code.fill(identity), total)
        code.store_vector(combine(code, total, vector), self.rows[store.location], column, mask)

    def _finish_reductions(self, result: Broadcast, index: Value) -> None:
        code = self.kernel.code
        for location, totals in self.totals.items():
            store = self.accumulators[location]
            if _result(store) is result:
                combine = _reduction(store)[1]
                total, *others = (code.b.load(total, typ=code.real.vector) for total in totals)
                for other in others:
                    total = combine(code, total, other)
                code.store(code.reduce_lanes(total, combine), self.rows[location], index)


def _result(store: Store) -> Broadcast:
    """Return how the result of a store's reduction would be broadcast to what it reduces."""
    assert store.reduction is not None
    match = match_reduction(store.reduction)
    assert match is not None
    return match.broadcast


def _reduction(store: Store) -> tuple[float, Combine]:
    """Return the identity element of a store's reduction and the function that combines two vectors."""
    assert store.reduction is not None
    return REDUCTIONS[store.reduction.target], COMBINE[store.reduction.target]
