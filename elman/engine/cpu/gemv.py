"""Multiplies the rows of one step by a matrix that is not packed: packing it takes as long as several such products.

Only for single steps. These products sum in another order than those with a packed matrix, and the numbers of a
sequence must not depend on how it is split into calls. The sum of an entry does not depend on the other rows, so a
step of a row gives the same bits alone and among others.
"""

from collections.abc import Callable
from typing import Any

from elman.engine.cpu import bfloat16
from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import Code, Real, Value
from elman.engine.cpu.signatures import public

UNROLL = 4  # columns of C, or vectors of columns, that are computed side by side
ROWS = 3  # rows that are computed side by side: their sums and those of UNROLL columns fill 16 registers
BLOCK = 48  # rows that stay in the second-level cache while the columns pass


def direct(module: Any, real: Real) -> None:
    """C[M, N] (+)= A[M, K] W for the columns of the panels begin..end; W[k, n] is w[k * step_k + n * step_n].

    One of `step_k` and `step_n` is 1.
    """
    code = public(module, "direct", real)
    NR = panel_width(real)
    begin, end = code.mul(code["begin"], NR), code.minimum(code.mul(code["end"], NR), code["N"])
    with code.loop(0, code["M"], BLOCK) as first:
        last = code.minimum(code.add(first, BLOCK), code["M"])
        with code.b.if_else(code.compare(code["step_n"], "==", 1)) as (rows, columns):
            with rows:
                _multiply_rows(code, first, last, begin, end)
            with columns:
                unrolled_end = code.add(begin, _round_down(code, code.sub(end, begin), UNROLL))
                with code.loop(begin, unrolled_end, UNROLL) as n:
                    _tiles(code, first, last, lambda m, rows: _dot_products(code, m, rows, n, UNROLL))
                with code.loop(unrolled_end, end) as n:
                    _tiles(code, first, last, lambda m, rows: _dot_products(code, m, rows, n, 1))
    code.end()


def _tiles(code: Code, first: Value, last: Value, write: Callable[[Value, int], None]) -> None:
    """Loop over the rows first..last; `write` emits the code for one or several rows, of which it gets the first."""
    unrolled_end = code.add(first, _round_down(code, code.sub(last, first), ROWS))
    with code.loop(first, unrolled_end, ROWS) as m:
        write(m, ROWS)
    with code.loop(unrolled_end, last) as m:
        write(m, 1)


def _multiply_rows(code: Code, first: Value, last: Value, begin: Value, end: Value) -> None:
    """Compute columns begin..end of C as a sum of rows of W, which are contiguous, times numbers of A."""
    lanes = code.real.lanes
    for count in (UNROLL, 1):
        unrolled_end = code.add(begin, _round_down(code, code.sub(end, begin), count * lanes))
        with code.loop(begin, unrolled_end, count * lanes) as n:
            _tiles(code, first, last, lambda m, rows: _multiply_vectors(code, m, rows, n, count))  # noqa: B023
        begin = unrolled_end
    rest = code.sub(end, begin)
    with code.b.if_then(code.compare(rest, ">", 0)):
        mask = code.lanes_below(rest)
        _tiles(code, first, last, lambda m, rows: _multiply_vectors(code, m, rows, begin, 1, mask))


def _row(code: Code, name: str, m: Value) -> Value:
    """Return the address of row m of a or c."""
    return code.at(code[name], code.mul(m, code[f"ld{name}"]))


def _multiply_vectors(code: Code, m: Value, rows: int, n: Value, count: int, mask: Value = None) -> None:
    b, lanes, vector = code.b, code.real.lanes, code.real.vector
    a, c = ([_row(code, name, code.add(m, r)) for r in range(rows)] for name in ("a", "c"))
    totals = [[code.local(vector) for _ in range(count)] for _ in range(rows)]
    for row, row_totals in zip(c, totals, strict=True):
        for v, total in enumerate(row_totals):
            previous = code.load_vector(row, code.add(n, v * lanes), mask)
            b.store(b.select(code.compare(code["add"], "!=", 0), previous, code.fill(0)), total)
    with code.loop(0, code["K"]) as k:
        place = code.add(code.mul(k, code["step_k"]), n)
        vectors = [_factor(code, code.load_vector(code["w"], code.add(place, v * lanes), mask)) for v in range(count)]
        for row, row_totals in zip(a, totals, strict=True):
            number = _factor(code, code.fill(code.load(row, k)))
            for weights, total in zip(vectors, row_totals, strict=True):
                b.store(code.fma(number, weights, b.load(total, typ=vector)), total)
    for row, row_totals in zip(c, totals, strict=True):
        for v, total in enumerate(row_totals):
            code.store_vector(b.load(total, typ=vector), row, code.add(n, v * lanes), mask)


def _dot_products(code: Code, m: Value, rows: int, n: Value, count: int) -> None:
    """Compute entries of C as dot products of `rows` rows of A and `count` columns of W, which are contiguous."""
    b, vector, K = code.b, code.real.vector, code["K"]
    a, c = ([_row(code, name, code.add(m, r)) for r in range(rows)] for name in ("a", "c"))
    columns = [code.at(code["w"], code.mul(code.add(n, i), code["step_n"])) for i in range(count)]
    totals = [[code.local(vector) for _ in columns] for _ in a]
    for row_totals in totals:
        for total in row_totals:
            b.store(code.fill(0), total)

    def accumulate(k: Value, mask: Value) -> None:
        numbers = [_factor(code, code.load_vector(row, k, mask)) for row in a]
        for i, column in enumerate(columns):
            weights = _factor(code, code.load_vector(column, k, mask))
            for values, row_totals in zip(numbers, totals, strict=True):
                b.store(code.fma(values, weights, b.load(row_totals[i], typ=vector)), row_totals[i])

    full = _round_down(code, K, code.real.lanes)
    with code.loop(0, full, code.real.lanes) as k:
        accumulate(k, None)
    with b.if_then(code.compare(full, "<", K)):
        accumulate(full, code.lanes_below(code.sub(K, full)))
    for row, row_totals in zip(c, totals, strict=True):
        for i, total in enumerate(row_totals):
            dot = code.reduce_lanes(b.load(total, typ=vector), lambda code, x, y: code.b.fadd(x, y))
            column = code.add(n, i)
            previous = b.select(code.compare(code["add"], "!=", 0), code.load(row, column), code.real.scalar(0.0))
            code.store(b.fadd(dot, previous), row, column)


def _factor(code: Code, value: Value) -> Value:
    return bfloat16.rounded(code, value) if code.real.rounds else value


def _round_down(code: Code, count: Value, multiple: int) -> Value:
    return code.mul(code.div(count, multiple), multiple)
