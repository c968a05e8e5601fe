"""Writes the Triton function of a pass.

The function works on `ROWS` rows of the batch. A pass without reductions computes one tile of their columns, whose
number it gets. A pass with reductions needs whole rows: it loops over the columns itself.
"""

import itertools
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

from torch.fx import Node

from elman.engine.gpu.lowering import COMBINE, LOWERING, number
from elman.engine.gpu.names import parameter_name, pointer_name
from elman.engine.gpu.passes import Pass, result_of
from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.ir import BufferColumns, BufferKind, Operand, Pointwise, Product, Store
from elman.engine.plan.layout import Broadcast
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.values import shape_of

ROWS = 16  # of a tile: the fewest that tl.dot takes


class Tiles(NamedTuple):
    """The largest tiles of a form: columns, and the depth that tl.dot multiplies at once."""

    columns: int
    depth: int


#: one program computes all columns: the tiles that keep the values of a pass in registers
WHOLE = Tiles(32, 32)
#: the columns are shared among programs: narrow tiles for more programs, deep ones for fewer rounds
STEP = Tiles(16, 64)


RESERVED = (
    "tl", "functions", "i", "index", "column", "columns", "head", "row", "keep", "limit", "tile", "k", "depth", "begin",
    "REAL", "PRECISION", "COLUMNS", "DEPTH", "dy", "dy_stride", "range",
)  # fmt: skip


def tile_size(size: int, largest: int) -> int:
    """Return the size of the tiles that `size` columns are split into: a power of two, at least 16."""
    return min(largest, max(16, 1 << (size - 1).bit_length()))


def tiles_of(p: Pass, form: Tiles) -> Tiles:
    """Return the tiles of a pass, which are no larger than its columns and depth need."""
    stage = p.stage
    columns = stage.width if isinstance(stage, Product) or _loops(stage) else stage.heads * stage.width
    depth = max((product.depth for product in p.products()), default=1)
    # At least two rounds: in a single one, the loop is unrolled, and all its loads take registers.
    return Tiles(tile_size(columns, form.columns), tile_size(depth // 2, form.depth))


def column_tiles(p: Pass, form: Tiles) -> int:
    """Return how many tiles of columns a pass has; 1 if it loops over them itself."""
    stage = p.stage
    if isinstance(stage, Pointwise) and _loops(stage):
        return 1
    columns = stage.width if isinstance(stage, Product) else stage.heads * stage.width
    return -(-columns // tiles_of(p, form).columns)


def _loops(stage: Pointwise) -> bool:
    return any(store.reduction is not None for store in stage.stores)


def arguments_of(p: Pass) -> list[str]:
    """Return the names of the pointers that the function of a pass takes."""
    names = [pointer_name(buffer) for buffer in p.buffers()]
    names += [parameter_name(product.weight) for product in p.products()]
    if isinstance(p.stage, Pointwise):
        names += [parameter_name(node) for node in p.stage.parameters()]
    return list(dict.fromkeys(names))


def reads_cotangent(p: Pass) -> bool:
    """Whether a pass reads the cotangent of the outputs, `dy`, whose rows are `dy_stride` apart."""
    return any(columns.buffer.kind is BufferKind.COTANGENT for columns in p.reads())


def write_pass(p: Pass) -> list[str]:
    """Return the lines of the function of a pass."""
    return _PassWriter(p).lines()


class _PassWriter:
    def __init__(self, p: Pass) -> None:
        self.p, self.stage = p, p.stage
        self._lines: list[str] = []
        self._indent = 1
        self._used = {*RESERVED, *arguments_of(p)}

    def lines(self) -> list[str]:
        p, stage = self.p, self.stage
        numbers = ["dy", "dy_stride"] if reads_cotangent(p) else []
        self.line(f"i = tl.arange(0, {ROWS})[:, None]")
        self.line("row = i < limit")
        if isinstance(stage, Product):
            size = stage.width
            self._columns_of_tile(size)
            (total,) = self._accumulate([(stage, 0)])
            self._store(stage.c, "index", total, "keep")
            about = f"product with {stage.weight.name}{'^T' * stage.transposed}"
        else:
            results = {result_of(store) for store in stage.stores}
            if Broadcast.PER_COLUMN in results:
                self._reduce_heads(stage.stores)
            elif results == {None}:
                self._one_tile(stage.stores)
            else:
                self._reduce_rows(stage.stores)
            about = f"{len(stage.stores)} value{'s' * (len(stage.stores) > 1)} of {stage.heads} x {stage.width} columns"
        constants = [f"{name}: tl.constexpr" for name in ("REAL", "PRECISION", "COLUMNS", "DEPTH")]
        signature = ", ".join([*arguments_of(p), *numbers, "limit", "tile", *constants])
        head = ["@triton.jit", f"def {p.name}({signature}):", f'    """Computes {about}."""']
        return [*head, *self._lines]

    def line(self, text: str) -> None:
        self._lines.append("    " * self._indent + text)

    def fresh(self, name: str) -> str:
        """Return the name, or one like it that is not used yet."""
        candidates = (f"{name}_{suffix}" for suffix in _letters())
        unused = next(candidate for candidate in chain([name], candidates) if candidate not in self._used)
        self._used.add(unused)
        return unused

    # The ways through the columns.

    def _columns_of_tile(self, size: int) -> None:
        """Name the columns of the tile: their index in the row, and which elements of the tile exist."""
        self.line("index = tile * COLUMNS + tl.arange(0, COLUMNS)[None, :]")
        self.columns_mask = "" if size % WHOLE.columns == 0 else f"index < {size}"
        self.line(f"keep = row & ({self.columns_mask or 'index >= 0'})")

    def _one_tile(self, stores: Sequence[Store]) -> None:
        """All heads side by side."""
        stage = self._pointwise
        self._columns_of_tile(stage.heads * stage.width)
        self.loops_over_heads = False
        if stage.heads > 1:
            self.line(f"head = index // {stage.width}")
            self.line(f"column = index % {stage.width}")
        self._begin_values(stores)
        for store in stores:
            self._store(store.location, "index", self._value_of(store), "keep")

    def _loop_over_columns(self) -> None:
        self.line(f"for begin in range(0, {self._pointwise.width}, COLUMNS):")
        self._indent += 1
        self.line("column = begin + tl.arange(0, COLUMNS)[None, :]")
        self.columns_mask = f"column < {self._pointwise.width}"
        self.line(f"keep = row & ({self.columns_mask})")

    def _reduce_rows(self, stores: Sequence[Store]) -> None:
        """For each head, its columns: reductions to a number for each row, or for each head of it."""
        self.loops_over_heads = True
        # Several segments of a row may share the location of the result.
        totals = {store.location: (store, self.fresh(f"total{k}")) for k, store in enumerate(stores) if store.reduction}
        self._begin_totals(totals, Broadcast.SCALAR)
        self.line(f"for head in range({self._pointwise.heads}):")
        self._indent += 1
        self._begin_totals(totals, Broadcast.PER_HEAD)
        self._loop_over_columns()
        self.line(f"index = head * {self._pointwise.width} + column")
        self._begin_values(stores)
        for store in stores:
            value = self._value_of(store)
            if store.reduction is None:
                self._store(store.location, "index", value, "keep")
                continue
            total, reduction = totals[store.location][1], COMBINE[store.reduction.target]
            masked = f"tl.where(keep, {value}, {number(REDUCTIONS[store.reduction.target])})"
            self.line(f"{total} = {reduction.tiles.format(total, reduction.columns.format(masked))}")
        self._indent -= 1
        self._end_totals(totals, Broadcast.PER_HEAD, "head")
        self._indent -= 1
        self._end_totals(totals, Broadcast.SCALAR, "0")

    def _begin_totals(self, totals: dict[BufferColumns, tuple[Store, str]], result: Broadcast) -> None:
        for store, total in totals.values():
            if store.reduction is not None and result_of(store) is result:
                identity = number(REDUCTIONS[store.reduction.target])
                self.line(f"{total} = tl.full(({ROWS}, 1), {identity}, REAL)")

    def _end_totals(self, totals: dict[BufferColumns, tuple[Store, str]], result: Broadcast, index: str) -> None:
        for location, (store, total) in totals.items():
            if result_of(store) is result:
                self._store(location, index, total, "row")

    def _reduce_heads(self, stores: Sequence[Store]) -> None:
        """For each column, all heads: reductions to a number for each column."""
        self.loops_over_heads = True
        self._loop_over_columns()
        names = [self.fresh(f"sum{k}") for k in range(len(stores))]
        for store, name in zip(stores, names, strict=True):
            assert store.reduction is not None
            self.line(f"{name} = tl.full(({ROWS}, COLUMNS), {number(REDUCTIONS[store.reduction.target])}, REAL)")
        self.line(f"for head in range({self._pointwise.heads}):")
        self._indent += 1
        self.line(f"index = head * {self._pointwise.width} + column")
        self._begin_values(stores)
        for store, name in zip(stores, names, strict=True):
            assert store.reduction is not None
            self.line(f"{name} = {COMBINE[store.reduction.target].tiles.format(name, self._value_of(store))}")
        self._indent -= 1
        for store, name in zip(stores, names, strict=True):
            self._store(store.location, "column", name, "keep")
        self._indent -= 1

    def _store(self, location: BufferColumns, index: str, value: str, mask: str) -> None:
        self.line(f"tl.store({self._row(location)} + {index}, {value}, mask={mask})")

    # Values.

    @property
    def _pointwise(self) -> Pointwise:
        assert isinstance(self.stage, Pointwise)
        return self.stage

    def _begin_values(self, stores: Sequence[Store]) -> None:
        """Forget the values of other columns, and compute the products that the stores need."""
        self.values: dict[Operand, str] = {}
        stage, groups = self._pointwise, dict[tuple[BufferColumns, int], list[tuple[Operand, Product]]]()
        for operand in stage.operands():
            product = self.p.fused.get(location) if (location := stage.location(operand)) else None
            if product is not None:
                groups.setdefault((product.a, product.depth), []).append((operand, product))
        for pairs in groups.values():
            totals = self._accumulate([(product, o.start) for o, product in pairs])
            for (operand, _), total in zip(pairs, totals, strict=True):
                self.values[operand] = self._with_biases(operand, total)

    def _value_of(self, store: Store) -> str:
        if store.node is None:
            return "0.0"
        return self._value(self._pointwise.operand(store.node, store.start))

    def _value(self, operand: Operand) -> str:
        """Return the name of a value, computed once."""
        if operand not in self.values:
            self.values[operand] = self._computed(operand)
        return self.values[operand]

    def _computed(self, operand: Operand) -> str:
        node, stage = operand.node, self._pointwise
        if node.target is CONSTANT:
            return self._named(node, f"tl.full((1, 1), {number(node.args[1])}, REAL)")
        location = stage.location(operand)
        if location is not None:
            return self._with_biases(operand, self._named(node, self._load(location, operand)))
        if domain_of(node) is Domain.WEIGHT:
            return self._named(node, self._load_parameter(operand))
        inputs = dict(zip(node.all_input_nodes, stage.inputs(operand), strict=True))
        arguments = [self._value(inputs[a]) if isinstance(a, Node) else a for a in node.args]
        return self._named(node, LOWERING[node.target](*arguments, **node.kwargs))

    def _named(self, node: Node, expression: str) -> str:
        name = self.fresh(node.name)
        self.line(f"{name} = {expression}")
        return name

    def _with_biases(self, operand: Operand, product: str) -> str:
        """Add what addmm adds to a product that is stored without it."""
        for bias in self._pointwise.inputs(operand):
            product = self._named(operand.node, f"{product} + {self._value(bias)}")
        return product

    def _index(self, operand: Operand) -> tuple[str, str]:
        """Return the columns of an operand that is broadcast, and the mask of those that exist."""
        broadcast = operand.broadcast
        if broadcast is Broadcast.SCALAR:
            return "0", ""
        if broadcast is Broadcast.PER_HEAD:
            return "head", "" if self.loops_over_heads else self.columns_mask
        return ("index" if broadcast is Broadcast.ELEMENTWISE else "column"), self.columns_mask

    def _load(self, location: BufferColumns, operand: Operand) -> str:
        index, mask = self._index(operand)
        mask = f"row & ({mask})" if mask else "row"
        mask = "keep" if mask == f"row & ({self.columns_mask})" else mask
        index = _plus(operand.start, index)
        text = f"tl.load({self._row(location)} + {index}, mask={mask}, other=0.0).to(REAL)"
        if location.buffer.kind is BufferKind.COTANGENT:
            # What the next step sent back, plus the cotangent of this step's output.
            text += f" + tl.load(dy + i * dy_stride + {_plus(location.offset, index)}, mask={mask}, other=0.0).to(REAL)"
        return text

    def _load_parameter(self, operand: Operand) -> str:
        index, mask = self._index(operand)
        pointer = f"{parameter_name(operand.node)} + {_plus(operand.start, index)}"
        return f"tl.load({pointer}, mask={mask}, other=0.0).to(REAL)" if mask else f"tl.load({pointer}).to(REAL)"

    def _row(self, location: BufferColumns) -> str:
        pointer = f"{pointer_name(location.buffer)} + i * {location.buffer.width}"
        return f"{pointer} + {location.offset}" if location.offset else pointer

    # Products.

    def _accumulate(self, products: Sequence[tuple[Product, int]]) -> list[str]:
        """Multiply the same rows by columns of some matrices, each from a first column on; the names of the results."""
        totals, first = [], products[0][0]
        for product, start in products:
            total = self.fresh("product")
            initial = f"tl.zeros(({ROWS}, COLUMNS), REAL)"
            if product.add:
                initial = f"tl.load({self._row(product.c)} + {_plus(start, 'index')}, mask=keep, other=0.0).to(REAL)"
            self.line(f"{total} = {initial}")
            totals.append(total)
        depth_mask = "" if first.depth % STEP.depth == 0 else f"depth < {first.depth}"
        self.line(f"for k in range(0, {first.depth}, DEPTH):")
        self._indent += 1
        self.line("depth = k + tl.arange(0, DEPTH)")
        left = self.fresh("left")
        mask = f"row & ({depth_mask.replace('depth', 'depth[None, :]')})" if depth_mask else "row"
        self.line(f"{left} = tl.load({self._row(first.a)} + depth[None, :], mask={mask}, other=0.0)")
        for (product, start), total in zip(products, totals, strict=True):
            right, ld = self.fresh("right"), shape_of(product.weight)[1]
            column = _plus(start, "index")
            place = f"depth[:, None] * {ld} + {column}"
            if product.transposed:
                place = f"{_times(column, ld)} + depth[:, None]"
            masks = [depth_mask.replace("depth", "depth[:, None]"), self.columns_mask]
            mask = " & ".join(f"({m})" for m in masks if m)
            options = f", mask={mask}, other=0.0" if mask else ""
            self.line(f"{right} = tl.load({parameter_name(product.weight)} + {place}{options})")
            self.line(f"{total} = functions.dot({left}, {right}, {total}, PRECISION)")
        self._indent -= 1
        return totals


def _letters() -> Iterator[str]:
    """Yield b, c, ..., z, ba, bb and so on."""
    for length in count(1):
        yield from map("".join, itertools.product("bcdefghijklmnopqrstuvwxyz", repeat=length))


def _plus(offset: int, index: str) -> str:
    return index if offset == 0 else f"{offset} + {index}"


def _times(index: str, factor: int) -> str:
    return f"({index}) * {factor}" if " " in index else f"{index} * {factor}"
