"""Multiplies whole matrices, by tiles."""

from collections.abc import Sequence
from typing import Any

from elman.engine.cpu import bfloat16
from elman.engine.cpu.gemm_tile import (
    DEPTH,
    TILE,
    copy,
    packed_rows,
    panel_width,
    table,
    tile,
    tile_panels,
    tile_rows,
    upper_half,
)
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.cpu.signatures import SIGNATURES, public

BLOCK_TILES = 8  # tiles of rows of the left matrix in one block, which stays in the second-level cache
CONFLICT_BYTES = 2048  # rows at distances of a multiple of it evict each other from the first-level cache


def product(module: Any, real: Real) -> None:
    """C[M, N] (+)= A[M, K] times the panels begin..end; nothing right of column N of C is written.

    If `reverse`, the panels are taken from the last to the first: a loop that alternates finds the last ones cached.
    """
    rows = _product_of_few_rows(module, real)
    code = public(module, "product", real)
    b, K, M, lda, ldc = code.b, code["K"], code["M"], code["lda"], code["ldc"]
    block, stride = BLOCK_TILES * tile_rows(real), 2 * upper_half(real) if real.rounds else DEPTH + real.lanes
    buffer = code.local(real.scalar, block * stride)
    conflict = code.compare(code.rem(code.mul(lda, real.bytes), CONFLICT_BYTES), "==", 0)
    copied = b.and_(conflict, code.compare(M, ">", 4))
    blocks = code.ceil_div(M, block)
    with code.loop(0, blocks) as i, code.loop(0, K, DEPTH) as k:
        begin, end = code.share(M, i, blocks)
        count, depth = code.sub(end, begin), code.minimum(code.sub(K, k), DEPTH)
        a = code.at(code["a"], code.add(code.mul(begin, lda), k))
        if real.rounds:
            bfloat16.copy(code, a, lda, buffer, stride, upper_half(real), count, depth)
            left = buffer, stride
        else:
            copy(code, a, lda, buffer, stride, code.select(copied, count, 0), depth)
            left = b.select(copied, buffer, a), code.select(copied, stride, lda)
        row = code.mul(code.ceil_div(code["N"], panel_width(real)), panel_width(real))
        panels = code.at(code["panels"], code.mul(packed_rows(code, k), row))
        add = code.select(code.compare(k, ">", 0), 1, code["add"])
        c = code.at(code["c"], code.mul(begin, ldc))
        code.call(
            rows, *left, panels, c, ldc, count, code["N"], depth, code["begin"], code["end"], add, code["reverse"]
        )
    code.end()


def _product_of_few_rows(module: Any, real: Real) -> Any:
    """`product` for a block of rows and K <= DEPTH."""
    code = Code(module, "product_of_few_rows", SIGNATURES["product"], real)
    max_rows, NR, b, K, M, N = tile_rows(real), panel_width(real), code.b, code["K"], code["M"], code["N"]
    row_counts = range(1, max_rows + 1)
    narrow_functions = [tile(module, real, rows, 1) for rows in row_counts]
    wide_functions = [tile(module, real, rows, tile_panels(real, rows)) for rows in row_counts]
    tiles = table(module, "tiles", narrow_functions, TILE.as_pointer())
    wide_tiles = table(module, "wide_tiles", wide_functions, TILE.as_pointer())
    widths = table(module, "widths", [tile_panels(real, rows) for rows in row_counts], INT)
    # The rows are shared evenly among `count` tiles: `larger` of them have one row more than `tile_size`.
    count = code.ceil_div(M, max_rows)
    tile_size, larger = code.div(M, count), code.rem(M, count)
    # If one tile has room for all rows, it may be wider than a panel.
    index = code.sub(code.minimum(M, max_rows), 1)
    width = code.select(code.compare(count, "==", 1), b.load(code.at(widths, index, INT), typ=INT), 1)
    full_panels = code.sub(code.minimum(code["end"], code.div(N, NR)), code["begin"])
    wide = code.select(code.compare(width, ">", 1), code.mul(code.div(full_panels, width), width), 0)
    middle = code.add(code["begin"], code.select(code.compare(wide, ">", 0), wide, 0))
    edge = code.local(real.scalar, max_rows * NR)
    reverse = code.compare(code["reverse"], "!=", 0)
    step = code.mul(packed_rows(code, K), NR)
    with code.loop(code["begin"], middle, width) as i:
        p = code.select(reverse, code.sub(code.sub(code.add(middle, code["begin"]), width), i), i)
        panel, c = code.at(code["panels"], code.mul(p, step)), code.at(code["c"], code.mul(p, NR))
        function = b.load(code.at(wide_tiles, index, POINTER), typ=TILE.as_pointer())
        code.call(function, code["a"], code["lda"], panel, step, c, code["ldc"], K, code["add"])
    with code.loop(middle, code["end"]) as j:
        p = code.select(reverse, code.sub(code.sub(code.add(middle, code["end"]), 1), j), j)
        panel = code.at(code["panels"], code.mul(p, step))
        with code.loop(0, count) as i:
            rows = code.add(tile_size, code.select(code.compare(i, "<", larger), 1, 0))
            first = code.add(code.mul(i, tile_size), code.minimum(i, larger))
            a = code.at(code["a"], code.mul(first, code["lda"]))
            c = code.at(code["c"], code.add(code.mul(first, code["ldc"]), code.mul(p, NR)))
            function = b.load(code.at(tiles, code.sub(rows, 1), POINTER), typ=TILE.as_pointer())
            left = (function, a, code["lda"], panel, code.select(reverse, code.sub(0, step), step))
            _call_tile(code, left, c, rows, code.sub(N, code.mul(p, NR)), edge)
    return code.end()


def _call_tile(code: Code, left: Sequence[Value], c: Value, rows: Integer, valid: Value, edge: Value) -> None:
    """Call a tile for the first `valid` columns of C; by way of the buffer `edge` if they are fewer than a panel's."""
    NR, ldc, K, add = panel_width(code.real), code["ldc"], code["K"], code["add"]
    with code.b.if_else(code.compare(valid, "<", NR)) as (narrow, full):
        with narrow:
            copy(code, c, ldc, edge, NR, rows, code.select(code.compare(add, "!=", 0), valid, 0))
            code.call(*left, edge, NR, K, add)
            copy(code, edge, NR, c, ldc, rows, valid)
        with full:
            code.call(*left, c, ldc, K, add)
