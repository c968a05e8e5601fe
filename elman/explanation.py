"""How a layer is computed, in words and numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from elman.engine import EXECUTORS, as_tuple
from elman.layers import Recurrent, Stack
from elman.layers._state_structure import form_of

if TYPE_CHECKING:
    from elman.engine.plan.ir import Program
    from elman.engine.plan.planner import Plan


def explain(layer: Stack | Recurrent, input: Tensor | None = None) -> "Explanation":
    """Tell what runs before, in and after the loop over time, what is kept for the backward step, and who runs it.

    Args:
        layer: of elman.
        input: as the layer takes it; with it, the number of threads and the memory in all are told too. For a
            `Recurrent` whose cell has no `input_size`, it is needed.

    Returns:
        What `print` shows as text; `executor` and `reason` say what runs and why.

    Raises:
        TypeError: for what is no layer of elman, or if the width of the input is not known.

    >>> import elman
    >>> explanation = elman.explain(elman.GRU(3, 5, executor="loop"))
    >>> explanation.executor
    'loop'
    """
    if not isinstance(layer, Stack | Recurrent):
        raise TypeError(f"explain: layer: expected a layer of elman, got {type(layer).__name__}")
    cells = list(_cells(layer, input))
    asked = layer.executor
    if asked == "loop" or "native" not in EXECUTORS:
        why = "asked for by name" if asked == "loop" else "the native executor is switched off"
        return Explanation("loop", why, (f"{type(layer).__name__}: executor loop, {why}", *_of_loop()))
    from elman.engine.cpu.entry import why_not

    reasons = [why_not(cell, values, width, sizes) for cell, values, width, sizes in cells]
    reason = next((reason for reason in reasons if reason), "")
    if reason:
        return Explanation("loop", reason, (f"{type(layer).__name__}: executor loop, because {reason}", *_of_loop()))
    why = "asked for by name" if asked == "native" else "all that the cell does is in the table of operations"
    lines = [f"{type(layer).__name__}: executor native, {why}"]
    size = None
    if input is not None:
        T, B = (input.shape[0], 1) if input.dim() == 2 else input.shape[:2]
        size = (B, T) if layer.batch_first and input.dim() == 3 else (T, B)
    for k, (cell, values, width, sizes) in enumerate(cells):
        lines += ["", *_of_native(f"layer {k}, " if len(cells) > 1 else "", cell, values, width, sizes, size)]
    return Explanation("native", why, tuple(lines))


@dataclass(frozen=True)
class Explanation:
    """What `explain` found."""

    executor: str
    reason: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


Sizes = int | tuple[int, ...]  # of a state, or of each state
Cell = tuple[nn.Module, Mapping[str, Tensor], int, Sizes]


def _cells(layer: Stack | Recurrent, input: Tensor | None) -> Iterator[Cell]:
    """Each cell, its parameters and buffers, the width of its input and of its states."""
    if isinstance(layer, Stack):
        for k, cell in enumerate(layer._cells):
            yield (
                layer._steps[k],
                layer._values_of(layer._steps[k], k * layer._directions),
                cell.input_size,
                cell.state_size,
            )
        return
    width = getattr(layer.cell, "input_size", None) if input is None else input.shape[-1]
    size = layer.state_size
    if width is None or size is None:
        raise TypeError("explain: input: expected an example of the input, since the cell does not tell its sizes")
    form = form_of(size)
    step = layer.cell if form is None else layer._formed_cell(form)
    named = dict(step.named_parameters()) | dict(step.named_buffers())
    yield step, named, width, size if isinstance(size, int) else tuple(tree_leaves(size))


def _of_loop() -> list[str]:
    return ["  every step is run by torch, one after the other; autograd keeps what it needs of each"]


def _of_native(
    prefix: str, cell: nn.Module, values: Mapping[str, Tensor], width: int, sizes: Sizes,
    shape: tuple[int, int] | None,
) -> Iterator[str]:  # fmt: skip
    from elman.engine.cpu import invocation, kernel_cache, openmp

    shapes = tuple((name, tuple(value.shape)) for name, value in values.items())
    key = kernel_cache.plan_for(cell, shapes, width, sizes).key
    plan = kernel_cache.cached_plan(key).plan
    dtype = next((value.dtype for value in values.values() if value.is_floating_point()), torch.float32)

    kept = (
        ", ".join(f"{node.meta.get('called', node.name)}{node.meta.get('line', '')}" for node, _ in plan.kept)
        or "no values"
    )
    states = sum(w for w, sequence in zip(plan.widths, plan.sequences, strict=True) if sequence)
    row = (plan.kept_width + states) * dtype.itemsize
    to = ", ".join(map(str, as_tuple(sizes)))
    yield f"  {prefix}{cell._get_name()}, {width} -> {to}, {str(dtype).removeprefix('torch.')}"
    yield f"  before the loop, all steps at once: {_stages(plan.before)}"
    yield f"  in the loop, forward: {_stages(plan.forward)}"
    yield f"  in the loop, backward: {_stages(plan.backward)}"
    yield f"  after the loop, all steps at once: {_stages(plan.after)}; {_sums(plan)}"
    yield f"  kept for the backward step: {kept}; with the states {row:,} bytes for each step and sequence"
    if shape:
        T, B = shape
        real = kernel_cache.compiled_plan(key, dtype).real
        threads, split = invocation.threads_for(plan.forward, real, T, B, openmp.threads())
        how = "one thread" if threads == 1 else f"{threads} threads, which share "
        how += "" if threads == 1 else "the columns of each step" if split else "the sequences of the batch"
        yield f"  for T = {T}, B = {B}: {how}; kept in all {T * B * row / 1e6:,.1f} MB"


def _stages(program: "Program") -> str:
    from elman.engine.plan.ir import Product

    told = []
    for stage in program.stages:
        if isinstance(stage, Product):
            matrix = f"{stage.weight.name}{'^T' if stage.transposed else ''}"
            told.append(f"product with {matrix} ({stage.depth} -> {stage.width}){', added up' * stage.add}")
        else:
            count = len(stage.stores)
            size = f"{stage.heads} x {stage.width}" if stage.heads > 1 else f"{stage.width}"
            told.append(f"{count} value{'s' * (count > 1)} of width {size} in one pass")
    return "; ".join(told) or "nothing"


def _sums(plan: "Plan") -> str:
    told = [f"{r.size} x {r.x_size}" if r.x else f"{r.size}" for r in plan.reductions]
    return f"sums over all rows for the parameters ({', '.join(told)})" if told else "no parameters"
