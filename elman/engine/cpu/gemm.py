"""Matrix products of whole matrices."""

from collections.abc import Sequence
from typing import Any

from elman.engine.cpu.gemm_tile import DEPTH, TILE, copy, panel_width, table, tile, tile_panels, tile_rows
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.cpu.signatures import SIGNATURES, public

BLOCK = 8  # tiles, in the rows of the left matrix that are worked on together: they stay in the second cache
CONFLICT = 2048  # bytes: rows that lie so far apart, or a multiple of it, displace each other from the first cache


def product(module: Any, real: Real) -> None:
    """C[M, N] (+)= A[M, K] times the panels begin..end; of C, nothing right of column N is touched.

    The panels are taken from the last to the first if `back`: a loop that takes turns finds the last ones in its cache.
    """
    rows = _product_of_few_rows(module, real)
    code = public(module, "product", real)
    b, K, M, lda, ldc = code.b, code["K"], code["M"], code["lda"], code["ldc"]
    block, stride = BLOCK * tile_rows(real), DEPTH + real.lanes
    room = code.local(real.scalar, block * stride)
    conflict = code.is_(code.rem(code.mul(lda, real.bytes), CONFLICT), "==", 0)
    copied = b.and_(conflict, code.is_(M, ">", 4))
    blocks = code.ceil_div(M, block)
    with code.loop(0, blocks) as i, code.loop(0, K, DEPTH) as k:
        begin, end = code.share(M, i, blocks)
        count, depth = code.sub(end, begin), code.least(code.sub(K, k), DEPTH)
        a = code.at(code["a"], code.add(code.mul(begin, lda), k))
        copy(code, a, lda, room, stride, code.choose(copied, count, 0), depth)
        left = b.select(copied, room, a), code.choose(copied, stride, lda)
        panels = code.at(
            code["panels"], code.mul(code.mul(k, code.ceil_div(code["N"], panel_width(real))), panel_width(real))
        )
        add = code.choose(code.is_(k, ">", 0), 1, code["add"])
        c = code.at(code["c"], code.mul(begin, ldc))
        code.call(rows, *left, panels, c, ldc, count, code["N"], depth, code["begin"], code["end"], add, code["back"])
    code.end()


def _product_of_few_rows(module: Any, real: Real) -> Any:
    """`product` for a block of rows and K <= DEPTH."""
    code = Code(module, "product_of_few_rows", SIGNATURES["product"], real)
    most, NR, b, K, M, N = tile_rows(real), panel_width(real), code.b, code["K"], code["M"], code["N"]
    each = range(1, most + 1)
    single = [tile(module, real, rows, 1) for rows in each]
    several = [tile(module, real, rows, tile_panels(real, rows)) for rows in each]
    tiles = table(module, "tiles", single, TILE.as_pointer())
    wide_tiles = table(module, "wide_tiles", several, TILE.as_pointer())
    widths = table(module, "widths", [tile_panels(real, rows) for rows in each], INT)
    count = code.ceil_div(M, most)
    few, more = code.div(M, count), code.rem(M, count)
    # Where all rows fit one tile, it may be wider than a panel.
    index = code.sub(code.least(M, most), 1)
    width = code.choose(code.is_(count, "==", 1), b.load(code.at(widths, index, INT), typ=INT), 1)
    inside = code.sub(code.least(code["end"], code.div(N, NR)), code["begin"])
    wide = code.choose(code.is_(width, ">", 1), code.mul(code.div(inside, width), width), 0)
    middle = code.add(code["begin"], code.choose(code.is_(wide, ">", 0), wide, 0))
    edge = code.local(real.scalar, most * NR)
    back = code.is_(code["back"], "!=", 0)
    step = code.mul(K, NR)
    with code.loop(code["begin"], middle, width) as i:
        p = code.choose(back, code.sub(code.sub(code.add(middle, code["begin"]), width), i), i)
        panel, c = code.at(code["panels"], code.mul(p, step)), code.at(code["c"], code.mul(p, NR))
        chosen = b.load(code.at(wide_tiles, index, POINTER), typ=TILE.as_pointer())
        code.call(chosen, code["a"], code["lda"], panel, step, c, code["ldc"], K, code["add"])
    with code.loop(middle, code["end"]) as j:
        p = code.choose(back, code.sub(code.sub(code.add(middle, code["end"]), 1), j), j)
        panel = code.at(code["panels"], code.mul(p, step))
        with code.loop(0, count) as i:
            rows = code.add(few, code.choose(code.is_(i, "<", more), 1, 0))
            first = code.add(code.mul(i, few), code.least(i, more))
            a = code.at(code["a"], code.mul(first, code["lda"]))
            c = code.at(code["c"], code.add(code.mul(first, code["ldc"]), code.mul(p, NR)))
            chosen = b.load(code.at(tiles, code.sub(rows, 1), POINTER), typ=TILE.as_pointer())
            left = (chosen, a, code["lda"], panel, code.choose(back, code.sub(0, step), step))
            _within(code, left, c, rows, code.sub(N, code.mul(p, NR)), edge)
    return code.end()


def _within(code: Code, left: Sequence[Value], c: Value, rows: Integer, valid: Value, edge: Value) -> None:
    """Call a tile for the `valid` first columns of C: beside it, if these are fewer than a panel's."""
    NR, ldc, K, add = panel_width(code.real), code["ldc"], code["K"], code["add"]
    with code.b.if_else(code.is_(valid, "<", NR)) as (narrow, full):
        with narrow:
            copy(code, c, ldc, edge, NR, rows, code.choose(code.is_(add, "!=", 0), valid, 0))
            code.call(*left, edge, NR, K, add)
            copy(code, edge, NR, c, ldc, rows, valid)
        with full:
            code.call(*left, c, ldc, K, add)
