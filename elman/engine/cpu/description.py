"""Describes how the native executor computes a cell, for `elman.describe`."""

from collections.abc import Iterator

from elman.engine.compiled.description import describe_plan, row_bytes
from elman.engine.compiled.entry import dtype_of, plan_result
from elman.engine.compiled.plan_cache import cached_plan
from elman.engine.cpu import invocation, jit, openmp
from elman.engine.cpu.backend import NATIVE
from elman.engine.inputs import CellSpec


def describe(spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
    """Yield lines on the stages of the plan, what is saved for backward and, for a shape (T, B), threads and memory."""
    key, dtype = plan_result(spec, NATIVE).key, dtype_of(spec.parameters.values())
    plan, real = cached_plan(key).plan, jit.this_machine().real(str(dtype).removeprefix("torch."))
    saved_dtype = NATIVE.saved_dtype(dtype)
    yield from describe_plan(plan, saved_dtype)
    if real.rounds:
        how = "by the instruction for pairs, VDPBF16PS" if real.dot else "by multiply-adds of float32"
        yield f"  matrix products round their factors to bfloat16, and add up in float32, {how}; the rest is float32"
    if shape:
        T, B = shape
        threads, split = invocation.threads_for(plan.forward, real, T, B, openmp.threads())
        sharing = "one thread" if threads == 1 else f"{threads} threads, which share "
        sharing += "" if threads == 1 else "the columns of each step" if split else "the sequences of the batch"
        yield f"  for T = {T}, B = {B}: {sharing}; saved in total {T * B * row_bytes(plan, saved_dtype) / 1e6:,.1f} MB"
