"""What the gated cells share: all gates' products with x and with h, each in one matrix."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class GatedCell(nn.Module):
    """A cell of G gates that sees x and h only through W_ih x + b_ih and W_hh h + b_hh.

    Parameters are named, shaped, stacked by gate and initialised as those of `torch.nn.LSTMCell` and its kin:
    `weight_ih` (G*H, D), `weight_hh` (G*H, H), `bias_ih` and `bias_hh` (G*H), uniform within 1/sqrt(H).

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: without it there is no b_ih and no b_hh.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: for a width below 1.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"input_size and hidden_size: expected at least 1, got {input_size} and {hidden_size}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        GH = self.gates * hidden_size
        self.weight_ih = parameter(GH, input_size)
        self.weight_hh = parameter(GH, hidden_size)
        self.register_parameter("bias_ih", parameter(GH) if bias else None)
        self.register_parameter("bias_hh", parameter(GH) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(H), 1/sqrt(H)), in the order torch.nn does."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def state_size(self) -> int | tuple[int, ...]:
        """The width of the state, or of each state where there are several."""
        return self.hidden_size if self.states == 1 else (self.hidden_size,) * self.states

    def from_input(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih, shape (B, G*H)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def from_state(self, h: Tensor) -> Tensor:
        """W_hh h + b_hh, shape (B, G*H)."""
        return linear(h, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        """As torch.nn.LSTMCell prints itself."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
