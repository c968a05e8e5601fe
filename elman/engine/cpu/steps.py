"""Lays out the rows of sequences, and copies rows to other places: with other strides, in reverse, sorted by length."""

import ctypes
from collections.abc import Callable
from typing import Any

from elman.engine.cpu.ir_builder import INT, POINTER, Integer, Real, Value
from elman.engine.cpu.signatures import SIGNATURES, public

SIDE = ("address", "steps", "step", "sequences", "row")
#: the words of `copy_rows` behind those of `barrier.entries`
WORDS = (
    *(f"source_{name}" for name in SIDE),
    *(f"target_{name}" for name in SIDE),
    "begins", "lengths", "first", "last", "count", "width", "reverse", "add", "fill",
)  # fmt: skip
FIRST_WORD = 3


def lay_out_rows(module: Any, real: Real) -> None:
    """Write the tables of `CallRows` for B sequences of at most T steps, sorted by counting."""
    code = public(module, "lay_out_rows", real)
    b, T, B = code.b, code["T"], code["B"]

    def get(table: str, index: Integer) -> Value:
        return b.load(code.at(code[table], index, INT), typ=INT)

    def put(value: Integer, table: str, index: Integer) -> None:
        b.store(INT(value) if isinstance(value, int) else value, code.at(code[table], index, INT))

    with code.loop(-1, code.add(T, 1)) as t:
        put(0, "begins", t)
    with code.loop(0, B) as i:  # how many sequences have each length
        length = get("lengths", i)
        put(code.add(get("begins", length), 1), "begins", length)
    put(0, "before", T)
    with code.loop(0, T) as t:  # how many are longer than each length
        length = code.sub(T, t)
        put(code.add(get("before", length), get("begins", length)), "before", code.sub(length, 1))
    put(0, "begins", 0)
    with code.loop(0, T) as t:
        put(code.add(get("begins", t), get("before", t)), "begins", code.add(t, 1))
    with code.loop(0, B) as i:
        length = get("lengths", i)
        place = get("before", length)
        put(code.add(place, 1), "before", length)
        put(i, "order", place)
        put(length, "sorted", place)
        put(code.add(code.mul(code.rem(length, 2), B), place), "halves", place)
    put(0, "before", 0)
    with code.loop(1, T) as t:
        put(code.add(B, get("begins", code.sub(t, 1))), "before", t)
    with code.loop(0, code.select(code.compare(T, "<", B), B, T)) as n:
        put(n, "numbers", n)
    code.end()


def callable_layout(address: int) -> Callable[..., None]:
    """Return the compiled `lay_out_rows` as a Python callable of its arguments."""
    kinds = [ctypes.c_void_p if name.startswith("*") else ctypes.c_int64 for name in SIGNATURES["lay_out_rows"]]
    return ctypes.CFUNCTYPE(None, *kinds)(address)


def copy_rows(module: Any, real: Real) -> None:
    """Copy the rows of steps `first` to `last` from one memory to another, or add them; threads share the steps.

    The row of sequence i at step t lies `steps[t] * step + sequences[i] * row` numbers from an address, for source and
    target each. Step t has `begins[t + 1] - begins[t]` rows, or `count` if that is not zero. With `reverse`, the source
    is read at step `lengths[i] - 1 - t`. Sequences from the number of rows of a step up to `fill` become zero in the
    target.
    """
    code = public(module, "copy_rows", real)
    b, lanes = code.b, code.real.lanes
    words = {name: b.load(code.at(code["data"], place, INT), typ=INT) for place, name in enumerate(WORDS, FIRST_WORD)}
    pointers = {name: b.inttoptr(words[name], POINTER) for name in ("source_address", "target_address")}
    width, count = words["width"], words["count"]
    whole = code.mul(code.div(width, lanes), lanes)
    adds, reverses = (code.compare(words[name], "!=", 0) for name in ("add", "reverse"))

    def entry(table: str, index: Value) -> Value:
        return b.load(code.at(b.inttoptr(words[table], POINTER), index, INT), typ=INT)

    def row_of(side: str, t: Value, i: Value) -> Value:
        step = code.mul(entry(f"{side}_steps", t), words[f"{side}_step"])
        row = code.mul(entry(f"{side}_sequences", i), words[f"{side}_row"])
        return code.at(pointers[f"{side}_address"], code.add(step, row))

    def write(source: Value, target: Value, n: Value, mask: Value) -> None:
        if source is None:
            code.store_vector(code.fill(0), target, n, mask)
            return
        values = code.load_vector(source, n, mask)
        with b.if_else(adds) as (adding, copying):
            with adding:
                code.store_vector(b.fadd(code.load_vector(target, n, mask), values), target, n, mask)
            with copying:
                code.store_vector(values, target, n, mask)

    def write_row(source: Value, target: Value) -> None:
        with code.loop(0, whole, lanes) as n:
            write(source, target, n, None)
        with b.if_then(code.compare(whole, "<", width)):
            write(source, target, whole, code.lanes_below(code.sub(width, whole)))

    with code.loop(code.add(words["first"], code["thread"]), words["last"], code["thread_count"]) as t:
        running = code.sub(entry("begins", code.add(t, 1)), entry("begins", t))
        size = code.select(code.compare(count, "!=", 0), count, running)
        with code.loop(0, size) as i:
            source_step = code.select(reverses, code.sub(code.sub(entry("lengths", i), 1), t), t)
            write_row(row_of("source", source_step, i), row_of("target", t, i))
        with code.loop(size, words["fill"]) as i:
            write_row(None, row_of("target", t, i))
    code.end()
