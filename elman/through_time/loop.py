"""The executor that is read rather than fast: the cell, once per step, in plain torch.

Any device and dtype, double backward, forward mode, vmap: whatever torch can do with the cell's operations.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

State = Tensor | tuple[Tensor, ...]


class _Unrolled(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs = []
        for x_t in x.unbind(0):
            state = self.cell(x_t, state)
            outputs.append(state if isinstance(state, Tensor) else state[0])
        return torch.stack(outputs), state


def run(cell: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, state: State) -> tuple[Tensor, State]:
    """Run `cell` over `x`, as `elman.through_time.run` says."""
    # One functional call around the whole loop: its bookkeeping is paid once and not at every step.
    named = {f"cell.{name}": value for name, value in parameters.items()}
    result: tuple[Tensor, State] = torch.func.functional_call(_Unrolled(cell), named, (x, state))
    return result
