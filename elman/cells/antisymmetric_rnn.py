"""The antisymmetric RNN."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, tanh
from torch.nn.functional import linear
from typing_extensions import override

from elman.cells._cell import GatedCell


class AntisymmetricRNN(GatedCell):
    """A discretized stable differential equation: its recurrent matrix neither amplifies nor damps the state.

        h_t = h_{t-1} + e * tanh((W_hh - W_hh^T - d I) h_{t-1} + W_ih x_t + b_ih)

    Chang et al., arXiv:1902.09689, equation 11.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there is no b_ih.
        step: e, the step size of the forward Euler method.
        diffusion: d, a small damping that keeps this method stable.
        **options: device and dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> h = AntisymmetricRNN(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "a"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, step: float = 0.1, diffusion: float = 0.01,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, **options)
        self.step, self.diffusion = step, diffusion

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from (pair for pair in super().shapes() if pair[0] != "bias_hh")

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        damping = self.diffusion * torch.eye(self.hidden_size, dtype=h.dtype, device=h.device)
        W = self.weight_hh - self.weight_hh.t() - damping
        return h + self.step * tanh(linear(h, W) + self.from_input(x))
