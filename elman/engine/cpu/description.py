"""Describes how the native executor computes a cell, for `elman.describe`."""

from collections.abc import Iterator

from elman.engine.compiled.description import describe_plan, row_bytes
from elman.engine.compiled.entry import dtype_of, plan_result
from elman.engine.compiled.plan_cache import cached_plan
from elman.engine.cpu import invocation, openmp
from elman.engine.cpu.backend import NATIVE, compiled_for
from elman.engine.inputs import CellSpec


def describe(spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
    """Yield lines on the stages of the plan, what is saved for backward and, for a shape (T, B), threads and memory."""
    key, dtype = plan_result(spec, NATIVE).key, dtype_of(spec.parameters.values())
    plan = cached_plan(key).plan
    yield from describe_plan(plan, dtype)
    if shape:
        T, B = shape
        real = compiled_for(key, dtype).real
        threads, split = invocation.threads_for(plan.forward, real, T, B, openmp.threads())
        sharing = "one thread" if threads == 1 else f"{threads} threads, which share "
        sharing += "" if threads == 1 else "the columns of each step" if split else "the sequences of the batch"
        yield f"  for T = {T}, B = {B}: {sharing}; saved in total {T * B * row_bytes(plan, dtype) / 1e6:,.1f} MB"
