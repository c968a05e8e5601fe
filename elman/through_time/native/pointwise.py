"""A pointwise stage as vector code."""

from torch.fx import Node

from elman.through_time.graph import Domain, biases, source
from elman.through_time.native.body import Body
from elman.through_time.native.writer import INT, Integer, Value
from elman.through_time.operations import POINTWISE
from elman.through_time.schedule import Kind, Place, Pointwise, leaves

# Vectors computed side by side: a step is a long chain of operations that wait for each other, and the processor looks
# ahead no further than one such chain.
TOGETHER = 2


class Values:
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

    def write(self, body: Body, begin: Value, end: Value, part: Integer, parts: Integer) -> None:
        """Compute rows begin..end of this step, the `part`-th of `parts` shares of the columns."""
        self.body, code, lanes = body, body.code, body.real.lanes
        whole, rest = divmod(self.stage.width, lanes)
        first, last = code.share(whole + bool(rest), part, parts)
        stored = [place for *_, place in self.stage.stores]
        starts = {place: body.start(place) for place in (*leaves(self.stage), *stored)}
        with code.loop(begin, end) as row:
            self.row = row
            self.rows = {p: code.at(start, code.mul(row, body.stride(p))) for p, start in starts.items()}
            full = code.least(last, whole)
            pairs = code.mul(code.div(code.sub(full, first), TOGETHER), TOGETHER)
            middle = code.add(first, code.choose(code.is_(pairs, ">", 0), pairs, 0))
            with code.loop(first, middle, TOGETHER) as vector:
                self._columns([code.mul(code.add(vector, i), lanes) for i in range(TOGETHER)], None)
            with code.loop(middle, full) as vector:
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
