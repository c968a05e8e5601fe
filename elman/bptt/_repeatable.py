"""Whether the steps of a cell can run again and give the same."""

import weakref
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from elman.bptt._random import drawing_from, stand
from elman.through_time import State, loop
from elman.through_time.effects import without_effects
from elman.through_time.refused import CannotCapture

_found: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[bool, ...], str]]" = weakref.WeakKeyDictionary()


def check_repeatable(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> None:
    """Whether steps can run again.

    Found by running the first step, once for each cell in training and in evaluation; what that does is undone.

    Raises:
        RuntimeError: if they cannot, with what stands in the way.
    """
    found = _found.setdefault(cell, {})
    training = tuple(module.training for module in cell.modules())
    if training not in found:
        found[training] = _tried(cell, parameters, x, state, sizes)
    if reason := found[training]:
        name = cell._get_name()
        raise RuntimeError(f"{name}: bptt: expected Full, for the steps of {name} cannot run again: {reason}")


def _tried(cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None) -> str:
    buffers = {name: parameters[name].clone() for name, _ in cell.named_buffers() if name in parameters}
    before = [(module, dict(module._buffers)) for module in cell.modules()]
    x, sizes = (x[:1], None) if sizes is None else (x[: int(sizes[0])], sizes[:1])
    try:
        with torch.no_grad(), drawing_from(stand(x.device), x.device), without_effects(cell):
            loop.run(cell, {**parameters, **buffers}, x, state, sizes)
    except CannotCapture as reason:
        return str(reason)
    finally:
        anew = [name for module, own in before for name in own if module._buffers[name] is not own[name]]
        for module, own in before:
            module._buffers.update(own)
    written = [name for name, value in buffers.items() if value._version]
    return f"a buffer, {(anew + written)[0]!r}, which the step changes" if anew + written else ""
