"""The intermediate representation: buffers with a row for each sequence, and stages that read and write them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from torch.fx import Node

from elman.engine.plan.domains import Domain, biases, domain_of, match_operand
from elman.engine.plan.layout import Broadcast, match_columns, resolve
from elman.engine.trace.aten import CONSTANT


class BufferKind(Enum):
    """The layout and the lifetime of a buffer."""

    STEP = "a row for each step and sequence, for the whole call"
    CHUNK = "a row for each step and sequence of one chunk of steps, then overwritten"
    PREVIOUS = "the memory of a STEP buffer, one step earlier"
    CURRENT = "a row for each sequence, at this step; where the NEXT buffer of the step before was"
    NEXT = "a row for each sequence, for the next step"
    BLOCK = "a row for each sequence, overwritten at the next step"
    COTANGENT = "as CURRENT, plus the cotangent of this step's output"


@dataclass(frozen=True)
class Buffer:
    """Memory with rows of `width` numbers."""

    name: str
    width: int
    kind: BufferKind


@dataclass(frozen=True)
class BufferColumns:
    """Columns of a buffer, from `offset` on."""

    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True)
class Product:
    """A matrix product C = A W or, if `transposed`, C = A W^T, for all rows; if `add`, it is added to C."""

    a: BufferColumns
    weight: Node
    transposed: bool
    c: BufferColumns
    depth: int  # columns of A
    width: int  # columns of C
    add: bool = False


class Store(NamedTuple):
    """Columns of a value, from `start` on, and where they, or the result of reducing them, are stored."""

    node: Node | None  # None: zeros
    start: int
    location: BufferColumns
    reduction: Node | None = None


class Operand(NamedTuple):
    """A value within a stage: its first column, and how it is broadcast to the stage's columns."""

    node: Node
    start: int
    broadcast: Broadcast


@dataclass(frozen=True)
class Pointwise:
    """Values of `heads` times `width` columns, computed in one pass from `memory` and `products`, and stored.

    Products lie in memory without the bias that addmm adds.
    """

    heads: int
    width: int
    stores: tuple[Store, ...]
    memory: Mapping[Node, BufferColumns]
    products: Mapping[Node, BufferColumns]

    def operand(self, node: Node, start: int = 0, broadcast: Broadcast = Broadcast.ELEMENTWISE) -> Operand:
        """Return the value, below arrangements, that must be computed or loaded for columns of `node`."""
        if domain_of(node) is not Domain.WEIGHT:
            node, start = resolve(node, start, self._column_count(broadcast), self.memory)
        return Operand(node, start, broadcast)

    def _column_count(self, broadcast: Broadcast) -> int:
        return {
            Broadcast.ELEMENTWISE: self.heads * self.width,
            Broadcast.PER_HEAD: self.heads,
            Broadcast.PER_COLUMN: self.width,
            Broadcast.SCALAR: 1,
        }[broadcast]

    def location(self, operand: Operand) -> BufferColumns | None:
        """Return where a value is stored; None if it must be computed."""
        return self.memory.get(operand.node) or self.products.get(operand.node)

    def inputs(self, operand: Operand) -> list[Operand]:
        """Return what a value is computed from, parameters included, in the order of its arguments."""
        if operand.node in self.memory or domain_of(operand.node) is Domain.WEIGHT:
            return []
        if operand.node in self.products:
            return [Operand(bias, operand.start, operand.broadcast) for bias in biases(operand.node)]
        return [self.operand(value, *self._match(operand, value)) for value in operand.node.all_input_nodes]

    def _match(self, operand: Operand, value: Node) -> tuple[int, Broadcast]:
        """Return the first column of a value that an operand is computed from, and how it is broadcast."""
        match = match_operand(operand.node, value)
        columns = None if match is None else match_columns(match, operand.start, self._column_count(operand.broadcast))
        assert columns is not None
        start, _, broadcast = columns
        return start, operand.broadcast if broadcast is Broadcast.ELEMENTWISE else broadcast

    def operands(self) -> Iterator[Operand]:
        """Yield every value that is computed or loaded, once, after those that it is computed from."""
        visited: set[Operand] = set()

        def visit(operand: Operand) -> Iterator[Operand]:
            if operand not in visited:
                visited.add(operand)
                for value in self.inputs(operand):
                    yield from visit(value)
                yield operand

        for store in self.stores:
            if store.node is not None:
                yield from visit(self.operand(store.node, store.start))

    def loads(self) -> list[BufferColumns]:
        """Return where values are loaded from, once each, except parameters."""
        locations = (self.location(operand) for operand in self.operands())
        return list(dict.fromkeys(location for location in locations if location is not None))

    def parameters(self) -> list[Node]:
        """Return the parameters, and values made of parameters alone, that are used element by element."""
        weights = (operand.node for operand in self.operands() if domain_of(operand.node) is Domain.WEIGHT)
        return [node for node in dict.fromkeys(weights) if node.target is not CONSTANT]


Stage = Product | Pointwise


@dataclass
class Program:
    """Stages that run one after the other on the same rows."""

    stages: list[Stage] = field(default_factory=list)

    def buffers(self) -> list[Buffer]:
        """Return every buffer that a stage reads or writes, once, sorted by name."""
        locations: list[BufferColumns] = []
        for stage in self.stages:
            if isinstance(stage, Product):
                locations += [stage.a, stage.c]
            else:
                locations += [store.location for store in stage.stores]
                locations += stage.loads()
        buffers = {(columns.buffer.name, columns.buffer.kind): columns.buffer for columns in locations}
        return [buffers[key] for key in sorted(buffers, key=lambda key: (key[0], key[1].name))]

    def only_for_next_step(self) -> list[bool]:
        """Return for each stage whether only the next step uses its results: the last step can leave it out."""
        flags: list[bool] = []
        read: set[Buffer] = set()
        for stage in reversed(self.stages):
            if isinstance(stage, Product):
                stores, loads = [stage.c], [stage.a, stage.c]
            else:
                stores, loads = [store.location for store in stage.stores], stage.loads()
            buffers = [columns.buffer for columns in stores]
            flags.append(
                all(b.kind is BufferKind.NEXT or (b.kind is BufferKind.BLOCK and b not in read) for b in buffers)
            )
            if not flags[-1]:
                read |= {columns.buffer for columns in loads}
        return flags[::-1]

    def weights(self) -> list[tuple[Node, bool]]:
        """Return every matrix that a product multiplies by, and whether it is transposed, once."""
        return list(dict.fromkeys((s.weight, s.transposed) for s in self.stages if isinstance(s, Product)))
