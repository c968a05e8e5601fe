"""Packs matrices, and multiplies a tile: the inner loop of every matrix product.

A right-hand matrix is packed into panels of NR columns, padded with zeros, and cut where k is a multiple of DEPTH:
[k block][panel][k][NR]. A tile of the result, a few rows by NR columns, stays in registers while k runs. Rows of the
left-hand matrix are read where they are. (K. Goto and R. van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", ACM TOMS 34:3, 2008.)
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from elman.engine.cpu import bfloat16
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.cpu.signatures import public

VECTORS = 2  # in a row of a panel
LOADED = 2  # registers for factors on their way, where multiply-adds read none from memory
DEPTH = 256  # steps of k between two updates of the result: this part of a panel stays in the first-level cache


def panel_width(real: Real) -> int:
    """Return NR, the columns of a panel."""
    return VECTORS * real.lanes


def packed_size(real: Real, K: int, N: int) -> int:
    """Return how many numbers a packed matrix has, or pairs of them in bfloat16."""
    NR = panel_width(real)
    size: int = (-(-K // 2) if real.rounds else K) * -(-N // NR) * NR
    return size


def packed_rows(code: Code, K: Integer) -> Integer:
    """Compute how many rows of a panel hold K rows of a matrix; in bfloat16, each holds a pair."""
    return code.ceil_div(K, 2) if code.real.rounds else K


def tile_rows(real: Real) -> int:
    """Return the maximal number of rows of a tile: its accumulators fill all registers but those of the factors."""
    # Of a row of pairs, both halves of each vector, and the left factor.
    others = 2 * VECTORS + 1 if real.rounds and not real.dot else 4
    return (real.registers - others - LOADED * real.loads) // VECTORS


def tile_panels(real: Real, rows: int) -> int:
    """Return how many panels a tile of few rows spans: it has registers to spare, and latency to hide."""
    if real.loads:  # a panel takes the registers of its factors too
        factors = 2 if real.rounds and not real.dot else 1
        return max(1, min(4, (real.registers - LOADED - 1) // (VECTORS * (rows + factors))))
    return max(1, min(4, (real.registers - 4) // (VECTORS * rows)))


def upper_half(real: Real) -> int:
    """Return where the second numbers of the pairs begin in a row of a rounded copy of a left factor.

    If the instruction for pairs is used, a copy has words with a pair each instead, and nothing there.
    """
    return DEPTH // 2 + real.lanes


def rounded_stride(real: Real, columns: int) -> int:
    """Return the distance between rows of a rounded copy of columns of a left factor that is transposed."""
    return -(-columns // real.lanes) * real.lanes


def upper_plane(real: Real, columns: int) -> int:
    """Return where the second numbers of the pairs begin in such a copy."""
    return DEPTH // 2 * rounded_stride(real, columns)


def tile(module: Any, real: Real, rows: int, panels: int, transposed: bool = False) -> Any:
    """C[rows, panels*NR] (+)= A[rows, K] P. A[m, k] is a[m*lda + k] or, if `transposed`, a[k*lda + m].

    Panels are `step` numbers apart; those that follow, at the same distance, are prefetched.
    """
    name = f"tile_{rows}x{panels}{'_transposed' if transposed else ''}"
    if existing := module.globals.get(name):
        return existing
    code = Code(module, name, ("*a", "lda", "*panels", "step", "*c", "ldc", "K", "add"), real)
    NR, b = panel_width(real), code.b
    vectors = [(p, v) for p in range(panels) for v in range(VECTORS)]
    sums = {(m, vector): code.local(real.vector) for m in range(rows) for vector in vectors}
    c_rows = [code.at(code["c"], code.mul(code["ldc"], m)) for m in range(rows)]
    for (m, (p, v)), total in sums.items():
        b.store(code.fill(0), total)
        code.prefetch(c_rows[m], p * NR + v * real.lanes, to_write=True)
    a_rows = [code.at(code["a"], code.mul(code["lda"], m)) for m in range(rows)]
    starts = [code.at(code["panels"], code.mul(code["step"], p)) for p in range(panels)]
    with code.loop(0, packed_rows(code, code["K"])) as k:
        row = code.mul(k, NR)
        right = {(p, v): code.load_vector(starts[p], code.add(row, v * real.lanes)) for p, v in vectors}
        if rows > 3:  # with fewer rows, loading these panels takes all of the memory's bandwidth
            for p, v in vectors:
                code.prefetch(starts[p], code.add(row, code.mul(code["step"], panels), v * real.lanes))
        upper = upper_plane(real, rows) if transposed else upper_half(real)
        multiplications = list(bfloat16.factors(code, right)) if real.rounds else [(0, right, Code.fma)]
        for m in range(rows):
            index = code.add(code.mul(k, code["lda"]), m) if transposed else k
            for half, factors, multiply in multiplications:
                left = code.fill(code.load(code["a"] if transposed else a_rows[m], code.add(index, half * upper)))
                for vector in vectors:
                    total = sums[m, vector]
                    b.store(multiply(code, left, factors[vector], b.load(total, typ=real.vector)), total)
    # The previous result is added last: sums of partial sums have smaller rounding errors than one long sum.
    with b.if_then(code.compare(code["add"], "!=", 0)):
        for (m, (p, v)), total in sums.items():
            previous = code.load_vector(c_rows[m], p * NR + v * real.lanes)
            b.store(b.fadd(b.load(total, typ=real.vector), previous), total)
    for (m, (p, v)), total in sums.items():
        code.store_vector(b.load(total, typ=real.vector), c_rows[m], p * NR + v * real.lanes)
    return code.end()


TILE = ir.FunctionType(ir.VoidType(), [POINTER, INT, POINTER, INT, POINTER, INT, INT, INT])


def table(module: Any, name: str, values: Sequence[Any], kind: Any) -> Any:
    """Define a constant array of the values."""
    table = ir.GlobalVariable(module, ir.ArrayType(kind, len(values)), name)
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(table.value_type, values)
    table.type = POINTER
    return table


def pack(module: Any, real: Real) -> None:
    """Pack panels begin..end of the matrix (K, N) whose element (k, n) is source[k*step_k + n*step_n]."""
    code = public(module, "pack", real)
    NR, b, K, N = panel_width(real), code.b, code["K"], code["N"]
    pair = 2 if real.rounds else 1  # rows of the matrix in one row of a panel
    panels = code.ceil_div(N, NR)
    by_rows, by_columns = code.compare(code["step_n"], "==", 1), code.compare(code["step_k"], "==", 1)
    with code.loop(0, K, DEPTH) as k0, code.loop(code["begin"], code["end"]) as p:
        depth = code.minimum(code.sub(K, k0), DEPTH)
        all_rows = packed_rows(code, depth)
        before = code.mul(packed_rows(code, k0), panels)
        panel = code.at(code["panels"], code.mul(code.add(before, code.mul(p, all_rows)), NR))
        n0 = code.mul(p, NR)
        start = code.add(code.mul(k0, code["step_k"]), code.mul(n0, code["step_n"]))
        source = code.at(code["source"], start)
        full = code.compare(code.sub(N, n0), ">=", NR)
        with b.if_else(b.and_(full, by_rows)) as (rows, otherwise):
            with rows:
                whole = code.div(depth, pair)
                with code.loop(0, whole) as k:
                    _pack_row(code, source, panel, k)
                if real.rounds:
                    with b.if_then(code.compare(whole, "<", all_rows)):
                        _pack_row(code, source, panel, whole, is_last=True)
            with otherwise:
                # Square blocks are transposed in registers; the remaining numbers are copied one by one.
                whole_blocks = code.mul(code.div(depth, pair * real.lanes), real.lanes)
                packed = code.select(b.and_(full, by_columns), whole_blocks, 0)
                _pack_squares(code, source, panel, packed)
                _pack_numbers(code, source, panel, packed, depth, code.minimum(code.sub(N, n0), NR))
    code.end()


def _pack_row(code: Code, source: Value, panel: Value, k: Value, is_last: bool = False) -> None:
    """Pack a row, or a pair of rows; `is_last`: of the pair, there is only the first."""
    lanes, step = code.real.lanes, code["step_k"]
    for v in range(VECTORS):
        if code.real.rounds:
            first = code.add(code.mul(code.mul(k, 2), step), v * lanes)
            second = code.fill(0) if is_last else code.load_vector(source, code.add(first, step))
            value = bfloat16.pair(code, code.load_vector(source, first), second)
        else:
            value = code.load_vector(source, code.add(code.mul(k, step), v * lanes))
        code.store_vector(value, panel, code.add(code.mul(k, panel_width(code.real)), v * lanes))


def _pack_squares(code: Code, source: Value, panel: Value, end: Value) -> None:
    lanes, NR = code.real.lanes, panel_width(code.real)
    with code.loop(0, end, lanes) as k:
        for v in range(VECTORS):
            start = code.mul(k, 2) if code.real.rounds else k
            first = code.at(source, code.add(code.mul(code["step_n"], v * lanes), start))
            columns = [code.mul(code["step_n"], r) for r in range(lanes)]
            if code.real.rounds:
                block = [bfloat16.pairs_of_neighbours(code, first, column) for column in columns]
            else:
                block = [code.load_vector(first, column) for column in columns]
            for r, value in enumerate(_transpose(code, block)):
                code.store_vector(value, panel, code.add(code.mul(code.add(k, r), NR), v * lanes))


def _pack_numbers(code: Code, source: Value, panel: Value, begin: Value, end: Value, valid: Value) -> None:
    NR = panel_width(code.real)
    with code.loop(begin, packed_rows(code, end)) as k:
        target = code.at(panel, code.mul(k, NR))
        for v in range(VECTORS):
            code.store_vector(code.fill(0), target, v * code.real.lanes)
        with code.loop(0, valid) as n:
            column = code.mul(n, code["step_n"])
            if code.real.rounds:
                first = code.mul(k, 2)
                second = code.minimum(code.add(first, 1), code.sub(end, 1))  # the memory beyond may be unmapped
                low, high = (
                    code.load(source, code.add(code.mul(row, code["step_k"]), column)) for row in (first, second)
                )
                high = code.b.select(code.compare(second, ">", first), high, code.real.scalar(0.0))
                code.store(bfloat16.pair(code, low, high), target, n)
            else:
                code.store(code.load(source, code.add(code.mul(k, code["step_k"]), column)), target, n)


def _transpose(code: Code, rows: list[Value]) -> list[Value]:
    """Transpose a square block: swap off-diagonal halves, then those of the halves, and so on."""
    n = len(rows)
    half = n // 2
    while half:
        swapped = list(rows)
        for i in range(n):
            if not i & half:
                upper, lower = rows[i], rows[i + half]
                swapped[i] = code.shuffle(upper, lower, [j if not j & half else n + j - half for j in range(n)])
                swapped[i + half] = code.shuffle(upper, lower, [j + half if not j & half else n + j for j in range(n)])
        rows, half = swapped, half // 2
    return rows


def copy(code: Code, a: Value, lda: Integer, b: Value, ldb: Integer, rows: Value, columns: Value) -> None:
    """Copy rows of a matrix to memory with another distance between rows."""
    lanes = code.real.lanes
    whole = code.mul(code.div(columns, lanes), lanes)
    with code.loop(0, rows) as m:
        source, target = code.at(a, code.mul(m, lda)), code.at(b, code.mul(m, ldb))
        with code.loop(0, whole, lanes) as n:
            code.store_vector(code.load_vector(source, n), target, n)
        with code.loop(whole, columns) as n:
            code.store(code.load(source, n), target, n)
