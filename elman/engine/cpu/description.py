"""Describes how the native executor computes a cell, for `elman.describe`."""

from collections.abc import Iterator

import torch

from elman.engine.cpu import invocation, kernel_cache, openmp
from elman.engine.cpu.entry import plan_result
from elman.engine.inputs import CellSpec
from elman.engine.plan.ir import Product, Program
from elman.engine.plan.planner import Plan
from elman.engine.trace.values import line_of, name_of


def describe(spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
    """Yield lines on the stages of the plan, what is saved for backward and, for a shape (T, B), threads and memory."""
    key = plan_result(spec).key
    plan = kernel_cache.cached_plan(key).plan
    dtype = next((value.dtype for value in spec.parameters.values() if value.is_floating_point()), torch.float32)
    saved = ", ".join(f"{name_of(node)}{line_of(node)}" for node, _ in plan.saved) or "no values"
    state_width = sum(w for w, sequence in zip(plan.widths, plan.sequences, strict=True) if sequence)
    row_bytes = (plan.saved_width + state_width) * dtype.itemsize
    yield f"  before the loop, all steps at once: {_describe_stages(plan.before)}"
    yield f"  in the loop, forward: {_describe_stages(plan.forward)}"
    yield f"  in the loop, backward: {_describe_stages(plan.backward)}"
    yield f"  after the loop, all steps at once: {_describe_stages(plan.after)}; {_describe_sums(plan)}"
    yield f"  saved for backward: {saved}; with the states {row_bytes:,} bytes for each step and sequence"
    if shape:
        T, B = shape
        real = kernel_cache.compiled_plan(key, dtype).real
        threads, split = invocation.threads_for(plan.forward, real, T, B, openmp.threads())
        sharing = "one thread" if threads == 1 else f"{threads} threads, which share "
        sharing += "" if threads == 1 else "the columns of each step" if split else "the sequences of the batch"
        yield f"  for T = {T}, B = {B}: {sharing}; saved in total {T * B * row_bytes / 1e6:,.1f} MB"


def _describe_stages(program: Program) -> str:
    descriptions = []
    for stage in program.stages:
        if isinstance(stage, Product):
            matrix = f"{stage.weight.name}{'^T' if stage.transposed else ''}"
            descriptions.append(f"product with {matrix} ({stage.depth} -> {stage.width}){', added up' * stage.add}")
        else:
            count = len(stage.stores)
            size = f"{stage.heads} x {stage.width}" if stage.heads > 1 else f"{stage.width}"
            descriptions.append(f"{count} value{'s' * (count > 1)} of width {size} in one pass")
    return "; ".join(descriptions) or "nothing"


def _describe_sums(plan: Plan) -> str:
    descriptions = [f"{r.size} x {r.x_size}" if r.x else f"{r.size}" for r in plan.reductions]
    return f"sums over all rows for the parameters ({', '.join(descriptions)})" if descriptions else "no parameters"
