"""The multiplicative LSTM."""

from collections.abc import Iterator

from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear
from typing_extensions import override

from elman.cells._cell import GatedCell
from elman.engine import named


class MultiplicativeLSTM(GatedCell):
    """An LSTM whose gates depend on a product of projections of x and h, m, instead of h.

        m_t = (W_im x_t) * (W_hm h_{t-1})
        i_t = sigmoid(W_ii x_t + b_ii + W_hi m_t + b_hi)
        f_t = sigmoid(W_if x_t + b_if + W_hf m_t + b_hf)
        g_t = tanh(W_ig x_t + b_ig + W_hg m_t + b_hg)
        o_t = sigmoid(W_io x_t + b_io + W_ho m_t + b_ho)
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    Krause et al., arXiv:1609.07959v3, equations 15 to 20, with the usual LSTM around m. `weight_im` (H, D) and
    `weight_hm` (H, H) are the matrices of m. Gates are stacked in the order i, f, g, o.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h and c.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h, c = MultiplicativeLSTM(3, 5)(torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5)))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    gates = "ifgo"
    candidate = "g"
    num_states = 2

    weight_im: Tensor
    weight_hm: Tensor

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from super().shapes()
        yield "weight_im", (self.hidden_size, self.input_size)
        yield "weight_hm", (self.hidden_size, self.hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (h, c) after a step, each (B, H), from the input x (B, D) and the state (h, c) before it."""
        h, c = state
        m = named(m=linear(x, self.weight_im) * linear(h, self.weight_hm))
        i, f, g, o = (self.from_input(x) + self.from_state(m)).chunk(4, -1)
        i, f, g, o = named(i=sigmoid(i), f=sigmoid(f), g=tanh(g), o=sigmoid(o))
        c = f * c + i * g
        h = o * tanh(c)
        return h, c
