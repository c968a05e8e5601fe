"""Checks that running a step again gives the same result."""

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.bptt._outside_tensors import ReadMonitor, read_by_both
from elman.engine import Inputs, as_tuple, eager
from elman.engine.module_state import fingerprint
from elman.engine.observe.events import labeled
from elman.engine.outputs import output_tensors
from elman.engine.rng_state import get_rng_state, rng_state
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.side_effects import without_effects

MAX_CACHED = 64  # answers for one cell


class Repeatability(NamedTuple):
    """What running a step twice has shown.

    Attributes:
        reason: why steps cannot run again; "" if they can.
        outside: the tensors that the step reads and that are not passed to it.
    """

    reason: str
    outside: tuple[Tensor, ...] = ()


#: of each cell and fingerprint, the reason and whether the step reads outside tensors
_cache: "weakref.WeakKeyDictionary[nn.Module, dict[Any, tuple[str, bool]]]" = weakref.WeakKeyDictionary()


def check_repeatable(cell: nn.Module, result: Repeatability) -> None:
    """Check that the steps of a cell can run again.

    Raises:
        RuntimeError: if they cannot, with the reason.
    """
    if result.reason:
        name = cell._get_name()
        raise RuntimeError(
            f"{name}: bptt: expected Full, since the steps of {name} cannot be recomputed: {result.reason}"
        )


def repeatability(inputs: Inputs) -> Repeatability:
    """Find out whether steps can run again, and which outside tensors they read that require a gradient.

    The first step runs twice, and its side effects are undone. This is repeated whenever something that the step reads
    has changed, and in every call of a cell that reads outside tensors.
    """
    cache = _cache.setdefault(inputs.cell, {})
    options = fingerprint(inputs.cell)
    reason, reads_outside = cache.get(options, ("", True))
    if not reads_outside:
        return Repeatability(reason)
    result = _run_twice(inputs)
    if len(cache) >= MAX_CACHED:
        cache.clear()
    cache[options] = result.reason, bool(result.outside)
    return result._replace(outside=tuple(tensor for tensor in result.outside if tensor.requires_grad))


def _run_twice(inputs: Inputs) -> Repeatability:
    cell, parameters = inputs.cell, inputs.parameters
    buffers = {name: parameters[name].clone() for name, _ in cell.named_buffers() if name in parameters}
    buffers_before = [(module, dict(module._buffers)) for module in cell.modules()]
    step = inputs.first(1)._replace(parameters={**parameters, **buffers})
    runs, monitors = list[tuple[Tensor, ...]](), (ReadMonitor(), ReadMonitor())
    try:
        with torch.no_grad(), without_effects(cell, buffers.values(), logs=True):
            for monitor in monitors:
                with rng_state(get_rng_state(step.x.device), step.x.device), labeled(None), monitor:
                    output, new = eager.run(step)
                runs.append((*output_tensors(output), *as_tuple(new)))
    except CannotCapture as reason:
        return Repeatability(str(reason))
    finally:
        replaced = [name for module, own in buffers_before for name in own if module._buffers[name] is not own[name]]
        for module, own in buffers_before:
            module._buffers.update(own)
    written = [name for name, value in buffers.items() if value._version]
    if changed := replaced + written:
        return Repeatability(f"a buffer, {changed[0]!r}, which the step changes")
    if not all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(*runs, strict=True)):
        return Repeatability(
            "the first step gives different results when it runs twice; it may use its own random number generator"
        )
    return Repeatability("", read_by_both(*monitors, (*inputs.tensors, *step.tensors)))
