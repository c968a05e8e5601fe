"""The loop for torch.export and torch.onnx: plain PyTorch, any batch size, lengths as a tensor."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from elman.engine.eager import split_output
from elman.engine.outputs import Output, State, as_tuple, stack_outputs


def run(
    cell: nn.Module, parameters: Mapping[str, Tensor] | None, x: Tensor, state: State, lengths: Tensor | None = None
) -> tuple[Output, State]:
    """Run `cell` over x (T, B, D), like `elman.engine.run`.

    Args:
        cell: see `elman.engine.run`.
        parameters: see `elman.engine.run`; None for the cell's own.
        x: see `elman.engine.run`.
        state: see `elman.engine.run`.
        lengths: number of real steps of each sequence, (B,). After them, states stay constant and outputs are zero.
    """
    outputs: list[Output] = []
    for t, x_t in enumerate(x.unbind(0)):
        # Without substituted parameters call the cell itself: then it may replace its buffers by assignment.
        result = cell(x_t, state) if parameters is None else functional_call(cell, dict(parameters), (x_t, state))
        output, new = split_output(cell, result, state)
        if lengths is not None:
            active = t < lengths
            pairs = zip(as_tuple(new), as_tuple(state), strict=True)
            states = [torch.where(_align(active, after), after, before) for after, before in pairs]
            new = states[0] if isinstance(new, Tensor) else tuple(states)
            output = _zero_inactive(active, output)
        outputs.append(output)
        state = new
    return stack_outputs(outputs), state


def _zero_inactive(active: Tensor, output: Output) -> Output:
    if isinstance(output, dict):
        return {name: torch.where(_align(active, value), value, 0) for name, value in output.items()}
    return torch.where(_align(active, output), output, 0)


def _align(active: Tensor, value: Tensor) -> Tensor:
    """Reshape a mask of rows (B,) so that it broadcasts with values (B, ...)."""
    return active.view(-1, *[1] * (value.dim() - 1))
