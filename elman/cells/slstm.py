"""The sLSTM, an LSTM with an exponential input gate."""

import torch
from torch import Tensor, sigmoid, tanh
from torch.nn.functional import logsigmoid

from elman.cells._cell import GatedCell
from elman.engine import named


class SLSTM(GatedCell):
    """The sLSTM of xLSTM: an exponential input gate, a normalizer n and a stabilizer m.

        (i, f, z, o) = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
        m_t = max(log sigmoid(f) + m_{t-1}, i)
        i_t = exp(i - m_t)
        f_t = exp(log sigmoid(f) + m_{t-1} - m_t)
        c_t = f_t * c_{t-1} + i_t * tanh(z)
        n_t = f_t * n_{t-1} + i_t
        h_t = sigmoid(o) * c_t / n_t

    Beck et al., arXiv:2405.04517, equations 8 to 17, with the sigmoid forget gate and one head. The states are h, c, n
    and m, all initially zero. Gates are stacked in the order i, f, z, o.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h, c, n and m.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> state = tuple(torch.zeros(2, 5) for _ in range(4))
    >>> h, c, n, m = SLSTM(3, 5)(torch.randn(2, 3), state)
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "ifzo"
    candidate = "z"
    num_states = 4

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Return (h, c, n, m) after a step, each (B, H), from the input x (B, D) and the state before it."""
        h, c, n, m = state
        i, f, z, o = (self.from_input(x) + self.from_state(h)).chunk(4, -1)
        decayed_m = logsigmoid(f) + m
        m = torch.maximum(decayed_m, i)
        i, f, z, o = named(i=torch.exp(i - m), f=torch.exp(decayed_m - m), z=tanh(z), o=sigmoid(o))
        c = f * c + i * z
        n = f * n + i
        h = o * c / n
        return h, c, n, m
