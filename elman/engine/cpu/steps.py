"""Copies sequences to memory with other strides: in reverse order, or beside those of another direction."""

import ctypes
from collections.abc import Callable
from typing import Any

from elman.engine.cpu.ir_builder import Real, Value
from elman.engine.cpu.signatures import SIGNATURES, public


def copy_steps(module: Any, real: Real) -> None:
    """Copy (steps, rows, width) from one memory to another, or add it; strides are in numbers and may be negative."""
    code = public(module, "copy_steps", real)
    lanes, width = real.lanes, code["width"]
    whole = code.mul(code.div(width, lanes), lanes)
    adds = code.compare(code["add"], "!=", 0)

    def copy(source: Value, target: Value, n: Value, mask: Value) -> None:
        values = code.load_vector(source, n, mask)
        with code.b.if_else(adds) as (adding, copying):
            with adding:
                code.store_vector(code.b.fadd(code.load_vector(target, n, mask), values), target, n, mask)
            with copying:
                code.store_vector(values, target, n, mask)

    with code.loop(0, code["steps"]) as t, code.loop(0, code["rows"]) as row:
        source = code.at(code["source"], code.add(code.mul(t, code["source_step"]), code.mul(row, code["source_row"])))
        target = code.at(code["target"], code.add(code.mul(t, code["target_step"]), code.mul(row, code["target_row"])))
        with code.loop(0, whole, lanes) as n:
            copy(source, target, n, None)
        with code.b.if_then(code.compare(whole, "<", width)):
            copy(source, target, whole, code.lanes_below(code.sub(width, whole)))
    code.end()


def callable_copy(address: int) -> Callable[..., None]:
    """Return the compiled `copy_steps` as a Python callable of its arguments."""
    kinds = [ctypes.c_void_p if argument.startswith("*") else ctypes.c_int64 for argument in SIGNATURES["copy_steps"]]
    return ctypes.CFUNCTYPE(None, *kinds)(address)
