"""The intermediate representation: buffers with a row for each sequence, and stages that read and write them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from torch.fx import Node

from elman.engine.plan.domains import Domain, biases, domain_of, matching
from elman.engine.plan.layout import Fit, source, within
from elman.engine.trace.aten import CONSTANT


class BufferKind(Enum):
    """How the memory of a value is laid out."""

    STEP = "a row for each step and member of the batch"
    CHUNK = "as STEP, for the steps of one chunk, and then forgotten"
    PREVIOUS = "the same memory, one step earlier"
    NOW = "a row for each member, of this step; the next step finds it in NEXT's place"
    NEXT = "a row for each member, of the next step"
    BLOCK = "a row for each member, forgotten after the step"
    COTANGENT = "as NOW, and the cotangent of this step's output added"


@dataclass(frozen=True)
class Buffer:
    """Memory with a row for each member of the batch, or many."""

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
    """C = A W or, `transposed`, C = A W^T, for all rows; or that is added to C."""

    a: BufferColumns
    weight: Node
    transposed: bool
    c: BufferColumns
    depth: int  # columns of A
    width: int  # columns of C
    add: bool = False


class Store(NamedTuple):
    """Columns of a value, from `start` on, and where they go; or what a reduction makes of them."""

    node: Node | None  # None: zeros
    start: int
    place: BufferColumns
    reduction: Node | None = None


class Operand(NamedTuple):
    """A value within a stage: its first column, and how it is matched with the stage's."""

    node: Node
    start: int
    fit: Fit


@dataclass(frozen=True)
class Pointwise:
    """Values of `heads` times `width` columns, computed together from what `memory` and `products` hold, and stored.

    Of products, what is held lacks the bias that addmm adds.
    """

    heads: int
    width: int
    stores: tuple[Store, ...]
    memory: Mapping[Node, BufferColumns]
    products: Mapping[Node, BufferColumns]

    def part(self, node: Node, start: int = 0, how: Fit = Fit.ALL) -> Operand:
        """A value, or columns of it, as what is computed or loaded for it."""
        if domain_of(node) is not Domain.WEIGHT:
            node, start = source(node, start, self._size(how), self.memory)
        return Operand(node, start, how)

    def _size(self, how: Fit) -> int:
        return {Fit.ALL: self.heads * self.width, Fit.HEAD: self.heads, Fit.COLUMN: self.width, Fit.ONE: 1}[how]

    def place(self, part: Operand) -> BufferColumns | None:
        """Where a value lies, if it is not to be computed."""
        return self.memory.get(part.node) or self.products.get(part.node)

    def operands(self, part: Operand) -> list[Operand]:
        """What a value is made of, in the order of its arguments, parameters included."""
        if part.node in self.memory or domain_of(part.node) is Domain.WEIGHT:
            return []
        if part.node in self.products:
            return [Operand(bias, part.start, part.fit) for bias in biases(part.node)]
        return [self.part(value, *self._matched(part, value)) for value in part.node.all_input_nodes]

    def _matched(self, part: Operand, value: Node) -> tuple[int, Fit]:
        """The first column of a value that a part is made of, and how it is matched."""
        found = matching(part.node, value)
        taken = None if found is None else within(found, part.start, self._size(part.fit))
        assert taken is not None
        start, _, how = taken
        return start, part.fit if how is Fit.ALL else how

    def parts(self) -> Iterator[Operand]:
        """Every value that is computed or loaded, once, each after what it is made of."""
        seen: set[Operand] = set()

        def visit(part: Operand) -> Iterator[Operand]:
            if part not in seen:
                seen.add(part)
                for inner in self.operands(part):
                    yield from visit(inner)
                yield part

        for store in self.stores:
            if store.node is not None:
                yield from visit(self.part(store.node, store.start))

    def places(self) -> list[BufferColumns]:
        """Where values are loaded from, parameters apart."""
        return list(dict.fromkeys(place for part in self.parts() if (place := self.place(part)) is not None))

    def parameters(self) -> list[Node]:
        """The parameters, and values made of these alone, that are used element by element."""
        weights = (part.node for part in self.parts() if domain_of(part.node) is Domain.WEIGHT)
        return [node for node in dict.fromkeys(weights) if node.target is not CONSTANT]


Stage = Product | Pointwise


@dataclass
class Program:
    """Stages to be run one after the other on the same rows."""

    stages: list[Stage] = field(default_factory=list)

    def buffers(self) -> list[Buffer]:
        """Every buffer that a stage reads or writes, once, in order of their names."""
        places: list[BufferColumns] = []
        for stage in self.stages:
            if isinstance(stage, Product):
                places += [stage.a, stage.c]
            else:
                places += [store.place for store in stage.stores]
                places += stage.places()
        found = {(place.buffer.name, place.buffer.kind): place.buffer for place in places}
        return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1].name))]

    def for_next(self) -> list[bool]:
        """Of each stage, whether all that it makes is for the next step: where there is none, it can be left out."""
        found: list[bool] = []
        read: set[Buffer] = set()
        for stage in reversed(self.stages):
            if isinstance(stage, Product):
                makes, reads = [stage.c], [stage.a, stage.c]
            else:
                makes, reads = [store.place for store in stage.stores], stage.places()
            buffers = [place.buffer for place in makes]
            found.append(
                all(b.kind is BufferKind.NEXT or (b.kind is BufferKind.BLOCK and b not in read) for b in buffers)
            )
            if not found[-1]:
                read |= {place.buffer for place in reads}
        return found[::-1]

    def weights(self) -> list[tuple[Node, bool]]:
        """Every matrix that a product multiplies with, and whether transposed, once."""
        found = dict.fromkeys((s.weight, s.transposed) for s in self.stages if isinstance(s, Product))
        return list(found)
