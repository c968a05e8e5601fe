"""Multiplies a few rows by a matrix that is not packed: packing one takes as long as several such products.

Only for single steps. These products sum in another order than those with a packed matrix, and the numbers of a
sequence must not depend on how it is split into calls.
"""

from typing import Any

from elman.engine.cpu import bfloat16
from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import Code, Real, Value
from elman.engine.cpu.signatures import public

UNROLL = 4  # columns of C, or vectors of columns, that are computed side by side


def direct(module: Any, real: Real) -> None:
    """C[M, N] (+)= A[M, K] W for the columns of the panels begin..end; W[k, n] is w[k * step_k + n * step_n].

    One of `step_k` and `step_n` is 1.
    """
    code = public(module, "direct", real)
    NR = panel_width(real)
    begin, end = code.mul(code["begin"], NR), code.minimum(code.mul(code["end"], NR), code["N"])
    with code.loop(0, code["M"]) as m:
        a, c = code.at(code["a"], code.mul(m, code["lda"])), code.at(code["c"], code.mul(m, code["ldc"]))
        with code.b.if_else(code.compare(code["step_n"], "==", 1)) as (rows, columns):
            with rows:
                _multiply_rows(code, a, c, begin, end)
            with columns:
                unrolled_end = code.add(begin, _round_down(code, code.sub(end, begin), UNROLL))
                with code.loop(begin, unrolled_end, UNROLL) as n:
                    _dot_products(code, a, c, n, UNROLL)
                with code.loop(unrolled_end, end) as n:
                    _dot_products(code, a, c, n, 1)
    code.end()


def _multiply_rows(code: Code, a: Value, c: Value, begin: Value, end: Value) -> None:
    """Compute columns begin..end of C as a sum of rows of W, which are contiguous, times numbers of A."""
    lanes = code.real.lanes
    for count in (UNROLL, 1):
        unrolled_end = code.add(begin, _round_down(code, code.sub(end, begin), count * lanes))
        with code.loop(begin, unrolled_end, count * lanes) as n:
            _multiply_vectors(code, a, c, n, count)
        begin = unrolled_end
    rest = code.sub(end, begin)
    with code.b.if_then(code.compare(rest, ">", 0)):
        _multiply_vectors(code, a, c, begin, 1, code.lanes_below(rest))


def _multiply_vectors(code: Code, a: Value, c: Value, n: Value, count: int, mask: Value = None) -> None:
    b, lanes, vector = code.b, code.real.lanes, code.real.vector
    totals = [code.local(vector) for _ in range(count)]
    for v, total in enumerate(totals):
        previous = code.load_vector(c, code.add(n, v * lanes), mask)
        b.store(b.select(code.compare(code["add"], "!=", 0), previous, code.fill(0)), total)
    with code.loop(0, code["K"]) as k:
        number, row = _factor(code, code.fill(code.load(a, k))), code.add(code.mul(k, code["step_k"]), n)
        for v, total in enumerate(totals):
            weights = _factor(code, code.load_vector(code["w"], code.add(row, v * lanes), mask))
            b.store(code.fma(number, weights, b.load(total, typ=vector)), total)
    for v, total in enumerate(totals):
        code.store_vector(b.load(total, typ=vector), c, code.add(n, v * lanes), mask)


def _dot_products(code: Code, a: Value, c: Value, n: Value, count: int) -> None:
    """Compute `count` columns of C as dot products of a row of A and columns of W, which are contiguous."""
    b, vector, K = code.b, code.real.vector, code["K"]
    columns = [code.at(code["w"], code.mul(code.add(n, i), code["step_n"])) for i in range(count)]
    totals = [code.local(vector) for _ in columns]
    for total in totals:
        b.store(code.fill(0), total)

    def accumulate(k: Value, mask: Value) -> None:
        numbers = _factor(code, code.load_vector(a, k, mask))
        for column, total in zip(columns, totals, strict=True):
            weights = _factor(code, code.load_vector(column, k, mask))
            b.store(code.fma(numbers, weights, b.load(total, typ=vector)), total)

    full = _round_down(code, K, code.real.lanes)
    with code.loop(0, full, code.real.lanes) as k:
        accumulate(k, None)
    with b.if_then(code.compare(full, "<", K)):
        accumulate(full, code.lanes_below(code.sub(K, full)))
    for i, total in enumerate(totals):
        dot = code.reduce_lanes(b.load(total, typ=vector), lambda code, x, y: code.b.fadd(x, y))
        column = code.add(n, i)
        previous = b.select(code.compare(code["add"], "!=", 0), code.load(c, column), code.real.scalar(0.0))
        code.store(b.fadd(dot, previous), c, column)


def _factor(code: Code, value: Value) -> Value:
    return bfloat16.rounded(code, value) if code.real.rounds else value


def _round_down(code: Code, count: Value, multiple: int) -> Value:
    return code.mul(code.div(count, multiple), multiple)
