"""Describes a plan: what runs before, in and after the loop, and what is saved for backward."""

from collections.abc import Iterator

import torch

from elman.engine.plan.ir import Product, Program
from elman.engine.plan.planner import Plan
from elman.engine.trace.values import line_of, name_of


def describe_plan(plan: Plan, dtype: torch.dtype) -> Iterator[str]:
    """Yield lines on the stages of a plan, and on what is saved for backward."""
    saved = ", ".join(f"{name_of(node)}{line_of(node)}" for node, _ in plan.saved) or "no values"
    size = row_bytes(plan, dtype)
    yield f"  before the loop, all steps at once: {_describe_stages(plan.before)}"
    yield f"  in the loop, forward: {_describe_stages(plan.forward)}"
    yield f"  in the loop, backward: {_describe_stages(plan.backward)}"
    yield f"  after the loop, all steps at once: {_describe_stages(plan.after)}; {_describe_sums(plan)}"
    yield f"  saved for backward: {saved}; with the states {size:,} bytes for each step and sequence"


def row_bytes(plan: Plan, dtype: torch.dtype) -> int:
    """Return how many bytes are saved for backward for each step and sequence."""
    state_width = sum(w for w, sequence in zip(plan.widths, plan.sequences, strict=True) if sequence)
    return (plan.saved_width + state_width) * dtype.itemsize


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
