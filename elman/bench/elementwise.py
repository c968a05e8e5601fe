"""Elementwise functions as the native executor computes them."""

import torch
from torch import Tensor, nn

import elman

FUNCTIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}
WIDTH = 37  # row length; not a multiple of the vector width, so that the scalar remainder is tested too


class ElementwiseCell(nn.Module):
    """A cell that ignores its state and applies an elementwise function to x.

    Args:
        name: a name in `FUNCTIONS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return the next state, which has the shape of x."""
        return FUNCTIONS[self.name](x)


def native(name: str, x: Tensor) -> Tensor:
    """Apply an elementwise function with the native executor.

    Args:
        name: a name in `FUNCTIONS`.
        x: a vector of any length.

    Returns:
        The function values, a vector of the same length.
    """
    rows = torch.cat((x, x.new_zeros(-len(x) % WIDTH))).view(1, -1, WIDTH)
    outputs: Tensor = elman.Recurrent(ElementwiseCell(name), state_size=WIDTH, executor="native")(rows)[0]
    return outputs.flatten()[: len(x)]
