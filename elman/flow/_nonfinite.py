"""Where numbers stop being numbers: the layer, the step, the sequence and the operation."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from elman.flow._call import Call
from elman.flow._replay import Replay

Where = Literal["input", "forward", "loss", "backward"]


class NonFinite(NamedTuple):
    """The first value that is infinite or no number (NaN).

    where: in the `input` of a layer or its initial state, in the step `forward`, in the gradient that the `loss` has
        sent back, or in the step `backward`.
    name: of the state, or, of an input, of the first state of the cell that reads it.
    step: of the input.
    row: which sequence of the batch.
    operation: of the step, whose operands were finite; "" where none is to blame.
    """

    where: Where
    name: str
    step: int
    row: int
    operation: str = ""

    def __str__(self) -> str:
        what = {
            "input": f"what the cell of {self.name} reads is not finite",
            "forward": f"{self.name} is not finite",
            "loss": f"the gradient that reaches {self.name} from the loss is not finite",
            "backward": f"the gradient of {self.name} is not finite",
        }[self.where]
        by = f", made by {self.operation}" if self.operation else ""
        return f"{what} at step {self.step} of sequence {self.row}{by}"


def first_non_finite(calls: Sequence[Call]) -> NonFinite | None:
    """The first in the order of computation: forward layer by layer and step by step, then backward.

    Args:
        calls: in the order in which they were made.
    """
    for call in calls:
        for replay, t, _ in sorted(call.steps(), key=lambda step: step[2]):
            if (found := _forward(call, replay, t)) is not None:
                return found
    for call in reversed(calls):
        for replay, t, _ in sorted(call.steps(), key=lambda step: -step[2]):
            if (found := _backward(call, replay, t)) is not None:
                return found
    return None


def _forward(call: Call, replay: Replay, t: int) -> NonFinite | None:
    given = [replay.x[t], *(replay.before[t] if t == 0 else ())]
    for values in given:
        if (row := _row(values)) is not None:
            return NonFinite("input", call.names[0], *call.place(replay, t, row))
    step = replay.made(t)
    for i, value in enumerate((*step.states, *step.outputs)):
        if (row := _row(value)) is not None:
            name = call.names[i] if i < len(call.names) else f"the output beside {call.names[0]}"
            with torch.no_grad(), _Blame() as blame:
                replay.step(t, replay.x[t], replay.before[t], replay.parameters)
            return NonFinite("forward", name, *call.place(replay, t, row), blame.found)
    return None


def _backward(call: Call, replay: Replay, t: int) -> NonFinite | None:
    from_loss = [d[t] for d in replay.d_outputs if d is not None] + [d for d in replay.d_finals(t) if d is not None]
    for values in from_loss:
        if (row := _row(values)) is not None:
            return NonFinite("loss", call.names[0], *call.place(replay, t, row))
    for i, d in enumerate(replay.d_states):
        if (row := _row(d[t])) is not None:
            operation = ""
            if t + 1 < replay.T:
                with _Blame() as blame:
                    later = [d[t + 1].unsqueeze(0) for d in replay.d_states]
                    own = [None if d is None else d.unsqueeze(0) for d in replay.own_d_outputs(t + 1)]
                    replay.back(t + 1, later, own)
                operation = blame.found
            return NonFinite("backward", call.names[i], *call.place(replay, t, row), operation)
    return None


def _row(values: Tensor) -> int | None:
    """The first row that is not finite, if there is one."""
    if not values.is_floating_point():
        return None
    bad = ~values.flatten(1).isfinite().all(1)
    return int(bad.nonzero()[0]) if bad.any() else None


class _Blame(TorchDispatchMode):
    """Finds the first operation that makes of finite operands what is not finite."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.found and _finite((args, kwargs)) and not _finite(result):
            self.found = str(func.overloadpacket).removeprefix("aten.")
        return result


def _finite(values: Any) -> bool:
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
