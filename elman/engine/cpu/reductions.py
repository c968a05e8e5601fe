"""Sums over all rows, from which the gradients of parameters are computed."""

from typing import Any

from llvmlite import ir

from elman.engine.cpu import bfloat16
from elman.engine.cpu.gemm_tile import (
    DEPTH,
    VECTORS,
    copy,
    packed_rows,
    panel_width,
    rounded_stride,
    tile,
    tile_rows,
    upper_plane,
)
from elman.engine.cpu.ir_builder import INT, Code, Real, Value
from elman.engine.cpu.signatures import SIGNATURES, declare, public

MAX_PANELS_UNFETCHED = 4  # with so few panels, prefetching the next band costs more than waiting for it


def outer_scratch(real: Real, N: int) -> int:
    """Return how many numbers of scratch memory each part of `outer` needs."""
    rounded = DEPTH * rounded_stride(real, tile_rows(real)) if real.rounds else 0
    return DEPTH * (tile_rows(real) + N + panel_width(real)) + real.lanes + rounded


def outer(module: Any, real: Real) -> None:
    """C[M, N] (+)= D[R, M]^T X[R, N], of which each of `parts` computes some rows or some columns.

    Unless `sums` is null, D's rows are summed too: sums[M] (+)= sum over R. `scratch` is memory for this part alone, of
    `outer_scratch` numbers.
    """
    code = public(module, "outer", real)
    # Bands have as many rows as a tile can have, or one fewer: whichever leaves less of the last band empty.
    max_rows = tile_rows(real)
    taller, lower = (_outer_in_bands(module, real, rows) for rows in (max_rows, max_rows - 1))
    empty = [code.sub(code.mul(code.ceil_div(code["M"], rows), rows), code["M"]) for rows in (max_rows, max_rows - 1)]
    arguments = [code[name.lstrip("*")] for name in SIGNATURES["outer"]]
    with code.b.if_else(code.compare(empty[1], "<", empty[0])) as (lower_fits, otherwise):
        with lower_fits:
            code.call(lower, *arguments)
        with otherwise:
            code.call(taller, *arguments)
    code.end()


def _outer_in_bands(module: Any, real: Real, band_rows: int) -> Any:
    """`outer`, computed in bands of `band_rows` rows of C."""
    code = Code(module, f"outer_in_bands_of_{band_rows}", SIGNATURES["outer"], real)
    NR, b = panel_width(real), code.b
    transposed_tile = tile(module, real, band_rows, 1, transposed=True)
    M, N, R, ldc = code["M"], code["N"], code["R"], code["ldc"]
    bands, panels = code.ceil_div(M, band_rows), code.ceil_div(N, NR)
    # Parts share the bands or the panels, whichever gives more even shares.
    by_rows = code.compare(_imbalance(code, bands), "<=", _imbalance(code, panels))
    all_bands, all_panels = (code.share(count, 0, 1) for count in (bands, panels))
    part_bands, part_panels = (code.share(count, code["part"], code["parts"]) for count in (bands, panels))
    band_begin, band_end = (code.select(by_rows, p, a) for p, a in zip(part_bands, all_bands, strict=True))
    panel_begin, panel_end = (code.select(by_rows, a, p) for p, a in zip(part_panels, all_panels, strict=True))
    packed = code["scratch"]
    rows = code.at(packed, code.mul(code.mul(panels, NR), DEPTH))
    rounded_rows = code.at(rows, DEPTH * band_rows + real.lanes)
    edge = code.local(real.scalar, band_rows * NR)
    pack = declare(code, "pack")
    has_sums = b.icmp_unsigned("!=", b.ptrtoint(code["sums"], INT), INT(0))
    sums_here = b.and_(has_sums, b.or_(by_rows, code.compare(code["part"], "==", 0)))
    with code.loop(0, R, DEPTH) as r:
        depth = code.minimum(code.sub(R, r), DEPTH)
        add = code.select(code.compare(r, ">", 0), 1, code["add"])
        x = code.at(code["x"], code.mul(r, code["ldx"]))
        code.call(pack, x, code["ldx"], 1, depth, N, panel_begin, panel_end, packed)
        with code.loop(band_begin, band_end) as band:
            m = code.mul(band, band_rows)
            valid = code.minimum(code.sub(M, m), band_rows)
            sums = code.at(code["sums"], m)
            with b.if_then(b.and_(sums_here, code.compare(add, "==", 0))), code.loop(0, valid) as i:
                code.store(ir.Constant(real.scalar, 0.0), sums, i)
            d = code.at(code["d"], code.add(code.mul(r, code["ldd"]), m))
            fetched_rows = code.select(code.compare(panels, ">", MAX_PANELS_UNFETCHED), depth, 0)
            # A band is read in place: packing it was never faster. Only the last, if narrower than a tile, is copied,
            # for the memory beside it may be unmapped.
            complete = code.compare(valid, "==", band_rows)
            copy(code, d, code["ldd"], rows, band_rows, code.select(complete, 0, depth), valid)
            left = b.select(complete, d, rows), code.select(complete, code["ldd"], band_rows)
            with b.if_then(sums_here):
                _sum_band(code, *left, band_rows, depth, sums, valid)
            if real.rounds:
                stride = rounded_stride(real, band_rows)
                bfloat16.copy_columns(code, *left, rounded_rows, stride, upper_plane(real, band_rows), depth, band_rows)
                left = rounded_rows, stride
            with code.loop(panel_begin, panel_end) as p:
                panel = code.at(packed, code.mul(code.mul(p, packed_rows(code, depth)), NR))
                c = code.at(code["c"], code.add(code.mul(m, ldc), code.mul(p, NR)))
                columns_left = code.sub(N, code.mul(p, NR))
                _prefetch_band(code, code.at(d, band_rows), band_rows, code.share(fetched_rows, p, panels))
                fits_tile = b.and_(complete, code.compare(columns_left, ">=", NR))
                with b.if_else(fits_tile) as (full, narrow):
                    with full:
                        code.call(transposed_tile, *left, panel, 0, c, ldc, depth, add)
                    with narrow:
                        columns = code.minimum(columns_left, NR)
                        copy(code, c, ldc, edge, NR, code.select(code.compare(add, "!=", 0), valid, 0), columns)
                        code.call(transposed_tile, *left, panel, 0, edge, NR, depth, add)
                        copy(code, edge, NR, c, ldc, valid, columns)
    return code.end()


def _imbalance(code: Code, count: Value) -> Value:
    """Compute the ratio of the largest of `parts` shares of `count` things to an even share, in thousandths."""
    parts = code["parts"]
    largest = code.div(code.add(count, code.sub(parts, 1)), parts)
    return code.div(code.mul(code.mul(largest, parts), 1000), count)


def _sum_band(code: Code, d: Value, ldd: Value, columns: int, depth: Value, sums: Value, valid: Value) -> None:
    """Sum `depth` rows of a band of `columns` columns of D, and add the first `valid` of these sums to `sums`."""
    b, real = code.b, code.real
    firsts = range(0, columns, real.lanes)
    masks = [code.first_lanes(columns - m) if columns - m < real.lanes else None for m in firsts]
    totals = [code.local(real.vector) for _ in firsts]
    for total in totals:
        b.store(code.fill(0), total)
    with code.loop(0, depth) as k:
        row = code.mul(k, ldd)
        for total, m, mask in zip(totals, firsts, masks, strict=True):
            b.store(b.fadd(b.load(total, typ=real.vector), code.load_vector(d, code.add(row, m), mask)), total)
    band_sums = code.local(real.scalar, len(totals) * real.lanes)
    for total, m in zip(totals, firsts, strict=True):
        code.store_vector(b.load(total, typ=real.vector), band_sums, m)
    with code.loop(0, valid) as i:
        code.store(b.fadd(code.load(sums, i), code.load(band_sums, i)), sums, i)


def _prefetch_band(code: Code, d: Value, columns: int, rows: tuple[Value, Value]) -> None:
    """Prefetch some rows of the next band while the tiles of this one are computed."""
    with code.loop(*rows) as k:
        row = code.mul(k, code["ldd"])
        for column in (0, columns - 1):
            code.prefetch(d, code.add(row, column))


def column_sums(module: Any, real: Real) -> None:
    """sums[N] (+)= the sum of the R rows of D, for this part's share of the columns."""
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
            with b.if_then(code.compare(code["add"], "!=", 0)):
                b.store(code.load_vector(code["sums"], code.add(n, i * real.lanes)), total)
        with code.loop(0, code["R"]) as r:
            row = code.at(code["d"], code.add(code.mul(r, code["ldd"]), n))
            for i, total in enumerate(sums):
                b.store(b.fadd(b.load(total, typ=real.vector), code.load_vector(row, i * real.lanes)), total)
        for i, total in enumerate(sums):
            code.store_vector(b.load(total, typ=real.vector), code["sums"], code.add(n, i * real.lanes))
    # The last part sums the remaining columns, which are too few for the vectors, one by one.
    last = code.compare(code["part"], "==", code.sub(code["parts"], 1))
    with code.loop(code.select(last, code.mul(vectors, wide), N), N) as n:
        total = code.local(real.scalar)
        code.store(ir.Constant(real.scalar, 0.0), total)
        with b.if_then(code.compare(code["add"], "!=", 0)):
            code.store(code.load(code["sums"], n), total)
        with code.loop(0, code["R"]) as r:
            code.store(b.fadd(code.load(total), code.load(code["d"], code.add(code.mul(r, code["ldd"]), n))), total)
        code.store(code.load(total), code["sums"], n)
    code.end()
