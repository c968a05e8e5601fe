"""Products in bfloat16: rounds their factors, and adds up pairs of products in float32.

Matrices, states and deltas are float32 in memory. A product rounds the factors to bfloat16, to the nearest and ties to
even, and adds up in float32; nothing else is rounded. A row of a panel holds a pair of rows of the matrix in 32-bit
words: the first in the lower half, the second in the upper one. Two products of a word are added one after the other,
the upper one first: so does the instruction VDPBF16PS, and where it is slow or missing, two multiply-adds of float32
give the same bits, for a product of two numbers in bfloat16 is exact in float32.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import INT32, Code, Integer, Value

UPPER = -65536  # mask of the upper half of a word
Multiply = Callable[[Code, Value, Value, Value], Value]


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type bfloat, which llvmlite lacks."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(type(self))


def factors(code: Code, right: Mapping[Any, Value]) -> Iterator[tuple[int, Mapping[Any, Value], Multiply]]:
    """Yield what to multiply for a row of panels: the half of the left factor's pairs, the right factors, and how.

    Args:
        code: of the tile.
        right: the words of the row, by any key.
    """
    if code.real.dot:
        yield 0, right, _dot
        return
    for half in (1, 0):
        yield half, {key: _half(code, words, half) for key, words in right.items()}, Code.fma


def rounded(code: Code, value: Value) -> Value:
    """Round a number, or a vector, to bfloat16."""
    return code.b.bitcast(_bits(code, value), value.type)


def pair(code: Code, low: Value, high: Value) -> Value:
    """Round two numbers, or vectors, and put them into the halves of one word each."""
    b = code.b
    lower = b.lshr(_bits(code, low), _constant(low, 16))
    return b.bitcast(b.or_(lower, _bits(code, high)), low.type)


def pairs_of_neighbours(code: Code, pointer: Value, index: Integer) -> Value:
    """Load two vectors of numbers, and put every two neighbours into one word."""
    return pair(code, *_neighbours(code, pointer, index))


def copy(
    code: Code, a: Value, lda: Integer, target: Value, stride: int, upper: int, rows: Integer, columns: Integer
) -> None:  # fmt: skip
    """Copy rows of a left factor, rounded and in pairs, for tiles; what is beyond the columns becomes zero.

    Args:
        code: of the caller.
        a: the left factor.
        lda: the distance between its rows.
        target: where to copy to.
        stride: the distance between rows of the copy.
        upper: where the second numbers of the pairs begin; there must be a vector of room before.
        rows: to copy.
        columns: to copy.
    """
    wide = 2 * code.real.lanes
    whole = code.mul(code.div(columns, wide), wide)
    rest = code.sub(columns, whole)
    masks = code.lanes_below(rest), code.lanes_below(code.sub(rest, code.real.lanes))
    with code.loop(0, rows) as m:
        source, row = code.at(a, code.mul(m, lda)), code.at(target, code.mul(m, stride))
        with code.loop(0, whole, wide) as n:
            _store(code, *_neighbours(code, source, n), row, code.div(n, 2), upper)
        with code.b.if_then(code.compare(rest, ">", 0)):
            _store(code, *_neighbours(code, source, whole, masks), row, code.div(whole, 2), upper)


def copy_columns(
    code: Code, a: Value, lda: Integer, target: Value, stride: int, upper: int, rows: Integer, columns: int
) -> None:  # fmt: skip
    """Copy columns of a left factor that is transposed, as `copy` does; what is beyond the rows becomes zero."""
    lanes, pairs = code.real.lanes, code.div(rows, 2)

    def load(k: Value, m: int) -> Value:
        mask = code.first_lanes(columns - m) if columns - m < lanes else None
        return code.load_vector(a, code.add(code.mul(k, lda), m), mask)

    with code.loop(0, pairs) as k:
        for m in range(0, columns, lanes):
            low, high = (load(code.add(code.mul(k, 2), half), m) for half in (0, 1))
            _store(code, low, high, target, code.add(code.mul(k, stride), m), upper)
    with code.b.if_then(code.compare(code.mul(pairs, 2), "<", rows)):
        for m in range(0, columns, lanes):
            low = load(code.mul(pairs, 2), m)
            _store(code, low, code.fill(0), target, code.add(code.mul(pairs, stride), m), upper)


def _neighbours(
    code: Code, pointer: Value, index: Integer, masks: tuple[Value, Value] | None = None
) -> tuple[Value, Value]:
    """Load two vectors, and return their even and their odd numbers."""
    lanes = code.real.lanes
    first, second = (code.load_vector(pointer, code.add(index, i * lanes), masks and masks[i]) for i in (0, 1))
    return code.shuffle(first, second, range(0, 2 * lanes, 2)), code.shuffle(first, second, range(1, 2 * lanes, 2))


def _store(code: Code, low: Value, high: Value, target: Value, index: Integer, upper: int) -> None:
    """Store the numbers of pairs, for the multiplication of `factors`."""
    if code.real.dot:
        code.store_vector(pair(code, low, high), target, index)
        return
    code.store_vector(rounded(code, low), target, index)
    code.store_vector(rounded(code, high), target, code.add(index, upper))


def _bits(code: Code, value: Value) -> Value:
    """Round to bfloat16; the upper half of each word has the result."""
    b = code.b
    bits = b.bitcast(value, _words(value))
    is_odd = b.and_(b.lshr(bits, _constant(value, 16)), _constant(value, 1))
    to_nearest = b.add(b.add(bits, _constant(value, 0x7FFF)), is_odd)
    # Of NaN, all that is set may be in the lower half.
    quiet = b.or_(bits, _constant(value, 0x400000))
    return b.and_(b.select(b.fcmp_unordered("uno", value, value), quiet, to_nearest), _constant(value, UPPER))


def _half(code: Code, words: Value, half: int) -> Value:
    """Return the numbers in a half of each word: 0 is the lower one."""
    b, bits = code.b, code.b.bitcast(words, _words(words))
    bits = b.and_(bits, _constant(words, UPPER)) if half else b.shl(bits, _constant(words, 16))
    return b.bitcast(bits, words.type)


def _dot(code: Code, a: Value, b: Value, total: Value) -> Value:
    kind = ir.VectorType(_BFloat(), 2 * code.real.lanes)
    function = ir.FunctionType(code.real.vector, [code.real.vector, kind, kind])
    dot = code.declare_function("llvm.x86.avx512bf16.dpbf16ps.512", function)
    return code.b.call(dot, [total, code.b.bitcast(a, kind), code.b.bitcast(b, kind)])


def _words(value: Value) -> Any:
    return ir.VectorType(INT32, value.type.count) if isinstance(value.type, ir.VectorType) else INT32


def _constant(value: Value, number: int) -> Value:
    """Return a word, or a vector of as many words as a value has numbers."""
    kind = _words(value)
    return ir.Constant(kind, [number] * value.type.count if kind is not INT32 else number)
