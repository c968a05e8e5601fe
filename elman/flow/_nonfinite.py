"""Finds where numbers become NaN or infinite: layer, step, sequence and operation."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from elman.engine.torch_private import DispatchMode, tree_leaves
from elman.flow._recorded_call import RecordedCall
from elman.flow._replay import Replay

Where = Literal["parameter", "input", "state", "forward", "loss", "backward", "weights"]


class NonFinite(NamedTuple):
    """The first value that is NaN or infinite.

    Attributes:
        where: in a `parameter`, before any step; in the `input` of a layer; in the initial `state`; in a step
            `forward`; in the gradient that the `loss` sends back; in a step `backward`; or in the gradient of the
            `weights` while all others are finite: in the contribution of one step, or in the sum over steps.
        name: the state or parameter; for an input, the first state of the cell that reads it.
        step: the step of the input; for a sum, which is added up from the last step back, the step at which it stops
            being finite; None before the first step.
        row: the sequence of the batch; None for values that do not belong to one sequence.
        operation: the operation of the step that computed it from finite operands; "" if there is none.
        cell: the name of the first state of the cell.

    >>> import elman
    >>> layer, x = elman.RNN(3, 5), torch.randn(7, 2, 3)
    >>> x[4, 1] = torch.inf
    >>> with elman.flow.record(layer) as flow:
    ...     layer(x)[0].sum().backward()
    >>> print(flow.first_non_finite)
    the input of the cell of h_l0 is not finite at step 4 of sequence 1
    """

    where: Where
    name: str
    step: int | None = None
    row: int | None = None
    operation: str = ""
    cell: str = ""

    def __str__(self) -> str:
        what = {
            "parameter": f"the parameter {self.name} is not finite",
            "input": f"the input of the cell of {self.name} is not finite",
            "state": f"{self.name} is not finite in the initial state",
            "forward": f"{self.name} is not finite",
            "loss": f"the gradient that reaches {self.name} from the loss is not finite",
            "backward": f"the gradient of {self.name} is not finite",
            "weights": f"the gradient of {self.name}, summed from the last step back, is not finite",
        }[self.where]
        at = "" if self.step is None else f" at step {self.step}"
        of = "" if self.row is None else f" of sequence {self.row}"
        by = f", produced by {self.operation}" if self.operation else ""
        return f"{what}{at}{of}{by}"


def find_first_non_finite(calls: Sequence[RecordedCall]) -> NonFinite | None:
    """Return the first in the order of computation: forward layer by layer and step by step, then backward.

    Args:
        calls: in the order in which they ran.
    """
    for call in calls:
        for replay, t, _ in sorted(call.steps(), key=lambda step: step[2]):
            if (bad := _check_forward(call, replay, t)) is not None:
                return bad
    for call in reversed(calls):
        for replay, t, _ in _reversed_steps(call):
            if (bad := _check_backward(call, replay, t)) is not None:
                return bad
        if _may_have_bad_gradients(call) and (bad := _check_weight_gradients(call)) is not None:
            return bad
    return None


def _reversed_steps(call: RecordedCall) -> list[tuple[Replay, int, int]]:
    return sorted(call.steps(), key=lambda step: -step[2])


def _check_forward(call: RecordedCall, replay: Replay, t: int) -> NonFinite | None:
    cell = call.names[0]
    if (row := _first_bad_row(replay.x[t])) is not None:
        return NonFinite("input", cell, *call.locate(replay, t, row), cell=cell)
    for name, value in zip(call.names, replay.states_before[t] if t == 0 else (), strict=False):
        if (row := _first_bad_row(value)) is not None:
            return NonFinite("state", name, row=call.locate(replay, t, row)[1], cell=cell)
    result = replay.result(t)
    for i, value in enumerate((*result.states, *result.outputs)):
        if (row := _first_bad_row(value)) is not None:
            # Parameters are reported only now, since they may be infinite on purpose: a bias of -inf closes a gate.
            parameter = next((name for name, value in replay.parameters.items() if not _is_finite(value)), None)
            if parameter is not None:
                return NonFinite("parameter", call.parameter_name(parameter), cell=cell)
            name = call.names[i] if i < len(call.names) else f"the output of the cell of {cell}"
            with torch.no_grad(), _CulpritFinder() as culprit:
                replay.step(t, replay.x[t], replay.states_before[t], replay.parameters)
            return NonFinite("forward", name, *call.locate(replay, t, row), culprit.operation, cell)
    return None


def _check_backward(call: RecordedCall, replay: Replay, t: int) -> NonFinite | None:
    from_loss = [d[t] for d in replay.d_outputs if d is not None] + [d for d in replay.d_finals(t) if d is not None]
    for values in from_loss:
        if (row := _first_bad_row(values)) is not None:
            return NonFinite("loss", call.names[0], *call.locate(replay, t, row), cell=call.names[0])
    for i, d in enumerate(replay.d_states):
        if (row := _first_bad_row(d[t])) is not None:
            operation = ""
            if t + 1 < replay.T:
                with _CulpritFinder() as culprit:
                    d_states = [d[t + 1].unsqueeze(0) for d in replay.d_states]
                    d_outputs = [None if d is None else d.unsqueeze(0) for d in replay.own_d_outputs(t + 1)]
                    replay.backward(t + 1, d_states, d_outputs)
                operation = culprit.operation
            return NonFinite("backward", call.names[i], *call.locate(replay, t, row), operation, call.names[0])
    return None


def _may_have_bad_gradients(call: RecordedCall) -> bool:
    """Return whether gradients of the layer's parameters are not finite, or unknown because they were cleared."""
    gradients = [p.grad for p in call.label.layer.parameters() if p.grad is not None]
    return not gradients or not _is_finite(gradients)


def _check_weight_gradients(call: RecordedCall) -> NonFinite | None:
    totals: dict[str, Tensor] = {}
    for replay, t, _ in _reversed_steps(call):
        d_states, d_outputs = [d[t] for d in replay.d_states], replay.own_d_outputs(t)
        for name, gradient in replay.parameter_gradients(t, d_states, d_outputs).items():
            totals[name] = totals[name] + gradient if name in totals else gradient
            if not _is_finite(totals[name]):
                with _CulpritFinder() as culprit:
                    replay.parameter_gradients(t, d_states, d_outputs)
                step, _ = call.locate(replay, t, 0)
                return NonFinite("weights", call.parameter_name(name), step, None, culprit.operation, call.names[0])
    return None


def _first_bad_row(values: Tensor) -> int | None:
    if not values.is_floating_point():
        return None
    bad = ~values.flatten(1).isfinite().all(1)
    return int(bad.nonzero()[0]) if bad.any() else None


class _CulpritFinder(DispatchMode):
    """Finds the first operation that has finite operands and a result that is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.operation = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.operation and _is_finite((args, kwargs)) and not _is_finite(result):
            self.operation = str(func.overloadpacket).removeprefix("aten.")
        return result


def _is_finite(values: Any) -> bool:
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
