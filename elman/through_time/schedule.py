"""Putting values in order: which are computed together, element by element, and between which matrix products."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from torch.fx import Node

from elman.through_time.capture import CannotCapture
from elman.through_time.graph import ITEM, PRODUCT, Domain, aten, operand, parts, source, unturned, width
from elman.through_time.operations import POINTWISE


class Kind(Enum):
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
    kind: Kind


@dataclass(frozen=True)
class Place:
    """Columns of a buffer, from `offset` on."""

    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True)
class Product:
    """C = A W or, `transposed`, C = A W^T, for all rows; or that is added to C."""

    a: Place
    weight: Node
    transposed: bool
    c: Place
    depth: int  # columns of A
    width: int  # columns of C
    add: bool = False


@dataclass(frozen=True)
class Pointwise:
    """Values of one width, computed together from what `memory` (and, of products, `products`) holds, and stored."""

    width: int
    stores: tuple[tuple[Node | None, int, Place], ...]  # the value (None: zeros), its first column, and where to
    memory: Mapping[Node, Place]
    products: Mapping[Node, Place]


Stage = Product | Pointwise


@dataclass
class Program:
    """Stages to be run one after the other on the same rows."""

    stages: list[Stage] = field(default_factory=list)

    def buffers(self) -> list[Buffer]:
        """Every buffer that a stage reads or writes, once, in order of their names."""
        places: list[Place] = []
        for stage in self.stages:
            if isinstance(stage, Product):
                places += [stage.a, stage.c]
            else:
                places += [place for *_, place in stage.stores]
                places += leaves(stage)
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
                makes, reads = [place for *_, place in stage.stores], leaves(stage)
            buffers = [place.buffer for place in makes]
            found.append(all(b.kind is Kind.NEXT or (b.kind is Kind.BLOCK and b not in read) for b in buffers))
            if not found[-1]:
                read |= {place.buffer for place in reads}
        return found[::-1]

    def weights(self) -> list[tuple[Node, bool]]:
        """Every matrix that a product multiplies with, and whether transposed, once."""
        found = dict.fromkeys((s.weight, s.transposed) for s in self.stages if isinstance(s, Product))
        return list(found)


def leaves(stage: Pointwise) -> list[Place]:
    """Where a stage loads values from, parameters apart; CannotCapture if it needs what no pointwise code can make."""
    found: dict[Place, None] = {}

    def visit(node: Node, start: int) -> None:
        node, start = source(node, start, stage.width, stage.memory)
        if node in stage.memory:
            found[stage.memory[node]] = None
        elif node in stage.products:
            found[stage.products[node]] = None
        elif node.target not in POINTWISE:
            raise CannotCapture(f"{node.target} that is used in other parts than it is made of{_line(node)}")
        else:
            for argument in node.all_input_nodes:
                if argument.meta["domain"] is Domain.ROW:
                    visit(argument, start)

    for node, start, _ in stage.stores:
        if node is not None:
            visit(node, start)
    return list(found)


Stores = list[tuple[Node, Place]]


def schedule(
    name: str,
    roots: Stores,
    memory: Mapping[Node, Place],
    products: Mapping[Node, Place] | None = None,
    bare: Mapping[Node, Place] | None = None,
    merged: Mapping[Node, Node] | None = None,
) -> Program:
    """The stages that store every root in its place.

    Args:
        name: of the program, for the names of its own buffers.
        roots: values and where they shall be stored.
        memory: values that are stored already, and where.
        products: matrix products that are stored already, without the bias that addmm adds.
        bare: matrix products to store so, and where.
        merged: products to be added to one of `products` where that is stored, and the sums that this gives.

    Raises:
        CannotCapture: for an operation that is in no table.
    """
    program = _Schedule(name, roots, memory, products or {}, bare or {}, merged or {}).program()
    program.buffers()  # refuses what no pointwise code can make: now, and not when code is written
    return program


class _Schedule:
    def __init__(
        self,
        name: str,
        roots: Stores,
        memory: Mapping[Node, Place],
        products: Mapping[Node, Place],
        bare: Mapping[Node, Place],
        merged: Mapping[Node, Node],
    ) -> None:
        self.name, self.stores = name, list(roots)
        self.memory, self.products, self.bare = dict(memory), dict(products), dict(bare)
        self.wanted = dict(reversed(roots))
        self.merged, self.summed = merged, {total: product for product, total in merged.items()}
        self.levels: dict[Node, int] = {}
        self.found: dict[Node, int] = {}  # products, and the level at which each is there
        for node in (*self.wanted, *bare):
            self.level(node)

    def level(self, node: Node) -> int:
        """How many products, one after the other, must be there before the value is."""
        node, _ = source(node, 0, width(node), self.memory)
        if node in self.memory:
            return 0
        if node not in self.levels:
            if node.target in PRODUCT:
                self.levels[node] = self._level_of_product(node)
            elif node in self.summed:
                self.levels[node] = self.level(self.summed[node])
            elif node.target is aten.cat.default:
                self.levels[node] = max(self.level(part) for part, _ in parts(node))
            else:
                check(node)
                rows = [n for n in node.all_input_nodes if n.meta["domain"] is Domain.ROW]
                self.levels[node] = max((self.level(row) for row in rows), default=0)
        return self.levels[node]

    def _level_of_product(self, node: Node) -> int:
        if node in self.products:
            return 0
        left = operand(node, len(node.args) - 2)
        if self.place(left) is None:
            self.wanted[left] = Place(self._buffer(width(left)))
            self.stores.append((left, self.wanted[left]))
        self.found[node] = self.level(left) + 1
        return self.found[node]

    def _buffer(self, size: int) -> Buffer:
        return Buffer(f"{self.name}.{len(self.stores) + len(self.products)}", size, Kind.BLOCK)

    def place(self, node: Node) -> Place | None:
        """Where a value is, or will be, stored as a whole."""
        if node in self.wanted:
            return self.wanted[node]
        real, start = source(node, 0, width(node), {**self.memory, **self.wanted})
        place = self.memory.get(real) or self.wanted.get(real)
        if place is None or place.buffer.kind is Kind.COTANGENT:
            return None
        return Place(place.buffer, place.offset + start)

    def program(self) -> Program:
        program = Program()
        left = list(self.stores)
        for level in range(max([0, *self.levels.values()]) + 1):
            ready = [store for store in left if self.level(store[0]) <= level]
            left = [store for store in left if store not in ready]
            self._pointwise(program, ready)
            for node, place in ready:
                if node not in self.memory or self.memory[node].buffer.kind is Kind.COTANGENT:
                    self.memory[node] = place
            for node, there in self.found.items():
                if there == level + 1:
                    self._product(program, node)
                    left = [store for store in left if store != (node, self.products.get(node))]
        return program

    def _pointwise(self, program: Program, ready: Stores) -> None:
        by_width: dict[int, list[tuple[Node | None, int, Place]]] = {}
        for node, place in ready:
            whole, start = source(node, 0, width(node), self.memory)
            pieces = parts(whole) if start == 0 and width(whole) == width(node) else [(node, 0)]
            for part, offset in [(node, 0)] if whole in self.memory else pieces:
                by_width.setdefault(width(part), []).append((part, 0, Place(place.buffer, place.offset + offset)))
        for size, stores in by_width.items():
            program.stages.append(Pointwise(size, tuple(stores), dict(self.memory), dict(self.products)))

    def _product(self, program: Program, node: Node) -> None:
        left, right = (operand(node, len(node.args) - i) for i in (2, 1))
        weight, transposed = unturned(right)
        if weight.meta["domain"] is not Domain.WEIGHT:
            raise CannotCapture(f"a product of two values of the step{node.meta['line']}")
        direct = self.wanted.get(node) if node.target is aten.mm.default else None
        total = self.merged.get(node)
        there = None if total is None else next(self.products[n] for n in total.all_input_nodes if n is not node)
        c = there or self.bare.get(node) or direct or Place(self._buffer(width(node)))
        a = self.place(left)
        assert a is not None
        program.stages.append(Product(a, weight, transposed, c, width(left), width(node), add=there is not None))
        self.products[total or node] = c


def check(node: Node) -> None:
    """Raise CannotCapture unless the table of operations has the node's operation, on rows of one width."""
    line = _line(node)
    if node.target not in POINTWISE:
        target = operand(node, 0).target if node.target in ITEM else node.target  # an item is of what has several
        raise CannotCapture(f"{target}, which is not in the table of operations{line}")
    for argument in node.all_input_nodes:
        shape, wide = argument.meta["shape"], argument.meta["domain"] is Domain.ROW
        if (
            (len(shape) != 2 or shape != node.meta["shape"])
            if wide
            else (len(shape) > 1 or shape not in ((), (1,), node.meta["shape"][1:]))
        ):
            raise CannotCapture(f"{node.target} of shapes that differ{line}")


def _line(node: Node) -> str:
    return node.meta.get("line") or " (in the backward step)"
