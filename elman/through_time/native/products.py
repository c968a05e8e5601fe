"""Matrix products, as one library of compiled functions for each dtype: nothing in it knows of cells.

The right-hand matrix is packed into panels of NR columns, padded with zeros, and cut where k is a multiple of DEPTH:
[k block][panel][k][NR]. A tile of the result, a few rows by NR columns, is held in registers while k runs. Rows of the
left-hand matrix are read where they lie. (K. Goto and R. van de Geijn, "Anatomy of High-Performance Matrix
Multiplication", ACM TOMS 34:3, 2008.)
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from elman.through_time.native.writer import INT, POINTER, Code, Integer, Real, Value

X86, ARM = ("x86_64", "i386", "i686"), ("aarch64", "arm64")  # as target triples begin
VECTORS = 2  # of a panel's row
DEPTH = 256  # of k, between two visits to the result: the panel's part stays in the first cache
BLOCK = 8  # tiles, in the rows of the left matrix that are worked on together: they stay in the second cache
CONFLICT = 2048  # bytes: rows that lie so far apart, or a multiple of it, displace each other from the first cache


def panel_width(real: Real) -> int:
    """NR."""
    return VECTORS * real.lanes


def tile_rows(real: Real) -> int:
    """The most rows of a tile: the accumulators fill the registers but four."""
    return (real.registers - 4) // VECTORS


def tile_panels(real: Real, rows: int) -> int:
    """Panels side by side in a tile of few rows, which has registers left over and latency to hide."""
    return max(1, min(4, (real.registers - 4) // (VECTORS * rows)))


def outer_scratch(real: Real, N: int) -> int:
    """How many numbers a part of `outer` needs for itself."""
    return DEPTH * (tile_rows(real) + N + panel_width(real)) + real.lanes


def write(module: Any, real: Real) -> None:
    """Write the library into a module."""
    most = tile_rows(real)
    single = [_tile(module, real, rows, 1) for rows in range(1, most + 1)]
    several = [_tile(module, real, rows, tile_panels(real, rows)) for rows in range(1, most + 1)]
    _pack(module, real)
    _product(module, real, single, several)
    _outer(module, real, _tile(module, real, most, 1, packed=True))
    _column_sums(module, real)
    _barrier(module, real)
    _entries(module, real)


def full_name(name: str, real: Real) -> str:
    """What the linker calls a function of the library."""
    return f"elman_{name}_{real.suffix}"


def declare(code: Code, name: str) -> Any:
    """A function of the library, for a module that calls it."""
    kinds = [POINTER if argument.startswith("*") else INT for argument in SIGNATURES[name]]
    return code.declared(full_name(name, code.real), ir.FunctionType(ir.VoidType(), kinds))


def _public(module: Any, name: str, real: Real) -> Code:
    return Code(module, full_name(name, real), SIGNATURES[name], real, public=True)


SIGNATURES = {
    "pack": ("*source", "step_k", "step_n", "K", "N", "begin", "end", "*panels"),
    "product": ("*a", "lda", "*panels", "*c", "ldc", "M", "N", "K", "begin", "end", "add"),
    "outer": ("*d", "ldd", "*x", "ldx", "*c", "ldc", "R", "M", "N", "part", "parts", "add", "*sums", "*scratch"),
    "barrier": ("*memory", "all", "yield"),
    "alone": ("*data",),
    "team": ("*data",),
    "column_sums": ("*d", "ldd", "R", "N", "part", "parts", "add", "*sums"),
}


def _tile(module: Any, real: Real, rows: int, panels: int, packed: bool = False) -> Any:
    """C[rows, panels*NR] (+)= A[rows, K] P. A's numbers lie at a[m*lda + k], or packed at a[k*rows + m]."""
    name = f"tile_{rows}x{panels}{'_packed' if packed else ''}"
    if existing := module.globals.get(name):
        return existing
    code = Code(module, name, ("*a", "lda", "*panels", "step", "*c", "ldc", "K", "add"), real)
    NR, b = panel_width(real), code.b
    places = [(p, v) for p in range(panels) for v in range(VECTORS)]
    sums = {(m, place): code.local(real.vector) for m in range(rows) for place in places}
    c_rows = [code.at(code["c"], code.mul(code["ldc"], m)) for m in range(rows)]
    with b.if_else(code.is_(code["add"], "!=", 0)) as (adding, fresh):
        with adding:
            for (m, (p, v)), total in sums.items():
                b.store(code.load_vector(c_rows[m], p * NR + v * real.lanes), total)
        with fresh:
            for total in sums.values():
                b.store(code.fill(0), total)
    a_rows = [code.at(code["a"], code.mul(code["lda"], m)) for m in range(rows)]
    starts = [code.at(code["panels"], code.mul(code["step"], p)) for p in range(panels)]
    with code.loop(0, code["K"]) as k:
        row = code.mul(k, NR)
        right = {(p, v): code.load_vector(starts[p], code.add(row, v * real.lanes)) for p, v in places}
        if rows > 3:  # with fewer, the panels' own lines are all that memory can bring
            for p, v in places:
                code.prefetch(starts[p], code.add(row, code.mul(code["step"], panels), v * real.lanes))
        for m in range(rows):
            one = code.load(code["a"], code.add(code.mul(k, rows), m)) if packed else code.load(a_rows[m], k)
            left = code.fill(one)
            for place in places:
                total = sums[m, place]
                b.store(code.fma(left, right[place], b.load(total, typ=real.vector)), total)
    for (m, (p, v)), total in sums.items():
        code.store_vector(b.load(total, typ=real.vector), c_rows[m], p * NR + v * real.lanes)
    return code.end()


TILE = ir.FunctionType(ir.VoidType(), [POINTER, INT, POINTER, INT, POINTER, INT, INT, INT])


def _table(module: Any, name: str, values: Sequence[Any], kind: Any) -> Any:
    """The values as a constant array."""
    table = ir.GlobalVariable(module, ir.ArrayType(kind, len(values)), name)
    table.linkage, table.global_constant = "internal", True
    table.initializer = ir.Constant(table.value_type, values)
    table.type = POINTER
    return table


def _pack(module: Any, real: Real) -> None:
    """Panels begin..end of the matrix (K, N) whose element (k, n) is source[k*step_k + n*step_n]."""
    code = _public(module, "pack", real)
    NR, b, K, N = panel_width(real), code.b, code["K"], code["N"]
    panels = code.ceil_div(N, NR)
    by_rows, by_columns = code.is_(code["step_n"], "==", 1), code.is_(code["step_k"], "==", 1)
    with code.loop(0, K, DEPTH) as k0, code.loop(code["begin"], code["end"]) as p:
        depth = code.least(code.sub(K, k0), DEPTH)
        panel = code.at(code["panels"], code.mul(code.add(code.mul(k0, panels), code.mul(p, depth)), NR))
        n0 = code.mul(p, NR)
        start = code.add(code.mul(k0, code["step_k"]), code.mul(n0, code["step_n"]))
        source = code.at(code["source"], start)
        full = code.is_(code.sub(N, n0), ">=", NR)
        with b.if_else(b.and_(full, by_rows)) as (rows, otherwise):
            with rows, code.loop(0, depth) as k:
                for v in range(VECTORS):
                    value = code.load_vector(source, code.add(code.mul(k, code["step_k"]), v * real.lanes))
                    code.store_vector(value, panel, code.add(code.mul(k, NR), v * real.lanes))
            with otherwise:
                # Square blocks are transposed in registers; what these leave over goes number by number.
                whole = code.mul(code.div(depth, real.lanes), real.lanes)
                done = code.choose(b.and_(full, by_columns), whole, 0)
                _pack_squares(code, source, panel, done)
                _pack_numbers(code, source, panel, done, depth, code.least(code.sub(N, n0), NR))
    code.end()


def _pack_squares(code: Code, source: Value, panel: Value, end: Value) -> None:
    lanes, NR = code.real.lanes, panel_width(code.real)
    with code.loop(0, end, lanes) as k:
        for v in range(VECTORS):
            first = code.at(source, code.add(code.mul(code["step_n"], v * lanes), k))
            block = [code.load_vector(first, code.mul(code["step_n"], r)) for r in range(lanes)]
            for r, value in enumerate(_transposed(code, block)):
                code.store_vector(value, panel, code.add(code.mul(code.add(k, r), NR), v * lanes))


def _pack_numbers(code: Code, source: Value, panel: Value, begin: Value, end: Value, valid: Value) -> None:
    NR = panel_width(code.real)
    with code.loop(begin, end) as k:
        target = code.at(panel, code.mul(k, NR))
        for v in range(VECTORS):
            code.store_vector(code.fill(0), target, v * code.real.lanes)
        with code.loop(0, valid) as n:
            place = code.add(code.mul(k, code["step_k"]), code.mul(n, code["step_n"]))
            code.store(code.load(source, place), target, n)


def _transposed(code: Code, rows: list[Value]) -> list[Value]:
    """The transpose of a square block: halves of halves swapped across the diagonal."""
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


def _product(module: Any, real: Real, single: Sequence[Any], several: Sequence[Any]) -> None:
    """C[M, N] (+)= A[M, K] times the panels begin..end; of C, nothing right of column N is touched."""
    rows = _product_of_few_rows(module, real, single, several)
    code = _public(module, "product", real)
    b, K, M, lda, ldc = code.b, code["K"], code["M"], code["lda"], code["ldc"]
    block, stride = BLOCK * tile_rows(real), DEPTH + real.lanes
    copy = code.local(real.scalar, block * stride)
    conflict = code.is_(code.rem(code.mul(lda, real.bytes), CONFLICT), "==", 0)
    copied = b.and_(conflict, code.is_(M, ">", 4))
    blocks = code.ceil_div(M, block)
    with code.loop(0, blocks) as i, code.loop(0, K, DEPTH) as k:
        begin, end = code.share(M, i, blocks)
        count, depth = code.sub(end, begin), code.least(code.sub(K, k), DEPTH)
        a = code.at(code["a"], code.add(code.mul(begin, lda), k))
        _copy(code, a, lda, copy, stride, code.choose(copied, count, 0), depth)
        left = b.select(copied, copy, a), code.choose(copied, stride, lda)
        panels = code.at(
            code["panels"], code.mul(code.mul(k, code.ceil_div(code["N"], panel_width(real))), panel_width(real))
        )
        add = code.choose(code.is_(k, ">", 0), 1, code["add"])
        c = code.at(code["c"], code.mul(begin, ldc))
        code.call(rows, *left, panels, c, ldc, count, code["N"], depth, code["begin"], code["end"], add)
    code.end()


def _product_of_few_rows(module: Any, real: Real, single: Sequence[Any], several: Sequence[Any]) -> Any:
    """`product` for a block of rows and K <= DEPTH."""
    code = Code(module, "product_of_few_rows", SIGNATURES["product"], real)
    most, NR, b, K, M, N = tile_rows(real), panel_width(real), code.b, code["K"], code["M"], code["N"]
    tiles = _table(module, "tiles", single, TILE.as_pointer())
    wide_tiles = _table(module, "wide_tiles", several, TILE.as_pointer())
    widths = _table(module, "widths", [tile_panels(real, rows) for rows in range(1, most + 1)], INT)
    count = code.ceil_div(M, most)
    few, more = code.div(M, count), code.rem(M, count)
    # Where all rows fit one tile, it may be wider than a panel.
    index = code.sub(code.least(M, most), 1)
    width = code.choose(code.is_(count, "==", 1), b.load(code.at(widths, index, INT), typ=INT), 1)
    inside = code.sub(code.least(code["end"], code.div(N, NR)), code["begin"])
    wide = code.choose(code.is_(width, ">", 1), code.mul(code.div(inside, width), width), 0)
    middle = code.add(code["begin"], code.choose(code.is_(wide, ">", 0), wide, 0))
    edge = code.local(real.scalar, most * NR)
    step = code.mul(K, NR)
    with code.loop(code["begin"], middle, width) as p:
        panel, c = code.at(code["panels"], code.mul(p, step)), code.at(code["c"], code.mul(p, NR))
        tile = b.load(code.at(wide_tiles, index, POINTER), typ=TILE.as_pointer())
        code.call(tile, code["a"], code["lda"], panel, step, c, code["ldc"], K, code["add"])
    with code.loop(middle, code["end"]) as p:
        panel = code.at(code["panels"], code.mul(p, step))
        with code.loop(0, count) as i:
            rows = code.add(few, code.choose(code.is_(i, "<", more), 1, 0))
            first = code.add(code.mul(i, few), code.least(i, more))
            a = code.at(code["a"], code.mul(first, code["lda"]))
            c = code.at(code["c"], code.add(code.mul(first, code["ldc"]), code.mul(p, NR)))
            tile = b.load(code.at(tiles, code.sub(rows, 1), POINTER), typ=TILE.as_pointer())
            left = (tile, a, code["lda"], panel, step)
            _within(code, left, c, rows, code.sub(N, code.mul(p, NR)), edge)
    return code.end()


def _within(code: Code, left: Sequence[Value], c: Value, rows: Integer, valid: Value, edge: Value) -> None:
    """Call a tile for the `valid` first columns of C: beside it, if these are fewer than a panel's."""
    NR, ldc, K, add = panel_width(code.real), code["ldc"], code["K"], code["add"]
    with code.b.if_else(code.is_(valid, "<", NR)) as (narrow, full):
        with narrow:
            _copy(code, c, ldc, edge, NR, rows, code.choose(code.is_(add, "!=", 0), valid, 0))
            code.call(*left, edge, NR, K, add)
            _copy(code, edge, NR, c, ldc, rows, valid)
        with full:
            code.call(*left, c, ldc, K, add)


def _copy(code: Code, a: Value, lda: Integer, b: Value, ldb: Integer, rows: Value, columns: Value) -> None:
    lanes = code.real.lanes
    whole = code.mul(code.div(columns, lanes), lanes)
    with code.loop(0, rows) as m:
        source, target = code.at(a, code.mul(m, lda)), code.at(b, code.mul(m, ldb))
        with code.loop(0, whole, lanes) as n:
            code.store_vector(code.load_vector(source, n), target, n)
        with code.loop(whole, columns) as n:
            code.store(code.load(source, n), target, n)


def _outer(module: Any, real: Real, tile: Any) -> None:
    """C[M, N] (+)= D[R, M]^T X[R, N], a part of it: the rows or the columns of C are shared among `parts`.

    Unless `sums` is null, the sums of D's rows go there: sums[M] (+)= sum over R.
    `scratch` is this part's own: `outer_scratch` numbers.
    """
    code = _public(module, "outer", real)
    most, NR, b = tile_rows(real), panel_width(real), code.b
    M, N, R, ldc = code["M"], code["N"], code["R"], code["ldc"]
    bands, panels = code.ceil_div(M, most), code.ceil_div(N, NR)
    # Shared where the shares come out more even.
    by_rows = code.is_(_uneven(code, bands), "<=", _uneven(code, panels))
    whole_bands, whole_panels = (code.share(count, 0, 1) for count in (bands, panels))
    part_bands, part_panels = (code.share(count, code["part"], code["parts"]) for count in (bands, panels))
    band_begin, band_end = (code.choose(by_rows, p, w) for p, w in zip(part_bands, whole_bands, strict=True))
    panel_begin, panel_end = (code.choose(by_rows, w, p) for p, w in zip(part_panels, whole_panels, strict=True))
    columns = code["scratch"]
    rows = code.at(columns, code.mul(code.mul(panels, NR), DEPTH))
    edge = code.local(real.scalar, most * NR)
    pack = declare(code, "pack")
    asked = b.icmp_unsigned("!=", b.ptrtoint(code["sums"], INT), INT(0))
    summing = b.and_(asked, b.or_(by_rows, code.is_(code["part"], "==", 0)))
    with code.loop(0, R, DEPTH) as r:
        depth = code.least(code.sub(R, r), DEPTH)
        add = code.choose(code.is_(r, ">", 0), 1, code["add"])
        x = code.at(code["x"], code.mul(r, code["ldx"]))
        code.call(pack, x, code["ldx"], 1, depth, N, panel_begin, panel_end, columns)
        with code.loop(band_begin, band_end) as band:
            m = code.mul(band, most)
            valid = code.least(code.sub(M, m), most)
            sums = code.at(code["sums"], m)
            with b.if_then(b.and_(summing, code.is_(add, "==", 0))), code.loop(0, valid) as i:
                code.store(ir.Constant(real.scalar, 0.0), sums, i)
            d = code.at(code["d"], code.add(code.mul(r, code["ldd"]), m))
            _pack_band(code, d, rows, depth, valid, sums, code.choose(summing, valid, 0))
            with code.loop(panel_begin, panel_end) as p:
                panel = code.at(columns, code.mul(code.mul(p, depth), NR))
                c = code.at(code["c"], code.add(code.mul(m, ldc), code.mul(p, NR)))
                columns_left = code.sub(N, code.mul(p, NR))
                inside = b.and_(code.is_(valid, "==", most), code.is_(columns_left, ">=", NR))
                with b.if_else(inside) as (full, narrow):
                    with full:
                        code.call(tile, rows, 0, panel, 0, c, ldc, depth, add)
                    with narrow:
                        fits = code.least(columns_left, NR)
                        _copy(code, c, ldc, edge, NR, code.choose(code.is_(add, "!=", 0), valid, 0), fits)
                        code.call(tile, rows, 0, panel, 0, edge, NR, depth, add)
                        _copy(code, edge, NR, c, ldc, valid, fits)
    code.end()


def _uneven(code: Code, count: Value) -> Value:
    """How much longer the longest share of `count` things is than an even one, in thousandths."""
    parts = code["parts"]
    longest = code.div(code.add(count, code.sub(parts, 1)), parts)
    return code.div(code.mul(code.mul(longest, parts), 1000), count)


def _pack_band(code: Code, d: Value, rows: Value, depth: Value, valid: Value, sums: Value, summed: Value) -> None:
    """Some columns of D side by side for each r, the missing ones as zeros; the first `summed` are added to sums."""
    b, real, most = code.b, code.real, tile_rows(code.real)
    pieces = [(m, code.first_lanes(most - m) if most - m < real.lanes else None) for m in range(0, most, real.lanes)]
    totals = [code.local(real.vector) for _ in pieces]
    for total in totals:
        b.store(code.fill(0), total)
    with code.loop(0, depth) as k:
        source, target = code.at(d, code.mul(k, code["ldd"])), code.at(rows, code.mul(k, most))
        with b.if_else(code.is_(valid, "==", most)) as (full, narrow):
            with full:
                for m, mask in pieces:
                    # All lanes are written: those too many are the next r's, and written again.
                    code.store_vector(code.load_vector(source, m, mask), target, m)
            with narrow:
                for m, _ in pieces:
                    code.store_vector(code.fill(0), target, m)
                with code.loop(0, valid) as m:
                    code.store(code.load(source, m), target, m)
        for total, (m, _) in zip(totals, pieces, strict=True):
            b.store(b.fadd(b.load(total, typ=real.vector), code.load_vector(target, m)), total)
    found = code.local(real.scalar, len(pieces) * real.lanes)
    for total, (m, _) in zip(totals, pieces, strict=True):
        code.store_vector(b.load(total, typ=real.vector), found, m)
    with code.loop(0, summed) as i:
        code.store(b.fadd(code.load(sums, i), code.load(found, i)), sums, i)


def _column_sums(module: Any, real: Real) -> None:
    """sums[N] (+)= the sum of the R rows of D; its share of the columns."""
    code = _public(module, "column_sums", real)
    b, N = code.b, code["N"]
    wide = VECTORS * real.lanes
    vectors = code.div(N, wide)
    begin, end = code.share(vectors, code["part"], code["parts"])
    with code.loop(begin, end) as v:
        n = code.mul(v, wide)
        sums = [code.local(real.vector) for _ in range(VECTORS)]
        for i, total in enumerate(sums):
            b.store(code.fill(0), total)
            with b.if_then(code.is_(code["add"], "!=", 0)):
                b.store(code.load_vector(code["sums"], code.add(n, i * real.lanes)), total)
        with code.loop(0, code["R"]) as r:
            row = code.at(code["d"], code.add(code.mul(r, code["ldd"]), n))
            for i, total in enumerate(sums):
                b.store(b.fadd(b.load(total, typ=real.vector), code.load_vector(row, i * real.lanes)), total)
        for i, total in enumerate(sums):
            code.store_vector(b.load(total, typ=real.vector), code["sums"], code.add(n, i * real.lanes))
    # The last columns, fewer than the vectors take, are the last part's.
    last = code.is_(code["part"], "==", code.sub(code["parts"], 1))
    with code.loop(code.choose(last, code.mul(vectors, wide), N), N) as n:
        total = code.local(real.scalar)
        code.store(ir.Constant(real.scalar, 0.0), total)
        with b.if_then(code.is_(code["add"], "!=", 0)):
            code.store(code.load(code["sums"], n), total)
        with code.loop(0, code["R"]) as r:
            code.store(b.fadd(code.load(total), code.load(code["d"], code.add(code.mul(r, code["ldd"]), n))), total)
        code.store(code.load(total), code["sums"], n)
    code.end()


SPINS = 2000  # of a waiting thread, before it begins to offer its core to others: some ten microseconds
BARRIER = 16  # 64-bit words: how many threads have arrived, and on a line of its own, how often all had


def _barrier(module: Any, real: Real) -> None:
    """Wait until all threads are here. An OpenMP barrier takes a microsecond, as long as a small step; this a tenth."""
    code = _public(module, "barrier", real)
    b, memory = code.b, code["memory"]
    arrived, rounds = code.at(memory, 0, INT), code.at(memory, BARRIER // 2, INT)
    before = b.load_atomic(rounds, "acquire", 8, typ=INT)
    last = code.is_(b.atomic_rmw("add", arrived, INT(1), "acq_rel"), "==", code.sub(code["all"], 1))
    with b.if_else(last) as (opening, waiting):
        with opening:
            b.atomic_rmw("xchg", arrived, INT(0), "monotonic")
            b.atomic_rmw("add", rounds, INT(1), "release")
        with waiting:
            spins = code.local(INT)
            b.store(INT(0), spins)
            look, again, done = (code.function.append_basic_block(name) for name in ("look", "again", "done"))
            b.branch(look)
            b.position_at_end(look)
            b.cbranch(code.is_(b.load_atomic(rounds, "acquire", 8, typ=INT), "==", before), again, done)
            b.position_at_end(again)
            _pause(code)
            b.store(code.add(b.load(spins, typ=INT), 1), spins)
            with b.if_then(code.is_(b.load(spins, typ=INT), ">", SPINS)):
                b.call(b.inttoptr(code["yield"], ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
            b.branch(look)
            b.position_at_end(done)
    code.end()


def _pause(code: Code) -> None:
    """Tell the core that it is waiting."""
    if code.module.triple.startswith(X86):
        code.b.call(code.declared("llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    elif code.module.triple.startswith(ARM):
        hint = code.declared("llvm.aarch64.hint", ir.FunctionType(ir.VoidType(), [ir.IntType(32)]))
        code.b.call(hint, [ir.IntType(32)(1)])


WORK = ir.FunctionType(ir.VoidType(), [POINTER, INT, INT])


def _entries(module: Any, real: Real) -> None:
    """`alone(data)` calls data[0](data, 0, 1); `team(data)`, run by every thread of a team, with its number and theirs.

    Around the call, numbers too small to be normal count as zero: on some machines they cost a hundred times as much.
    """
    ask = ir.FunctionType(ir.IntType(32), [])
    for name in ("alone", "team"):
        code = _public(module, name, real)
        b, data = code.b, code["data"]
        work, number, count = (b.load(code.at(data, i, INT), typ=INT) for i in range(3))
        me, all_ = INT(0), INT(1)
        if name == "team":
            me, all_ = (b.sext(b.call(b.inttoptr(f, ask.as_pointer()), []), INT) for f in (number, count))
        restore = _flush_denormals(code)
        b.call(b.inttoptr(work, WORK.as_pointer()), [data, me, all_])
        restore()
        code.end()


def _flush_denormals(code: Code) -> Callable[[], None]:
    """Let denormals be zero, operands and results alike; the returned function writes what undoes it."""
    b, triple, int32 = code.b, code.module.triple, ir.IntType(32)
    if triple.startswith(X86):
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        read, write = (code.declared(f"llvm.x86.sse.{name}", kind) for name in ("stmxcsr", "ldmxcsr"))
        before, now = code.local(int32), code.local(int32)
        b.call(read, [before])
        b.store(b.or_(b.load(before, typ=int32), int32(0x8040)), now)
        b.call(write, [now])
        return lambda: b.call(write, [before])
    if triple.startswith(ARM):
        get = code.declared("llvm.aarch64.get.fpcr", ir.FunctionType(INT, []))
        put = code.declared("llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [INT]))
        register = b.call(get, [])
        b.call(put, [b.or_(register, INT(1 << 24))])
        return lambda: b.call(put, [register])
    return lambda: None
