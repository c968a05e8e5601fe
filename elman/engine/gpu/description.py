"""Describes how the triton executor computes a cell, for `elman.describe`."""

from collections.abc import Iterator

from elman.engine.compiled.description import describe_plan, row_bytes
from elman.engine.compiled.entry import dtype_of, plan_result
from elman.engine.compiled.plan_cache import compiled_plan
from elman.engine.gpu.backend import TRITON
from elman.engine.gpu.triton_plan import TritonPlan
from elman.engine.inputs import CellSpec

FORMS = {
    "whole": "one program walks through all steps for 16 sequences",
    "step": "a launch for each pass of each step, replayed as a CUDA graph",
}


def describe(spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
    """Yield lines on the stages of the plan, what is saved, the kernels and, for a shape (T, B), the memory saved."""
    dtype = dtype_of(spec.parameters.values())
    compiled = compiled_plan(plan_result(spec, TRITON).key, dtype)
    assert isinstance(compiled, TritonPlan)
    plan = compiled.plan
    yield from describe_plan(plan, dtype)
    for name, program in (("forward", plan.forward), ("backward", plan.backward)):
        yield f"  {name}: {FORMS[compiled.form(program)]}"
    yield f"  kernels: {compiled.path}"
    if shape:
        T, B = shape
        yield f"  for T = {T}, B = {B}: saved in total {T * B * row_bytes(plan, dtype) / 1e6:,.1f} MB"
