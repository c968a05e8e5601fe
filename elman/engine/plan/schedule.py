"""Orders the stages of a program: which operations form a pass, between which matrix products."""

from collections.abc import Container, Iterator, Mapping
from itertools import pairwise
from math import prod

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, domain_of, strip_transposes
from elman.engine.plan.fusion import FusedStage, check_supported
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Pointwise, Product, Program, Store
from elman.engine.plan.layout import (
    Broadcast,
    BroadcastMatch,
    aten,
    is_arrangement,
    match_reduction,
    operand,
    resolve,
    source_columns,
    width,
)
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.errors import CannotCapture, location_of

Stores = list[tuple[Node, BufferColumns]]


def schedule(
    name: str,
    roots: Stores,
    memory: Mapping[Node, BufferColumns],
    products: Mapping[Node, BufferColumns] | None = None,
    bare_products: Mapping[Node, BufferColumns] | None = None,
    merged: Mapping[Node, Node] | None = None,
) -> Program:
    """Return the stages that store every root at its location.

    Args:
        name: of the program, for the names of its temporary buffers.
        roots: values and where to store them.
        memory: values that are stored already, and where.
        products: matrix products that are stored already, without the bias that addmm adds.
        bare_products: matrix products to store without that bias, and where.
        merged: products to add to one of `products` where it is stored, and the values that are these sums.

    Raises:
        CannotCapture: for an operation that is not in the table of operations.
    """
    return _Schedule(name, roots, memory, products or {}, bare_products or {}, merged or {}).program()


class _Schedule:
    """Sorts values into levels: a level is a pass over the columns, followed by the matrix products that it enables."""

    def __init__(
        self,
        name: str,
        roots: Stores,
        memory: Mapping[Node, BufferColumns],
        products: Mapping[Node, BufferColumns],
        bare_products: Mapping[Node, BufferColumns],
        merged: Mapping[Node, Node],
    ) -> None:
        self.name, self.stores = name, list(roots)
        self.memory, self.products, self.bare_products = dict(memory), dict(products), dict(bare_products)
        self.targets = dict(reversed(roots))
        self.merged, self.merged_sums = merged, {total: product for product, total in merged.items()}
        self.levels: dict[Node, int] = {}
        self.available_at: dict[Node, int] = {}  # products and reductions, and the first level that can use each
        for node in (*self.targets, *bare_products):
            self.level(node)

    def level(self, node: Node) -> int:
        """Return how many products and reductions, one after the other, the value depends on."""
        node, _ = resolve(node, 0, width(node), self.memory)
        if node in self.memory:
            return 0
        if node not in self.levels:
            if node.target in PRODUCT:
                self.levels[node] = self._level_of_product(node)
            elif node.target in REDUCTIONS:
                self.levels[node] = self._level_of_reduction(node)
            elif node in self.merged_sums:
                self.levels[node] = self.level(self.merged_sums[node])
            elif is_arrangement(node):
                self.levels[node] = max(self.level(value) for value, *_ in source_columns(node, 0, width(node)))
            else:
                check_supported(node)
                rows = [n for n in node.all_input_nodes if domain_of(n) is Domain.ROW]
                self.levels[node] = max((self.level(row) for row in rows), default=0)
        return self.levels[node]

    def _level_of_product(self, node: Node) -> int:
        if node in self.products:
            return 0
        left = operand(node, len(node.args) - 2)
        self._require_stored(left)
        self.available_at[node] = self.level(left) + 1
        return self.available_at[node]

    def _level_of_reduction(self, node: Node) -> int:
        value = operand(node, 0)
        level = self.level(value)
        if self._reduction_segments(node) is None:
            # Its columns are not computed in segments of one shape, so it is stored before it is reduced.
            self._require_stored(value)
            level += 1
        self._require_stored(node)
        self.available_at[node] = level + 1
        return level + 1

    def _reduction_segments(self, node: Node) -> tuple[tuple[int, int], list[int]] | None:
        """Return heads and width of the segments in which a reduction's operand is computed, and their first columns.

        None if no segments of one shape compute it.
        """
        value = operand(node, 0)
        broadcast, heads, size = self._match_reduction(node)
        fused = FusedStage(value, 0, width(value), self._leaves())
        is_scalar = broadcast is Broadcast.SCALAR
        if not fused.cuts and (not fused.frames or is_scalar or fused.frames == {(heads, size)}):
            return (next(iter(fused.frames)) if fused.frames and is_scalar else (heads, size)), [0]
        if not is_scalar or fused.frames:
            return None
        starts = [0, *sorted(fused.cuts)]
        sizes = {end - start for start, end in pairwise([*starts, width(value)])}
        return ((1, sizes.pop()), starts) if len(sizes) == 1 else None

    def _match_reduction(self, node: Node) -> BroadcastMatch:
        match = match_reduction(node)
        if match is None:
            raise CannotCapture(f"{node.target} over axes that are not adjacent{location_of(node)}")
        return match

    def _require_stored(self, node: Node) -> None:
        """Have a value stored as a whole, in a temporary buffer if nowhere else."""
        if self.location(node) is None:
            self.targets[node] = self._temporary(node)
            self.stores.append((node, self.targets[node]))

    def _temporary(self, node: Node) -> BufferColumns:
        name = f"{self.name}.{len(self.stores) + len(self.products)}"
        return BufferColumns(Buffer(name, width(node), BufferKind.BLOCK))

    def location(self, node: Node) -> BufferColumns | None:
        """Return where a value is, or will be, stored as a whole."""
        if node in self.targets:
            return self.targets[node]
        value, start = resolve(node, 0, width(node), {**self.memory, **self.targets})
        columns = self.memory.get(value) or self.targets.get(value)
        # The memory of COTANGENT lacks a summand, which is added as it is loaded.
        if columns is None or columns.buffer.kind is BufferKind.COTANGENT:
            return None
        return BufferColumns(columns.buffer, columns.offset + start)

    def _leaves(self) -> Container[Node]:
        return {**self.memory, **self.products}

    def store_level(self, node: Node) -> int:
        """Return the level whose pass stores a value."""
        # A reduction is computed, with what is stored in the same pass, one level before it can be used.
        return self.level(node) - (node in self.available_at and node.target in REDUCTIONS)

    def program(self) -> Program:
        program = Program()
        pending = list(self.stores)
        for level in range(max([0, *self.levels.values()]) + 1):
            ready = [store for store in pending if self.store_level(store[0]) <= level]
            pending = [store for store in pending if store not in ready]
            self._add_pointwise(program, ready)
            for node, columns in ready:
                if node not in self.memory or self.memory[node].buffer.kind is BufferKind.COTANGENT:
                    self.memory[node] = columns
            for node, available_at in self.available_at.items():
                if available_at == level + 1 and node.target in PRODUCT:
                    self._add_product(program, node)
                    pending = [store for store in pending if store != (node, self.products.get(node))]
        return program

    def _add_pointwise(self, program: Program, ready: Stores) -> None:
        stores_by_frame: dict[tuple[int, int], list[Store]] = {}
        for node, columns in ready:
            if node.target in REDUCTIONS and node in self.available_at:
                segments = self._reduction_segments(node)
                assert segments is not None
                reduction = None if self._match_reduction(node).broadcast is Broadcast.ELEMENTWISE else node
                for start in segments[1]:
                    store = Store(operand(node, 0), start, columns, reduction)
                    stores_by_frame.setdefault(segments[0], []).append(store)
                continue
            for frame, start in self._segments(node, 0, width(node)):
                location = BufferColumns(columns.buffer, columns.offset + start)
                stores_by_frame.setdefault(frame, []).append(Store(node, start, location))
        for (heads, size), stores in stores_by_frame.items():
            program.stages.append(Pointwise(heads, size, tuple(stores), dict(self.memory), dict(self.products)))

    def _segments(self, node: Node, start: int, end: int) -> Iterator[tuple[tuple[int, int], int]]:
        """Yield the segments of columns start .. end that are computed uniformly: heads and width, first column."""
        fused = FusedStage(node, start, end - start, self._leaves())
        if fused.cuts:
            for segment in pairwise([start, *sorted(fused.cuts), end]):
                yield from self._segments(node, *segment)
            return
        frames = fused.frames or {(1, end - start)}
        if len(frames) > 1 or prod(*frames) != end - start:
            raise CannotCapture(f"{node.target} of shapes that differ{location_of(node)}")
        yield frames.pop(), start

    def _add_product(self, program: Program, node: Node) -> None:
        left, right = (operand(node, len(node.args) - i) for i in (2, 1))
        weight, transposed = strip_transposes(right)
        if domain_of(weight) is not Domain.WEIGHT:
            raise CannotCapture(f"a matrix product of two values of the step{location_of(node)}")
        # A root that is an addmm needs its bias: it is stored by a pass, not by the product.
        target = self.targets.get(node) if node.target is aten.mm.default else None
        total = self.merged.get(node)
        addend = None if total is None else next(self.products[n] for n in total.all_input_nodes if n is not node)
        c = addend or self.bare_products.get(node) or target or self._temporary(node)
        a = self.location(left)
        assert a is not None
        program.stages.append(Product(a, weight, transposed, c, width(left), width(node), add=addend is not None))
        self.products[total or node] = c
