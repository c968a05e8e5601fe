"""Writes the C function of a stage: a matrix product, or one pass over the columns of a row.

A function takes a pointer to each buffer and each array of parameters that it reads or writes. All are `restrict` and
all sizes are constants, so that compilers turn the loops into vector instructions without reordering any sum.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from elman.engine.export.c_lowering import COMBINE, LOWERING, number
from elman.engine.plan.domains import Domain, domain_of
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Operand, Pointwise, Product, Stage, Store
from elman.engine.plan.layout import Broadcast, match_reduction
from elman.engine.plan.operations import REDUCTIONS
from elman.engine.trace.aten import CONSTANT
from elman.engine.trace.values import name_of

ROWS = 8  # of a matrix that one loop over the columns multiplies: fewer passes over the result
NARROW = 8  # results of fewer columns are computed as scalar products, of the rows of the transposed matrix
COLUMNS = 16  # of a block of a matrix, which lies in one piece: memory is read in order
SUMS = 4  # of a scalar product, which the processor adds up side by side

C_KEYWORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float",
    "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof",
    "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main",
}  # fmt: skip
#: names that values of a step may not have
RESERVED = C_KEYWORDS | {
    "a", "w", "c", "i", "j", "k", "head", "scale", "sums", "y", "int8_t", "int32_t", "uint32_t",
    "abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "expm1", "floor", "log", "log1p", "pow", "round", "sin", "sinh",
    "sqrt", "tanh", "trunc",
}  # fmt: skip
OVERLOAD = re.compile(r"_(default|tensor|scalar)(_\d+)?$")  # the end of the names that values have in a graph


class WeightArray(NamedTuple):
    """An array of parameters: a matrix that a product multiplies by, or values used element by element.

    Attributes:
        node: the value of the step.
        transposed: of a matrix: it is stored transposed.
        matrix: whether it is a matrix of a product.
        by_rows: of a matrix: the columns of the result are its rows rather than its columns.
    """

    node: Node
    transposed: bool = False
    matrix: bool = False
    by_rows: bool = False


class Function(NamedTuple):
    """The C function of a stage.

    Attributes:
        name: of the function.
        lines: its text.
        buffers: that it takes pointers to, in order.
        weights: that it takes pointers to, after the buffers.
        sums: how many numbers of temporary memory it takes, as its last argument; 0: none.
    """

    name: str
    lines: list[str]
    buffers: list[Buffer]
    weights: list[WeightArray]
    sums: int = 0


def weight_of(product: Product) -> WeightArray:
    """Return the array that a product multiplies by, stored so that its inner loop reads neighbours."""
    by_rows = product.width < NARROW
    return WeightArray(product.weight, product.transposed != by_rows, matrix=True, by_rows=by_rows)


def is_quantized(weight: WeightArray, dtype: str) -> bool:
    """Return True if an array is stored in 8 bits: matrices are, vectors are not."""
    return dtype == "int8" and weight.matrix


def write_stage(name: str, stage: Stage, dtype: str) -> Function:
    """Write the function of a stage.

    Args:
        name: of the function.
        stage: of a program.
        dtype: of matrices, "float32" or "int8".
    """
    return _write_product(name, stage, dtype) if isinstance(stage, Product) else _PointwiseWriter(name, stage).write()


def pointer_name(buffer: Buffer) -> str:
    """Return the name of the pointer to a buffer."""
    is_old = buffer.kind in (BufferKind.PREVIOUS, BufferKind.CURRENT)
    is_state = buffer.name.startswith("state")
    prefix = "" if is_old or not is_state else "new_"
    return prefix + ("input" if buffer.name == "x" else buffer.name.replace(".", "_"))


def _plus(index: str, offset: int) -> str:
    return index if offset == 0 else f"{index} + {offset}"


# Products.


def _write_product(name: str, stage: Product, dtype: str) -> Function:
    weight = weight_of(stage)
    quantized = is_quantized(weight, dtype)
    is_narrow = stage.width < NARROW
    buffers = list(dict.fromkeys((stage.a.buffer, stage.c.buffer)))
    needs_sums = quantized and stage.add and not is_narrow
    a, c = (f"{pointer_name(columns.buffer)}" for columns in (stage.a, stage.c))
    arguments = [
        f"{'' if buffer == stage.c.buffer else 'const '}float *restrict {pointer_name(buffer)}" for buffer in buffers
    ]
    arguments.append(f"const {'int8_t' if quantized else 'float'} *restrict w")
    arguments += ["const float *restrict scale"] * quantized + ["float *restrict sums"] * needs_sums
    sign = "+=" if stage.add else "="
    result = f"{c} {sign} {a} * {stage.weight.name}{'^T' * stage.transposed}: {stage.depth} -> {stage.width}"
    body = _scalar_products if is_narrow else _sums_of_rows
    lines = [
        f"/* {result} */",
        f"static void {name}({', '.join(arguments)})",
        "{",
        *body(stage, a, c, quantized),
        "}",
    ]
    return Function(name, lines, buffers, [weight], stage.width if needs_sums else 0)


def _scalar_products(stage: Product, a: str, c: str, quantized: bool) -> Iterator[str]:
    """Sum over the columns of A, for each column of C: for few columns."""
    depth, whole = stage.depth, stage.depth // SUMS * SUMS
    a, c = f"{a}[{_plus('i', stage.a.offset)}", f"{c}[{_plus('j', stage.c.offset)}]"
    yield "    int i, j;"
    yield f"    for (j = 0; j < {stage.width}; ++j) {{"
    total = "0.0f"
    if whole:
        yield f"        float {', '.join(f'sum{k} = 0.0f' for k in range(SUMS))};"
        yield f"        for (i = 0; i < {whole}; i += {SUMS}) {{"
        for k in range(SUMS):
            yield f"            sum{k} += {a}{f' + {k}' if k else ''}] * w[{_plus('i', k)}];"
        yield "        }"
        total = " + ".join(f"(sum{k} + sum{k + 1})" for k in range(0, SUMS, 2))
    yield f"        float total = {total};"
    if whole < depth:
        yield f"        for (i = {whole}; i < {depth}; ++i)"
        yield f"            total += {a}] * w[i];"
    yield f"        {c} {'+=' if stage.add else '='} {'scale[j] * ' * quantized}total;"
    yield f"        w += {depth};"
    yield "    }"


def _sums_of_rows(stage: Product, a: str, c: str, quantized: bool) -> Iterator[str]:
    """Add up the rows of W, times the columns of A: the inner loop runs over the columns of C."""
    depth, width = stage.depth, stage.width
    into_sums = quantized and stage.add
    starts_at_zero = into_sums or not stage.add
    whole = depth // ROWS * ROWS
    loops = depth > ROWS
    blocks = _column_blocks(width)
    yield f"    int {'i, ' * loops}{'j, ' * (blocks[0].repeats > 1 or quantized)}k;"

    def group(first: str, rows: int, indent: str, is_first: bool) -> Iterator[str]:
        """Add up a group of rows."""
        for r in range(rows):
            parts = ["i"] * (first == "i") + [str(r + stage.a.offset)] * (r + stage.a.offset > 0)
            yield f"{indent}const float a{r} = {a}[{' + '.join(parts) or '0'}];"
        for block in blocks:
            inner = indent
            if block.repeats > 1:
                yield f"{indent}for (j = 0; j < {block.size * block.repeats}; j += {block.size}) {{"
                inner = indent + "    "
            column = "j + k" if block.repeats > 1 else _plus("k", block.begin)
            target = f"sums[{column}]" if into_sums else f"{c}[{_plus(column, stage.c.offset)}]"
            start = [] if is_first and starts_at_zero else [target]
            terms = [f"a{r} * {'(float)' * quantized}w[{_plus('k', r * block.size)}]" for r in range(rows)]
            total = " + ".join(start + terms)
            scaled = quantized and not into_sums and not loops and not stage.add
            yield f"{inner}for (k = 0; k < {block.size}; ++k)"
            yield f"{inner}    {target} = {f'scale[{column}] * ({total})' if scaled else total};"
            yield f"{inner}w += {rows * block.size};"
            if block.repeats > 1:
                yield f"{indent}}}"

    if not loops:
        yield from group("0", depth, "    ", True)
    else:
        begin = 0
        if starts_at_zero:
            begin = ROWS
            yield "    {"
            yield from group("0", ROWS, "        ", True)
            yield "    }"
        if whole > begin:
            yield f"    for (i = {begin}; i < {whole}; i += {ROWS}) {{"
            yield from group("i", ROWS, "        ", False)
            yield "    }"
        if whole < depth:
            yield "    {"
            yield f"        i = {whole};"
            yield from group("i", depth - whole, "        ", False)
            yield "    }"
    if into_sums or (quantized and loops):
        final = f"{c}[{_plus('j', stage.c.offset)}]"
        yield f"    for (j = 0; j < {width}; ++j)"
        yield f"        {final} {'+= scale[j] * sums[j]' if into_sums else '*= scale[j]'};"


class _Block(NamedTuple):
    """Blocks of columns of one size, beside each other: the first column, the columns of each, how many they are."""

    begin: int
    size: int
    repeats: int


def _column_blocks(width: int) -> list[_Block]:
    """Split the columns of a matrix into blocks of COLUMNS, and the rest."""
    whole, rest = divmod(width, COLUMNS)
    blocks = [_Block(0, COLUMNS, whole), _Block(whole * COLUMNS, rest, 1)]
    return [block for block in blocks if block.size * block.repeats]


def in_reading_order(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return the numbers of a matrix in the order in which a product reads them.

    Blocks of ROWS rows and COLUMNS columns follow each other, row of blocks by row of blocks.

    Args:
        matrix: (depth, width).
    """
    depth, width = matrix.shape
    pieces = []
    for i in range(0, depth, ROWS):
        for block in _column_blocks(width):
            for begin in range(block.begin, block.begin + block.size * block.repeats, block.size):
                pieces.append(matrix[i : i + ROWS, begin : begin + block.size].ravel())
    return np.concatenate(pieces) if pieces else matrix.ravel()


# Passes over columns.


class _PointwiseWriter:
    def __init__(self, name: str, stage: Pointwise) -> None:
        self.name, self.stage = name, stage
        self.locations = {store.location.buffer for store in stage.stores}
        loads = [columns.buffer for columns in stage.loads()]
        self.buffers = list(dict.fromkeys([*loads, *(store.location.buffer for store in stage.stores)]))
        self.weights = [WeightArray(node) for node in stage.parameters()]
        self.used = {*RESERVED, *map(pointer_name, self.buffers)}
        self.weight_names = {weight.node: self._fresh(weight.node.name) for weight in self.weights}
        self.names: dict[Operand, str] = {}
        self.body: list[str] = []
        self.indent = 1

    def write(self) -> Function:
        stage = self.stage
        results = {_result_of(store) for store in stage.stores}
        if Broadcast.PER_COLUMN in results:
            self._reduce_heads()
        else:
            self._reduce_rows()
        arguments = [
            f"{'' if buffer in self.locations else 'const '}float *restrict {pointer_name(buffer)}"
            for buffer in self.buffers
        ]
        arguments += [f"const float *restrict {self.weight_names[weight.node]}" for weight in self.weights]
        columns = f"{stage.heads} x {stage.width}" if stage.heads > 1 else str(stage.width)
        names = ", ".join(dict.fromkeys(pointer_name(store.location.buffer) for store in stage.stores))
        lines = [
            f"/* {names}: {columns} columns */",
            f"static void {self.name}({', '.join(arguments)})",
            "{",
            f"    int {'head, ' if stage.heads > 1 else ''}i;",
            *self.body,
            "}",
        ]
        return Function(self.name, lines, self.buffers, self.weights)

    def _line(self, text: str) -> None:
        self.body.append("    " * self.indent + text)

    def _fresh(self, name: str) -> str:
        candidates = chain([name], (f"{name}_{k}" for k in count(2)))
        unused = next(candidate for candidate in candidates if candidate not in self.used)
        self.used.add(unused)
        return unused

    def _loop(self, variable: str, size: int, write: Callable[[], None]) -> None:
        self._line(f"for ({variable} = 0; {variable} < {size}; ++{variable}) {{")
        self.indent += 1
        write()
        self.indent -= 1
        self._line("}")

    def _loop_over_heads(self, write: Callable[[], None]) -> None:
        if self.stage.heads > 1:
            self._loop("head", self.stage.heads, write)
        else:
            write()

    def _reduce_rows(self) -> None:
        """For each head, its columns: what is stored, and reductions to a number for each row or for each head."""
        # Several segments of a row may share the location of the result.
        totals = {s.location: (s, self._fresh(f"total{k}")) for k, s in enumerate(self.stage.stores) if s.reduction}
        self._values({Broadcast.SCALAR})
        self._begin_totals(totals, Broadcast.SCALAR)

        def columns() -> None:
            self._values({Broadcast.ELEMENTWISE, Broadcast.PER_COLUMN})
            for store in self.stage.stores:
                value = self._value_of(store)
                if store.reduction is None:
                    self._line(f"{self._at(store.location, self._index(Broadcast.ELEMENTWISE))} = {value};")
                else:
                    total = totals[store.location][1]
                    self._line(f"{total} = {COMBINE[store.reduction.target](total, value)};")

        def heads() -> None:
            self._values({Broadcast.PER_HEAD})
            self._begin_totals(totals, Broadcast.PER_HEAD)
            self._loop("i", self.stage.width, columns)
            self._end_totals(totals, Broadcast.PER_HEAD)

        self._loop_over_heads(heads)
        self._end_totals(totals, Broadcast.SCALAR)

    def _begin_totals(self, totals: dict[BufferColumns, tuple[Store, str]], result: Broadcast) -> None:
        for store, total in totals.values():
            if store.reduction is not None and _result_of(store) is result:
                self._line(f"float {total} = {number(REDUCTIONS[store.reduction.target])};")

    def _end_totals(self, totals: dict[BufferColumns, tuple[Store, str]], result: Broadcast) -> None:
        for location, (store, total) in totals.items():
            if _result_of(store) is result:
                self._line(f"{self._at(location, self._index(result))} = {total};")

    def _reduce_heads(self) -> None:
        """For each column, all heads: reductions to a number for each column."""
        stores = self.stage.stores
        self._values({Broadcast.SCALAR})

        def initial() -> None:
            for store in stores:
                assert store.reduction is not None
                self._line(f"{self._at(store.location, 'i')} = {number(REDUCTIONS[store.reduction.target])};")

        def columns() -> None:
            self._values({Broadcast.ELEMENTWISE, Broadcast.PER_COLUMN})
            for store in stores:
                assert store.reduction is not None
                total = self._at(store.location, "i")
                self._line(f"{total} = {COMBINE[store.reduction.target](total, self._value_of(store))};")

        def heads() -> None:
            self._values({Broadcast.PER_HEAD})
            self._loop("i", self.stage.width, columns)

        self._loop("i", self.stage.width, initial)
        self._loop_over_heads(heads)

    # Values.

    def _values(self, broadcasts: set[Broadcast]) -> None:
        """Compute the values that are broadcast in these ways, after those that they are computed from."""
        self.names = {o: name for o, name in self.names.items() if not _is_inner(o.broadcast, broadcasts)}
        for operand in self.stage.operands():
            if operand.broadcast in broadcasts and operand not in self.names:
                self.names[operand] = self._computed(operand)

    def _value_of(self, store: Store) -> str:
        return "0.0f" if store.node is None else self.names[self.stage.operand(store.node, store.start)]

    def _computed(self, operand: Operand) -> str:
        node, stage = operand.node, self.stage
        if node.target is CONSTANT:
            return number(node.args[1])
        location = stage.location(operand)
        if location is not None:
            name = self._named(node, self._at(location, self._index(operand.broadcast), operand.start))
            for bias in stage.inputs(operand):
                name = self._named(node, f"{name} + {self.names[bias]}")
            return name
        if domain_of(node) is Domain.WEIGHT:
            index = _plus(self._index(operand.broadcast), operand.start)
            return f"{self.weight_names[node]}[{index}]"
        inputs = dict(zip(node.all_input_nodes, stage.inputs(operand), strict=True))
        arguments = [self.names[inputs[a]] if isinstance(a, Node) else a for a in node.args]
        return self._named(node, LOWERING[node.target](*arguments, **node.kwargs))

    def _named(self, node: Node, expression: str) -> str:
        name = self._fresh(OVERLOAD.sub("", name_of(node)))
        self._line(f"const float {name} = {expression};")
        return name

    def _index(self, broadcast: Broadcast) -> str:
        heads = self.stage.heads
        if broadcast is Broadcast.ELEMENTWISE:
            return f"head * {self.stage.width} + i" if heads > 1 else "i"
        if broadcast is Broadcast.PER_HEAD:
            return "head" if heads > 1 else "0"
        return {Broadcast.PER_COLUMN: "i", Broadcast.SCALAR: "0"}[broadcast]

    def _at(self, location: BufferColumns, index: str, start: int = 0) -> str:
        return f"{pointer_name(location.buffer)}[{_plus(index, location.offset + start)}]"


def _is_inner(broadcast: Broadcast, broadcasts: set[Broadcast]) -> bool:
    """Return True if a value's variable is out of scope in a loop that computes values broadcast in these ways."""
    order = (Broadcast.SCALAR, Broadcast.PER_HEAD, Broadcast.PER_COLUMN, Broadcast.ELEMENTWISE)
    return order.index(broadcast) >= min(map(order.index, broadcasts))


def _result_of(store: Store) -> Broadcast | None:
    """Return how the result of a store's reduction would be broadcast to what it reduces; None without a reduction."""
    if store.reduction is None:
        return None
    match = match_reduction(store.reduction)
    assert match is not None
    return match.broadcast
