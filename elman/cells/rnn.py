"""The cell of the Elman network."""

import torch
from torch import Tensor
from typing_extensions import override

from elman.cells._cell import GatedCell


class RNN(GatedCell):
    """h_t = g(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), with g = tanh or relu.

    Elman, "Finding Structure in Time", Cognitive Science 14 (1990). The original papers write U for W_ih, W for
    W_hh and b for b_ih + b_hh.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        nonlinearity: g, "tanh" or "relu".
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1, or another nonlinearity.

    >>> h = RNN(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
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

    @property
    def torch_function(self) -> str:  # type: ignore[override]
        """The name of the function in torch that computes these equations for all steps."""
        return f"rnn_{self.nonlinearity}"

    @override
    def extra_repr(self) -> str:
        suffix = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + suffix

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        g = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        return g(self.from_input(x) + self.from_state(h))
