"""Generates vector code for a pointwise stage."""

from torch.fx import Node

from elman.engine.cpu.arguments import Word
from elman.engine.cpu.arguments import value as value_of
from elman.engine.cpu.function_builder import Body
from elman.engine.cpu.ir_builder import INT, Integer, Value
from elman.engine.cpu.lowering import COMBINE, LOWERING, Combine
from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.ir import BufferColumns, BufferKind, Operand, Pointwise, Store
from elman.engine.plan.layout import Fit, reduced
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.aten import CONSTANT

# Vectors computed side by side: a step is a long chain of operations that wait for each other, and the processor looks
# ahead no further than one such chain.
TOGETHER = 2
NONE: Value = None  # no mask: all lanes
ALIKE = (Fit.ONE, Fit.HEAD)  # one number for all columns of a head


class Values:
    """The values of a pointwise stage, a vector of columns at a time."""

    def __init__(self, stage: Pointwise) -> None:
        self.stage = stage
        self.sums = [store for store in stage.stores if store.reduction is not None]
        # Columns that are several pieces of a row are added up at one place.
        self.into = {store.place: store for store in self.sums if _result(store) in ALIKE}
        self.alike = [part for part in stage.parts() if part.fit in ALIKE]

    def write(self, body: Body, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        """Compute rows begin..end of this step, the `part`-th of `parts` shares of the columns."""
        self.body, code, lanes, stage = body, body.code, body.real.lanes, self.stage
        whole, rest = divmod(stage.width, lanes)
        first, last = code.share(whole + bool(rest), part, parts)
        if self.sums:
            # The columns of a row are added up by one thread.
            alone = code.is_(part, "==", 0)
            first, last = INT(0), code.choose(alone, whole + bool(rest), 0)
            end = code.choose(alone, end, begin)
        places = dict.fromkeys([*stage.places(), *(store.place for store in stage.stores)])
        starts = {place: body.start(place) for place in places}
        with code.loop(begin, end, body.skip) as row:
            self.row = row
            self.rows = {p: code.at(start, code.mul(row, body.stride(p))) for p, start in starts.items()}
            self.totals = {place: [code.local(body.real.vector) for _ in range(TOGETHER)] for place in self.into}
            self._begin(Fit.ONE)
            with code.loop(0, stage.heads) as head:
                self._head(head, first, last, whole, rest)
            self._finish(Fit.ONE, INT(0))

    def _head(self, head: Value, first: Value, last: Value, whole: int, rest: int) -> None:
        code, lanes = self.body.code, self.body.real.lanes
        self.head = head
        self.done: dict[Operand, list[Value]] = {}
        self._begin(Fit.HEAD)
        self.columns, self.mask = [INT(0)], NONE
        for part in self.alike:
            self.value(part)
        self.same = dict(self.done)
        full = code.least(last, whole)
        pairs = code.mul(code.div(code.sub(full, first), TOGETHER), TOGETHER)
        middle = code.add(first, code.choose(code.is_(pairs, ">", 0), pairs, 0))
        with code.loop(first, middle, TOGETHER) as vector:
            self._columns([code.mul(code.add(vector, i), lanes) for i in range(TOGETHER)], NONE)
        with code.loop(middle, full) as vector:
            self._columns([code.mul(vector, lanes)], NONE)
        if rest:
            with code.b.if_then(code.is_(last, ">", whole)):
                self._columns([INT(whole * lanes)], code.first_lanes(rest))
        self._finish(Fit.HEAD, head)

    def _columns(self, columns: list[Value], mask: Value) -> None:
        self.columns, self.mask = columns, mask
        self.done = {part: value * len(columns) for part, value in self.same.items()}
        values = [self._stored(store) for store in self.stage.stores]
        for value, store in zip(values, self.stage.stores, strict=True):
            if store.place in self.totals:
                self._add_up(store, value)
                continue
            for one, column in zip(value, columns, strict=True):
                if store.reduction is None:
                    self.body.code.store_vector(one, self.rows[store.place], self._index(column, Fit.ALL), mask)
                else:
                    self._add_to_heads(store, one, column)

    def _stored(self, store: Store) -> list[Value]:
        if store.node is None:
            return [self.body.code.fill(0) for _ in self.columns]
        return self.value(self.stage.part(store.node, store.start))

    def _index(self, column: Value, how: Fit) -> Value:
        """Where a number lies within what is matched so."""
        code = self.body.code
        if how is Fit.ALL:
            return code.add(code.mul(self.head, self.stage.width), column) if self.stage.heads > 1 else column
        return {Fit.HEAD: self.head, Fit.COLUMN: column, Fit.ONE: INT(0)}[how]

    # Values.

    def value(self, part: Operand) -> list[Value]:
        """A value, in a vector for each of the columns that are computed together."""
        if part not in self.done:
            self.done[part] = self._value(part)
        return self.done[part]

    def _value(self, part: Operand) -> list[Value]:
        node, code = part.node, self.body.code
        if node.target is CONSTANT:
            return [code.fill(node.args[1])] * len(self.columns)
        place = self.stage.place(part)
        if place is not None:
            value = self._loaded(place, part)
            for bias in self.stage.operands(part):
                value = [code.b.fadd(v, b) for v, b in zip(value, self.value(bias), strict=True)]
            return value
        if domain_of(node) is Domain.WEIGHT:
            pointer = self.body.pointer(value_of(node))
            return [self._vector(pointer, self._index(column, part.fit), part) for column in self.columns]
        made = dict(zip(node.all_input_nodes, self.stage.operands(part), strict=True))
        given = [self.value(made[a]) if isinstance(a, Node) else [a] * len(self.columns) for a in node.args]
        return [LOWERING[node.target](code, *one, **node.kwargs) for one in zip(*given, strict=True)]

    def _loaded(self, place: BufferColumns, part: Operand) -> list[Value]:
        code, body = self.body.code, self.body
        indices = [self._index(column, part.fit) for column in self.columns]
        found = [self._vector(self.rows[place], index, part) for index in indices]
        if place.buffer.kind is not BufferKind.COTANGENT:
            return found
        step = code.mul(body.step, body.word(Word.DY_STEP)), code.mul(body.first_row(), body.word(Word.DY_BEGIN))
        row = code.mul(self.row, body.word(Word.DY_ROW))
        dy = code.at(body.pointer(Word.DY), code.add(*step, row, place.offset))
        more = [self._vector(dy, index, part) for index in indices]
        return [code.b.fadd(value, d) for value, d in zip(found, more, strict=True)]

    def _vector(self, pointer: Value, index: Value, part: Operand) -> Value:
        code, index = self.body.code, self.body.code.add(index, part.start)
        if part.fit in ALIKE:
            return code.fill(code.load(pointer, index))
        return code.load_vector(pointer, index, self.mask)

    # Reductions.

    def _begin(self, how: Fit) -> None:
        for place, totals in self.totals.items():
            store = self.into[place]
            if _result(store) is how:
                for total in totals:
                    self.body.code.b.store(self.body.code.fill(_reducing(store)[0]), total)

    def _add_up(self, store: Store, values: list[Value]) -> None:
        code, (neutral, combine) = self.body.code, _reducing(store)
        for value, total in zip(values, self.totals[store.place], strict=False):
            if self.mask is not None:
                value = code.b.select(self.mask, value, code.fill(neutral))
            code.b.store(combine(code, code.b.load(total, typ=code.real.vector), value), total)

    def _add_to_heads(self, store: Store, value: Value, column: Value) -> None:
        """The heads of a row become one: each is added where the first was put."""
        code, (neutral, combine) = self.body.code, _reducing(store)
        before = code.load_vector(self.rows[store.place], column, self.mask)
        before = code.b.select(code.is_(self.head, "==", 0), code.fill(neutral), before)
        code.store_vector(combine(code, before, value), self.rows[store.place], column, self.mask)

    def _finish(self, how: Fit, index: Value) -> None:
        code = self.body.code
        for place, totals in self.totals.items():
            store = self.into[place]
            if _result(store) is how:
                combine = _reducing(store)[1]
                total, *others = (code.b.load(total, typ=code.real.vector) for total in totals)
                for other in others:
                    total = combine(code, total, other)
                code.store(code.across(total, combine), self.rows[place], index)


def _result(store: Store) -> Fit:
    assert store.reduction is not None
    found = reduced(store.reduction)
    assert found is not None
    return found[0]


def _reducing(store: Store) -> tuple[float, Combine]:
    assert store.reduction is not None
    return REDUCTIONS[store.reduction.target], COMBINE[store.reduction.target]
