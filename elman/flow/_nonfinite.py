"""Finds where numbers become NaN or infinite: layer, step, sequence and operation."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from elman.engine.torch_private import TorchDispatchMode, tree_leaves
from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay

Where = Literal["parameter", "input", "state", "forward", "loss", "backward", "weights"]


class NonFinite(NamedTuple):
    """The first value that is infinite or no number (NaN).

    where: before any step, in a `parameter`; in the `input` of a layer; in the `state` that it begins with; in the step
        `forward`; in the gradient that the `loss` has sent back; in the step `backward`; or in the gradient of the
        `weights`, where all others are finite: in a step's contribution to it, or in their sum.
    name: of the state or parameter, or, of an input, of the first state of the cell that reads it.
    step: of the input; of a sum, the step at which it stops being finite, added up from the last one back; None before
        the first.
    row: which sequence of the batch; None for what is of all.
    operation: of the step, whose operands were finite; "" where none is to blame.
    cell: the name of its first state.
    """

    where: Where
    name: str
    step: int | None = None
    row: int | None = None
    operation: str = ""
    cell: str = ""

    def __str__(self) -> str:
        what = {
            "parameter": f"{self.name} is not finite, before any step",
            "input": f"what the cell of {self.name} reads is not finite",
            "state": f"{self.name} was not finite when it came in, before the first step",
            "forward": f"{self.name} is not finite",
            "loss": f"the gradient that reaches {self.name} from the loss is not finite",
            "backward": f"the gradient of {self.name} is not finite",
            "weights": f"the gradient of {self.name}, added up from the last step back, is not finite",
        }[self.where]
        at = "" if self.step is None else f" at step {self.step}"
        of = "" if self.row is None else f" of sequence {self.row}"
        by = f", made by {self.operation}" if self.operation else ""
        return f"{what}{at}{of}{by}"


def first_non_finite(calls: Sequence[RecordedCall]) -> NonFinite | None:
    """The first in the order of computation: forward layer by layer and step by step, then backward.

    Args:
        calls: in the order in which they were made.
    """
    for call in calls:
        for replay, t, _ in sorted(call.steps(), key=lambda step: step[2]):
            if (found := _forward(call, replay, t)) is not None:
                return found
    for call in reversed(calls):
        for replay, t, _ in _back(call):
            if (found := _backward(call, replay, t)) is not None:
                return found
        if _open(call) and (found := _weights(call)) is not None:
            return found
    return None


def _back(call: RecordedCall) -> list[tuple[Replay, int, int]]:
    """Its steps, the last first."""
    return sorted(call.steps(), key=lambda step: -step[2])


def _forward(call: RecordedCall, replay: Replay, t: int) -> NonFinite | None:
    cell = call.names[0]
    if (row := _row(replay.x[t])) is not None:
        return NonFinite("input", cell, *call.place(replay, t, row), cell=cell)
    for name, value in zip(call.names, replay.before[t] if t == 0 else (), strict=False):
        if (row := _row(value)) is not None:
            return NonFinite("state", name, row=call.place(replay, t, row)[1], cell=cell)
    step = replay.made(t)
    for i, value in enumerate((*step.states, *step.outputs)):
        if (row := _row(value)) is not None:
            # Alone it may be meant: a bias of minus infinity shuts a gate.
            if (parameter := next((of for of, v in replay.parameters.items() if not _finite(v)), None)) is not None:
                return NonFinite("parameter", call.parameter(parameter), cell=cell)
            name = call.names[i] if i < len(call.names) else f"the output beside {cell}"
            with torch.no_grad(), _Blame() as blame:
                replay.step(t, replay.x[t], replay.before[t], replay.parameters)
            return NonFinite("forward", name, *call.place(replay, t, row), blame.found, cell)
    return None


def _backward(call: RecordedCall, replay: Replay, t: int) -> NonFinite | None:
    from_loss = [d[t] for d in replay.d_outputs if d is not None] + [d for d in replay.d_finals(t) if d is not None]
    for values in from_loss:
        if (row := _row(values)) is not None:
            return NonFinite("loss", call.names[0], *call.place(replay, t, row), cell=call.names[0])
    for i, d in enumerate(replay.d_states):
        if (row := _row(d[t])) is not None:
            operation = ""
            if t + 1 < replay.T:
                with _Blame() as blame:
                    later = [d[t + 1].unsqueeze(0) for d in replay.d_states]
                    own = [None if d is None else d.unsqueeze(0) for d in replay.own_d_outputs(t + 1)]
                    replay.back(t + 1, later, own)
                operation = blame.found
            return NonFinite("backward", call.names[i], *call.place(replay, t, row), operation, call.names[0])
    return None


def _open(call: RecordedCall) -> bool:
    """Whether the gradients of the layer's parameters may have something that is not finite: if it is seen, or if there
    are none any more.
    """
    gradients = [p.grad for p in call.label.layer.parameters() if p.grad is not None]
    return not gradients or not _finite(gradients)


def _weights(call: RecordedCall) -> NonFinite | None:
    totals: dict[str, Tensor] = {}
    for replay, t, _ in _back(call):
        d_states, d_outputs = [d[t] for d in replay.d_states], replay.own_d_outputs(t)
        for name, value in replay.of_parameters(t, d_states, d_outputs).items():
            totals[name] = totals[name] + value if name in totals else value
            if not _finite(totals[name]):
                with _Blame() as blame:
                    replay.of_parameters(t, d_states, d_outputs)
                step, _ = call.place(replay, t, 0)
                return NonFinite("weights", call.parameter(name), step, None, blame.found, call.names[0])
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
