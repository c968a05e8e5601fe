"""The long short-term memory (LSTM), with forget gates and without peepholes."""

from torch import Tensor, sigmoid, tanh

from elman.cells._cell import GatedCell
from elman.engine import named


class LSTM(GatedCell):
    """The LSTM of torch.nn.

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)
        f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)
        o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = o_t * tanh(c_t)

    Hochreiter and Schmidhuber, Neural Computation 9 (1997), with the forget gate of Gers et al. (2000). Gates are
    stacked in the order i, f, g, o.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h and c.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h, c = LSTM(3, 5)(torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5)))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    gates = "ifgo"
    candidate = "g"
    num_states = 2
    torch_function = "lstm"

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (h, c) after a step, each (B, H), from the input x (B, D) and the state (h, c) before it."""
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_state(h)).chunk(4, -1)
        i, f, g, o = named(i=sigmoid(i), f=sigmoid(f), g=tanh(g), o=sigmoid(o))
        c = f * c + i * g
        h = o * tanh(c)
        return h, c
