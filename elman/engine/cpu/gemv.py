"""Products of a few rows with a matrix as it lies: to pack one takes as long as some such products.

For a step by itself alone. It adds up in another order than a product with a packed matrix, and the numbers of a
sequence must not depend on how long the pieces are that it is run in.
"""

from typing import Any

from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import Code, Real, Value
from elman.engine.cpu.signatures import public

TOGETHER = 4  # columns of C, or vectors of them, that are worked on side by side


def direct(module: Any, real: Real) -> None:
    """C[M, N] (+)= A[M, K] W for the columns of the panels begin..end; W[k, n] is w[k * step_k + n * step_n].

    One of the steps is 1.
    """
    code = public(module, "direct", real)
    NR = panel_width(real)
    begin, end = code.mul(code["begin"], NR), code.least(code.mul(code["end"], NR), code["N"])
    with code.loop(0, code["M"]) as m:
        a, c = code.at(code["a"], code.mul(m, code["lda"])), code.at(code["c"], code.mul(m, code["ldc"]))
        with code.b.if_else(code.is_(code["step_n"], "==", 1)) as (rows, columns):
            with rows:
                _rows(code, a, c, begin, end)
            with columns:
                many = code.add(begin, _whole(code, code.sub(end, begin), TOGETHER))
                with code.loop(begin, many, TOGETHER) as n:
                    _dots(code, a, c, n, TOGETHER)
                with code.loop(many, end) as n:
                    _dots(code, a, c, n, 1)
    code.end()


def _rows(code: Code, a: Value, c: Value, begin: Value, end: Value) -> None:
    """The rows of W, of which each lies in one piece, times the numbers of A, added up."""
    lanes = code.real.lanes
    for count in (TOGETHER, 1):
        many = code.add(begin, _whole(code, code.sub(end, begin), count * lanes))
        with code.loop(begin, many, count * lanes) as n:
            _vectors(code, a, c, n, count)
        begin = many
    rest = code.sub(end, begin)
    with code.b.if_then(code.is_(rest, ">", 0)):
        _vectors(code, a, c, begin, 1, code.lanes_below(rest))


def _vectors(code: Code, a: Value, c: Value, n: Value, count: int, mask: Value = None) -> None:
    b, lanes, vector = code.b, code.real.lanes, code.real.vector
    totals = [code.local(vector) for _ in range(count)]
    for v, total in enumerate(totals):
        before = code.load_vector(c, code.add(n, v * lanes), mask)
        b.store(b.select(code.is_(code["add"], "!=", 0), before, code.fill(0)), total)
    with code.loop(0, code["K"]) as k:
        number, row = code.fill(code.load(a, k)), code.add(code.mul(k, code["step_k"]), n)
        for v, total in enumerate(totals):
            weights = code.load_vector(code["w"], code.add(row, v * lanes), mask)
            b.store(code.fma(number, weights, b.load(total, typ=vector)), total)
    for v, total in enumerate(totals):
        code.store_vector(b.load(total, typ=vector), c, code.add(n, v * lanes), mask)


def _dots(code: Code, a: Value, c: Value, n: Value, count: int) -> None:
    """Columns of W, of which each lies in one piece, each times A."""
    b, vector, K = code.b, code.real.vector, code["K"]
    columns = [code.at(code["w"], code.mul(code.add(n, i), code["step_n"])) for i in range(count)]
    totals = [code.local(vector) for _ in columns]
    for total in totals:
        b.store(code.fill(0), total)

    def more(k: Value, mask: Value) -> None:
        numbers = code.load_vector(a, k, mask)
        for column, total in zip(columns, totals, strict=True):
            b.store(code.fma(numbers, code.load_vector(column, k, mask), b.load(total, typ=vector)), total)

    whole = _whole(code, K, code.real.lanes)
    with code.loop(0, whole, code.real.lanes) as k:
        more(k, None)
    with b.if_then(code.is_(whole, "<", K)):
        more(whole, code.lanes_below(code.sub(K, whole)))
    for i, total in enumerate(totals):
        found = code.across(b.load(total, typ=vector), lambda code, x, y: code.b.fadd(x, y))
        place = code.add(n, i)
        before = b.select(code.is_(code["add"], "!=", 0), code.load(c, place), code.real.scalar(0.0))
        code.store(b.fadd(found, before), c, place)


def _whole(code: Code, count: Value, of: int) -> Value:
    """How much of a count is whole groups."""
    return code.mul(code.div(count, of), of)
