"""The independently recurrent neural network (IndRNN)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from typing_extensions import override

from elman.cells._cell import InputCell


class IndRNN(InputCell):
    """An RNN in which each unit depends on its own last state only: h_t = relu(W_ih x_t + b_ih + u * h_{t-1}).

    Li et al., arXiv:1803.04831. u is `weight_hh` (H), initialized from U(0, 1).

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> h = IndRNN(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "a"

    weight_hh: Tensor

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "weight_ih", (self.hidden_size, self.input_size)
        yield "weight_hh", (self.hidden_size,)
        yield "bias_ih", (self.hidden_size,)

    @override
    def init_parameter(self, name: str, value: Tensor) -> None:
        if name == "weight_hh":
            nn.init.uniform_(value)
        else:
            super().init_parameter(name, value)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        return torch.relu(self.from_input(x) + self.weight_hh * h)
