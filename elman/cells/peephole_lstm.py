"""The LSTM with peepholes."""

from collections.abc import Iterator

from torch import Tensor, sigmoid, tanh
from typing_extensions import override

from elman.cells._cell import GatedCell
from elman.engine import named


class PeepholeLSTM(GatedCell):
    """An LSTM whose gates also depend on the cell state c.

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi + p_i * c_{t-1})
        f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf + p_f * c_{t-1})
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho + p_o * c_t)
        h_t = o_t * tanh(c_t)

    Gers and Schmidhuber, "Recurrent Nets that Time and Count", IJCNN 2000, but with tanh. Gates are stacked in the
    order i, f, g, o; `weight_ch` (3*H) holds p_i, p_f and p_o.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h and c.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h, c = PeepholeLSTM(3, 5)(torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5)))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    gates = "ifgo"
    candidate = "g"
    num_states = 2

    weight_ch: Tensor

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from super().shapes()
        yield "weight_ch", (3 * self.hidden_size,)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (h, c) after a step, each (B, H), from the input x (B, D) and the state (h, c) before it."""
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_state(h)).chunk(4, -1)
        p_i, p_f, p_o = self.weight_ch.chunk(3)
        i, f, g = named(i=sigmoid(i + p_i * c), f=sigmoid(f + p_f * c), g=tanh(g))
        c = f * c + i * g
        o = named(o=sigmoid(o + p_o * c))
        h = o * tanh(c)
        return h, c
