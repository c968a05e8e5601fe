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
    """Run `cell` over x (T, B, D), as `elman.engine.run` says.

    Args:
        cell: as in `elman.engine.run`.
        parameters: as in `elman.engine.run`; or None, for the cell's own.
        x: as in `elman.engine.run`.
        state: as in `elman.engine.run`.
        lengths: how many steps of each sequence are real, (B,). Behind them, states stay as they are and outputs are
            zero.
    """
    outputs: list[Output] = []
    for t, x_t in enumerate(x.unbind(0)):
        # A cell called with its own values may put others in the place of its buffers.
        result = cell(x_t, state) if parameters is None else functional_call(cell, dict(parameters), (x_t, state))
        output, new = split_output(cell, result, state)
        if lengths is not None:
            real = t < lengths
            kept = [torch.where(_beside(real, n), n, o) for n, o in zip(as_tuple(new), as_tuple(state), strict=True)]
            new = kept[0] if isinstance(new, Tensor) else tuple(kept)
            output = _zeros_but(real, output)
        outputs.append(output)
        state = new
    return stack_outputs(outputs), state


def _zeros_but(real: Tensor, output: Output) -> Output:
    if isinstance(output, dict):
        return {name: torch.where(_beside(real, value), value, 0) for name, value in output.items()}
    return torch.where(_beside(real, output), output, 0)


def _beside(real: Tensor, value: Tensor) -> Tensor:
    """What is said of each row (B,), for values (B, ...)."""
    return real.view(-1, *[1] * (value.dim() - 1))
