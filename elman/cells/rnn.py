"""The Elman network's cell."""

import torch
from torch import Tensor

from elman.cells._cell import GatedCell


class RNN(GatedCell):
    """h_t = g(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), with g = tanh or relu.

    Elman, "Finding Structure in Time", Cognitive Science 14 (1990). The founding articles write U for W_ih, W for
    W_hh and b for b_ih + b_hh.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: without it there is no b_ih and no b_hh.
        nonlinearity: g, "tanh" or "relu".
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: for another nonlinearity.

    >>> h = RNN(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    """

    gates = "a"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """As torch.nn.RNNCell prints itself."""
        other = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + other

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step: x (B, D) and h (B, H) to the next h (B, H)."""
        g = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        return g(self.from_input(x) + self.from_state(h))
