"""How a layer is computed, in words and numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from elman.engine import EXECUTORS, CellSpec, as_tuple, choose
from elman.engine.torch_private import tree_leaves
from elman.layers import Recurrent, Stack
from elman.layers._state_structure import structure_of

if TYPE_CHECKING:
    pass


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
    specs = list(_specs(layer, input))
    executor, reason = choose(layer.executor, specs)
    if layer.executor != "auto":
        why = "asked for by name"
    elif reason:
        why = f"because {reason}"
    elif list(EXECUTORS).index(executor.name) == 0 and len(EXECUTORS) > 1:
        why = "all that the cell does is in the table of operations"
    else:
        why = "the only one that is available"
    shape = None
    if input is not None:
        T, B = (input.shape[0], 1) if input.dim() == 2 else input.shape[:2]
        shape = (B, T) if layer.batch_first and input.dim() == 3 else (T, B)
    lines = [f"{type(layer).__name__}: executor {executor.name}, {why}"]
    for k, spec in enumerate(specs):
        dtype = next((value.dtype for value in spec.parameters.values() if value.is_floating_point()), torch.float32)
        to = ", ".join(map(str, as_tuple(spec.state_size)))
        prefix = f"layer {k}, " if len(specs) > 1 else ""
        name = f"{prefix}{spec.cell._get_name()}"
        lines += ["", f"  {name}, {spec.input_size} -> {to}, {str(dtype).removeprefix('torch.')}"]
        if not (layer.executor != "auto" and reason):
            lines += executor.describe(spec, shape)
    return Explanation(executor.name, reason or why, tuple(lines))


@dataclass(frozen=True)
class Explanation:
    """What `explain` found."""

    executor: str
    reason: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _specs(layer: Stack | Recurrent, input: Tensor | None) -> Iterator[CellSpec]:
    """Each cell, its parameters and buffers, the width of its input and of its states."""
    if isinstance(layer, Stack):
        for k, cell in enumerate(layer._cells):
            values = layer._values_of(layer._steps[k], k * layer._directions)
            yield CellSpec(layer._steps[k], values, cell.input_size, cell.state_size)
        return
    width = getattr(layer.cell, "input_size", None) if input is None else input.shape[-1]
    size = layer.state_size
    if width is None or size is None:
        raise TypeError("explain: input: expected an example of the input, since the cell does not tell its sizes")
    form = structure_of(size)
    step = layer.cell if form is None else layer._formed_cell(form)
    named = dict(step.named_parameters()) | dict(step.named_buffers())
    yield CellSpec(step, named, width, size if isinstance(size, int) else tuple(tree_leaves(size)))
