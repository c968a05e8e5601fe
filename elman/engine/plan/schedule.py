"""Orders the stages of a program: which operations form a pass, between which matrix products."""

from collections.abc import Container, Iterator, Mapping
from itertools import pairwise
from math import prod

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, domain_of, unturned
from elman.engine.plan.fusion import FusedStage, check_supported
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Pointwise, Product, Program, Store
from elman.engine.plan.layout import Fit, arranged, aten, inside, operand, reduced, source, width
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.errors import CannotCapture, place_of

Stores = list[tuple[Node, BufferColumns]]


def schedule(
    name: str,
    roots: Stores,
    memory: Mapping[Node, BufferColumns],
    products: Mapping[Node, BufferColumns] | None = None,
    bare: Mapping[Node, BufferColumns] | None = None,
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
    return _Schedule(name, roots, memory, products or {}, bare or {}, merged or {}).program()


class _Schedule:
    def __init__(
        self,
        name: str,
        roots: Stores,
        memory: Mapping[Node, BufferColumns],
        products: Mapping[Node, BufferColumns],
        bare: Mapping[Node, BufferColumns],
        merged: Mapping[Node, Node],
    ) -> None:
        self.name, self.stores = name, list(roots)
        self.memory, self.products, self.bare = dict(memory), dict(products), dict(bare)
        self.wanted = dict(reversed(roots))
        self.merged, self.summed = merged, {total: product for product, total in merged.items()}
        self.levels: dict[Node, int] = {}
        self.found: dict[Node, int] = {}  # products and reductions, and the level at which each is there
        for node in (*self.wanted, *bare):
            self.level(node)

    def level(self, node: Node) -> int:
        """How many products and reductions, one after the other, must be there before the value is."""
        node, _ = source(node, 0, width(node), self.memory)
        if node in self.memory:
            return 0
        if node not in self.levels:
            if node.target in PRODUCT:
                self.levels[node] = self._level_of_product(node)
            elif node.target in REDUCTIONS:
                self.levels[node] = self._level_of_reduction(node)
            elif node in self.summed:
                self.levels[node] = self.level(self.summed[node])
            elif arranged(node):
                self.levels[node] = max(self.level(part) for part, *_ in inside(node, 0, width(node)))
            else:
                check_supported(node)
                rows = [n for n in node.all_input_nodes if domain_of(n) is Domain.ROW]
                self.levels[node] = max((self.level(row) for row in rows), default=0)
        return self.levels[node]

    def _level_of_product(self, node: Node) -> int:
        if node in self.products:
            return 0
        left = operand(node, len(node.args) - 2)
        self._want(left)
        self.found[node] = self.level(left) + 1
        return self.found[node]

    def _level_of_reduction(self, node: Node) -> int:
        value = operand(node, 0)
        level = self.level(value)
        if self._added_up(node) is None:
            # Not computed in pieces of one shape: it is stored first.
            self._want(value)
            level += 1
        self._want(node)
        self.found[node] = level + 1
        return level + 1

    def _added_up(self, node: Node) -> tuple[tuple[int, int], list[int]] | None:
        """How what is reduced is computed: heads and width, and the first columns of pieces; None if not alike."""
        value = operand(node, 0)
        how, heads, size = self._reduced(node)
        work = FusedStage(value, 0, width(value), self._leaves())
        if not work.cuts and (not work.frames or how is Fit.ONE or work.frames == {(heads, size)}):
            return (next(iter(work.frames)) if work.frames and how is Fit.ONE else (heads, size)), [0]
        if how is not Fit.ONE or work.frames:
            return None
        starts = [0, *sorted(work.cuts)]
        sizes = {end - start for start, end in pairwise([*starts, width(value)])}
        return ((1, sizes.pop()), starts) if len(sizes) == 1 else None

    def _reduced(self, node: Node) -> tuple[Fit, int, int]:
        found = reduced(node)
        if found is None:
            raise CannotCapture(f"{node.target} over axes that are not side by side{place_of(node)}")
        return found

    def _want(self, node: Node) -> None:
        """See that a value is stored as a whole."""
        if self.place(node) is None:
            buffer = Buffer(f"{self.name}.{len(self.stores) + len(self.products)}", width(node), BufferKind.BLOCK)
            self.wanted[node] = BufferColumns(buffer)
            self.stores.append((node, self.wanted[node]))

    def place(self, node: Node) -> BufferColumns | None:
        """Where a value is, or will be, stored as a whole."""
        if node in self.wanted:
            return self.wanted[node]
        real, start = source(node, 0, width(node), {**self.memory, **self.wanted})
        place = self.memory.get(real) or self.wanted.get(real)
        if place is None or place.buffer.kind is BufferKind.COTANGENT:
            return None
        return BufferColumns(place.buffer, place.offset + start)

    def _leaves(self) -> Container[Node]:
        return {**self.memory, **self.products}

    def when(self, node: Node) -> int:
        """The level at which a value is stored."""
        # A reduction is worked out, with what is stored together with it, one level before it can be used.
        return self.level(node) - (node in self.found and node.target in REDUCTIONS)

    def program(self) -> Program:
        program = Program()
        left = list(self.stores)
        for level in range(max([0, *self.levels.values()]) + 1):
            ready = [store for store in left if self.when(store[0]) <= level]
            left = [store for store in left if store not in ready]
            self._pointwise(program, ready)
            for node, place in ready:
                if node not in self.memory or self.memory[node].buffer.kind is BufferKind.COTANGENT:
                    self.memory[node] = place
            for node, there in self.found.items():
                if there == level + 1 and node.target in PRODUCT:
                    self._product(program, node)
                    left = [store for store in left if store != (node, self.products.get(node))]
        return program

    def _pointwise(self, program: Program, ready: Stores) -> None:
        together: dict[tuple[int, int], list[Store]] = {}
        for node, place in ready:
            if node.target in REDUCTIONS and node in self.found:
                added_up = self._added_up(node)
                assert added_up is not None
                reduction = None if self._reduced(node)[0] is Fit.ALL else node
                for start in added_up[1]:
                    together.setdefault(added_up[0], []).append(Store(operand(node, 0), start, place, reduction))
                continue
            for frame, start in self._pieces(node, 0, width(node)):
                to = BufferColumns(place.buffer, place.offset + start)
                together.setdefault(frame, []).append(Store(node, start, to))
        for (heads, size), stores in together.items():
            program.stages.append(Pointwise(heads, size, tuple(stores), dict(self.memory), dict(self.products)))

    def _pieces(self, node: Node, start: int, end: int) -> Iterator[tuple[tuple[int, int], int]]:
        """The pieces of columns start .. end that are computed alike: heads and width, and the first column."""
        work = FusedStage(node, start, end - start, self._leaves())
        if work.cuts:
            for piece in pairwise([start, *sorted(work.cuts), end]):
                yield from self._pieces(node, *piece)
            return
        frames = work.frames or {(1, end - start)}
        if len(frames) > 1 or prod(*frames) != end - start:
            raise CannotCapture(f"{node.target} of shapes that differ{place_of(node)}")
        yield frames.pop(), start

    def _product(self, program: Program, node: Node) -> None:
        left, right = (operand(node, len(node.args) - i) for i in (2, 1))
        weight, transposed = unturned(right)
        if domain_of(weight) is not Domain.WEIGHT:
            raise CannotCapture(f"a product of two values of the step{place_of(node)}")
        direct = self.wanted.get(node) if node.target is aten.mm.default else None
        total = self.merged.get(node)
        there = None if total is None else next(self.products[n] for n in total.all_input_nodes if n is not node)
        block = BufferColumns(
            Buffer(f"{self.name}.{len(self.stores) + len(self.products)}", width(node), BufferKind.BLOCK)
        )
        c = there or self.bare.get(node) or direct or block
        a = self.place(left)
        assert a is not None
        program.stages.append(Product(a, weight, transposed, c, width(left), width(node), add=there is not None))
        self.products[total or node] = c
