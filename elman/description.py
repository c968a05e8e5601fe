"""Describes how a layer is computed: executor, operations before, in and after the loop over time, and memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import deprecated

from elman.engine import EXECUTORS, CellSpec, as_tuple, choose
from elman.engine.torch_private import tree_leaves
from elman.layers import Recurrent, Stack
from elman.layers._state_structure import structure_of


def describe(layer: Stack | Recurrent, input: Tensor | None = None) -> "Description":
    """Describe how a layer runs: operations before, in and after the loop over time, and tensors saved for backward.

    Args:
        layer: an elman layer.
        input: an example input, (T, B, D) or (T, D), or (B, T, D) if the layer is `batch_first`. With it, the
            description includes the number of threads and the total memory. Required for a `Recurrent` whose cell has
            no `input_size`.

    Returns:
        The description; print it to read it. Its `executor` and `reason` name the executor and why it was chosen.

    Raises:
        TypeError: if `layer` is not an elman layer, or if its input size is not known.
        ValueError: for an input of the wrong shape, dtype or device, as in a call.

    >>> import elman
    >>> description = elman.describe(elman.GRU(3, 5, executor="loop"))
    >>> description.executor
    'loop'
    """
    if not isinstance(layer, Stack | Recurrent):
        raise TypeError(f"describe: layer: expected an elman layer, got {type(layer).__name__}")
    if input is not None:
        layer._prepare(layer._weights(), input, None, None)
    specs = list(_specs(layer, input))
    executor, reason = choose(layer.executor, specs)
    is_refused = layer.executor != "auto" and bool(reason)
    if is_refused:
        why = f"requested by name, cannot run it: {reason}"
    elif layer.executor != "auto":
        why = "requested by name"
    elif reason:
        why = f"because {reason}"
    elif list(EXECUTORS).index(executor.name) == 0 and len(EXECUTORS) > 1:
        why = "every operation of the cell is supported"
    else:
        why = "the only executor available"
    shape = None
    if input is not None:
        T, B = (input.shape[0], 1) if input.dim() == 2 else input.shape[:2]
        shape = (B, T) if layer.batch_first and input.dim() == 3 else (T, B)
    lines = [f"{type(layer).__name__}: executor {executor.name}, {why}"]
    if executor.runs_stacks and not is_refused and isinstance(layer, Stack):
        count = layer.num_layers * layer._directions
        is_one = layer._can_run_as_one(layer.bptt)
        calls = "one call runs all" if is_one else f"{count} calls, one for each of the"
        lines += [f"  {calls} layers and directions"] * (count > 1)
    for k, spec in enumerate(specs):
        dtype = next((value.dtype for value in spec.parameters.values() if value.is_floating_point()), torch.float32)
        state_size = ", ".join(map(str, as_tuple(spec.state_size)))
        prefix = f"layer {k}, " if len(specs) > 1 else ""
        name = f"{prefix}{spec.cell._get_name()}"
        lines += ["", f"  {name}, {spec.input_size} -> {state_size}, {str(dtype).removeprefix('torch.')}"]
        if not is_refused:
            lines += executor.describe(spec, shape)
    return Description(executor.name, reason or why, tuple(lines))


@deprecated(
    "elman.explain is deprecated and will be removed in 0.2; use elman.describe instead", category=FutureWarning
)
def explain(layer: Stack | Recurrent, input: Tensor | None = None) -> "Description":
    """Return `describe(layer, input)`: the name of `elman.describe` in earlier releases."""
    return describe(layer, input)


@dataclass(frozen=True)
class Description:
    """Description of how a layer runs; `str` returns the lines as text.

    Attributes:
        executor: name of the executor.
        reason: why it was chosen.
        lines: the description.
    """

    executor: str
    reason: str
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _specs(layer: Stack | Recurrent, input: Tensor | None) -> Iterator[CellSpec]:
    """Yield the cell, its parameters and buffers, its input size and its state size for every layer of a stack."""
    if isinstance(layer, Stack):
        for k, cell in enumerate(layer._cells):
            values = layer._parameters_of(layer._weights(), layer._steps[k], k * layer._directions)
            yield CellSpec(layer._steps[k], values, cell.input_size, cell.state_size)
        return
    input_size = getattr(layer.cell, "input_size", None) if input is None else input.shape[-1]
    state_size = layer.state_size
    if input_size is None or state_size is None:
        raise TypeError(
            "describe: input: expected an example input, because the cell does not define input_size and state_size; "
            "pass one, as in elman.describe(layer, x)"
        )
    structure = structure_of(state_size)
    step = layer.cell if structure is None else layer._structured_cell(structure)
    parameters = dict(step.named_parameters()) | dict(step.named_buffers())
    flat_size = state_size if isinstance(state_size, int) else tuple(tree_leaves(state_size))
    yield CellSpec(step, parameters, input_size, flat_size)
