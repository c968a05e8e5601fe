"""Whether the steps of a cell can run again and give the same."""

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from elman.bptt._random import drawing_from, stand
from elman.through_time import State, each, loop
from elman.through_time.effects import without_effects
from elman.through_time.frozen import options_of
from elman.through_time.refused import CannotCapture

_found: "weakref.WeakKeyDictionary[nn.Module, dict[Any, str]]" = weakref.WeakKeyDictionary()


def check_repeatable(
    cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None
) -> None:
    """Whether steps can run again.

    Found by running the first step twice, again whenever an attribute of the cell says another thing; what that does is
    undone.

    Raises:
        RuntimeError: if they cannot, with what stands in the way.
    """
    found = _found.setdefault(cell, {})
    options = options_of(cell)
    if options not in found:
        found[options] = _tried(cell, parameters, x, state, sizes)
    if reason := found[options]:
        name = cell._get_name()
        raise RuntimeError(f"{name}: bptt: expected Full, for the steps of {name} cannot run again: {reason}")


def _tried(cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State, sizes: Tensor | None) -> str:
    buffers = {name: parameters[name].clone() for name, _ in cell.named_buffers() if name in parameters}
    before = [(module, dict(module._buffers)) for module in cell.modules()]
    runs: list[tuple[Tensor, ...]] = []
    x, sizes = (x[:1], None) if sizes is None else (x[: int(sizes[0])], sizes[:1])
    try:
        with torch.no_grad(), without_effects(cell, buffers.values(), logs=True):
            for _ in range(2):
                with drawing_from(stand(x.device), x.device):
                    output, new = loop.run(cell, {**parameters, **buffers}, x, state, sizes)
                runs.append((*(output.values() if isinstance(output, dict) else (output,)), *each(new)))
    except CannotCapture as reason:
        return str(reason)
    finally:
        anew = [name for module, own in before for name in own if module._buffers[name] is not own[name]]
        for module, own in before:
            module._buffers.update(own)
    written = [name for name, value in buffers.items() if value._version]
    if anew + written:
        return f"a buffer, {(anew + written)[0]!r}, which the step changes"
    same = all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(*runs, strict=True))
    return "" if same else "run twice, the first gives different numbers: it draws from a generator of its own, perhaps"
