"""Checks that running a step again gives the same result."""

import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.bptt._outside_tensors import ReadMonitor, in_both
from elman.engine import Inputs, State, as_tuple, eager
from elman.engine.module_state import fingerprint
from elman.engine.observe.events import labeled
from elman.engine.rng_state import get_rng_state, rng_state
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.side_effects import without_effects

KEPT = 64  # answers for one cell


class Repeatability(NamedTuple):
    """What running a step twice has shown.

    Attributes:
        reason: why steps cannot run again, in words; or "".
        elsewhere: the tensors that the step reads and that are no part of its call.
    """

    reason: str
    elsewhere: tuple[Tensor, ...] = ()


_reasons: "weakref.WeakKeyDictionary[nn.Module, dict[Any, tuple[str, bool]]]" = weakref.WeakKeyDictionary()


def check_repeatable(cell: nn.Module, found: Repeatability) -> None:
    """Check that the steps of a cell can run again.

    Raises:
        RuntimeError: if they cannot, with what stands in the way.
    """
    if found.reason:
        name = cell._get_name()
        raise RuntimeError(f"{name}: bptt: expected Full, for the steps of {name} cannot run again: {found.reason}")


def repeatability(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> Repeatability:
    """Whether steps can run again, and which tensors from elsewhere they read that ask for a gradient.

    Found by running the first step twice, whose effects are undone: again whenever something that the step reads has
    changed, and in every call of a cell that reads tensors from elsewhere.
    """
    known = _reasons.setdefault(cell, {})
    options = fingerprint(cell)
    reason, reads = known.get(options, ("", True))
    if not reads:
        return Repeatability(reason)
    found = _tried(cell, parameters, x, state, sizes)
    if len(known) >= KEPT:
        known.clear()
    known[options] = found.reason, bool(found.elsewhere)
    return found._replace(elsewhere=tuple(tensor for tensor in found.elsewhere if tensor.requires_grad))


def _tried(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> Repeatability:
    buffers = {name: parameters[name].clone() for name, _ in cell.named_buffers() if name in parameters}
    before = [(module, dict(module._buffers)) for module in cell.modules()]
    runs, read = list[tuple[Tensor, ...]](), (ReadMonitor(), ReadMonitor())
    x, sizes = (x[:1], None) if sizes is None else (x[: int(sizes[0])], sizes[:1])
    try:
        with torch.no_grad(), without_effects(cell, buffers.values(), logs=True):
            for seen in read:
                with rng_state(get_rng_state(x.device), x.device), labeled(None), seen:
                    output, new = eager.run(Inputs(cell, {**parameters, **buffers}, x, state, sizes))
                runs.append((*(output.values() if isinstance(output, dict) else (output,)), *as_tuple(new)))
    except CannotCapture as reason:
        return Repeatability(str(reason))
    finally:
        anew = [name for module, own in before for name in own if module._buffers[name] is not own[name]]
        for module, own in before:
            module._buffers.update(own)
    written = [name for name, value in buffers.items() if value._version]
    if anew + written:
        return Repeatability(f"a buffer, {(anew + written)[0]!r}, which the step changes")
    if not all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(*runs, strict=True)):
        return Repeatability(
            "run twice, the first gives different numbers: it draws from a generator of its own, perhaps"
        )
    return Repeatability("", in_both(*read, (x, *as_tuple(state), *parameters.values(), *buffers.values())))
