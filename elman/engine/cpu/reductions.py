"""Sums over all rows, of which the gradients of parameters are made."""

from typing import Any

from llvmlite import ir

from elman.engine.cpu.gemm_tile import DEPTH, VECTORS, copy, panel_width, tile, tile_rows
from elman.engine.cpu.ir_builder import INT, Code, Real, Value
from elman.engine.cpu.signatures import SIGNATURES, declare, public

FEW = 4  # panels: with so few, asking for the next band's numbers costs more than waiting for them


def outer_scratch(real: Real, N: int) -> int:
    """How many numbers a part of `outer` needs for itself."""
    return DEPTH * (tile_rows(real) + N + panel_width(real)) + real.lanes


def outer(module: Any, real: Real) -> None:
    """C[M, N] (+)= D[R, M]^T X[R, N], a part of it: the rows or the columns of C are shared among `parts`.

    Unless `sums` is null, the sums of D's rows go there: sums[M] (+)= sum over R.
    `scratch` is this part's own: `outer_scratch` numbers.
    """
    code = public(module, "outer", real)
    # Bands of as many rows as a tile can have, or one fewer: whichever leaves less of the last band empty.
    most = tile_rows(real)
    whole, fewer = (_outer_in_bands(module, real, rows) for rows in (most, most - 1))
    empty = [code.sub(code.mul(code.ceil_div(code["M"], rows), rows), code["M"]) for rows in (most, most - 1)]
    arguments = [code[name.lstrip("*")] for name in SIGNATURES["outer"]]
    with code.b.if_else(code.is_(empty[1], "<", empty[0])) as (closer, otherwise):
        with closer:
            code.call(fewer, *arguments)
        with otherwise:
            code.call(whole, *arguments)
    code.end()


def _outer_in_bands(module: Any, real: Real, most: int) -> Any:
    """`outer`, of bands of C with so many rows."""
    code = Code(module, f"outer_in_bands_of_{most}", SIGNATURES["outer"], real)
    NR, b = panel_width(real), code.b
    turned = tile(module, real, most, 1, turned=True)
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
            fetched = code.choose(code.is_(panels, ">", FEW), depth, 0)
            # A band is read where it lies: to pack it was never faster. Only beside a narrow one may be no memory.
            complete = code.is_(valid, "==", most)
            copy(code, d, code["ldd"], rows, most, code.choose(complete, 0, depth), valid)
            left = b.select(complete, d, rows), code.choose(complete, code["ldd"], most)
            with b.if_then(summing):
                _sum_band(code, *left, most, depth, sums, valid)
            with code.loop(panel_begin, panel_end) as p:
                panel = code.at(columns, code.mul(code.mul(p, depth), NR))
                c = code.at(code["c"], code.add(code.mul(m, ldc), code.mul(p, NR)))
                columns_left = code.sub(N, code.mul(p, NR))
                _fetch_band(code, code.at(d, most), most, code.share(fetched, p, panels))
                inside = b.and_(complete, code.is_(columns_left, ">=", NR))
                with b.if_else(inside) as (full, narrow):
                    with full:
                        code.call(turned, *left, panel, 0, c, ldc, depth, add)
                    with narrow:
                        fits = code.least(columns_left, NR)
                        copy(code, c, ldc, edge, NR, code.choose(code.is_(add, "!=", 0), valid, 0), fits)
                        code.call(turned, *left, panel, 0, edge, NR, depth, add)
                        copy(code, edge, NR, c, ldc, valid, fits)
    return code.end()


def _uneven(code: Code, count: Value) -> Value:
    """How much longer the longest share of `count` things is than an even one, in thousandths."""
    parts = code["parts"]
    longest = code.div(code.add(count, code.sub(parts, 1)), parts)
    return code.div(code.mul(code.mul(longest, parts), 1000), count)


def _sum_band(code: Code, d: Value, ldd: Value, most: int, depth: Value, sums: Value, valid: Value) -> None:
    """Add the sums of the first `valid` of `most` columns of D."""
    b, real = code.b, code.real
    firsts = range(0, most, real.lanes)
    masks = [code.first_lanes(most - m) if most - m < real.lanes else None for m in firsts]
    totals = [code.local(real.vector) for _ in firsts]
    for total in totals:
        b.store(code.fill(0), total)
    with code.loop(0, depth) as k:
        row = code.mul(k, ldd)
        for total, m, mask in zip(totals, firsts, masks, strict=True):
            b.store(b.fadd(b.load(total, typ=real.vector), code.load_vector(d, code.add(row, m), mask)), total)
    found = code.local(real.scalar, len(totals) * real.lanes)
    for total, m in zip(totals, firsts, strict=True):
        code.store_vector(b.load(total, typ=real.vector), found, m)
    with code.loop(0, valid) as i:
        code.store(b.fadd(code.load(sums, i), code.load(found, i)), sums, i)


def _fetch_band(code: Code, d: Value, most: int, rows: tuple[Value, Value]) -> None:
    """Bring some rows of the next band nearer, while the tiles of this one are at work."""
    with code.loop(*rows) as k:
        row = code.mul(k, code["ldd"])
        for column in (0, most - 1):
            code.prefetch(d, code.add(row, column))


def column_sums(module: Any, real: Real) -> None:
    """sums[N] (+)= the sum of the R rows of D; its share of the columns."""
    code = public(module, "column_sums", real)
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
