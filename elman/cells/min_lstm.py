"""The minLSTM, an LSTM without recurrent matrices."""

from torch import Tensor, sigmoid

from elman.cells._cell import InputCell
from elman.engine import named


class MinLSTM(InputCell):
    """An LSTM whose gates and candidate depend on x only, with gates normalized to sum to one: a linear recurrence.

        f_t = sigmoid(W_if x_t + b_if)
        i_t = sigmoid(W_ii x_t + b_ii)
        n_t = W_in x_t + b_in
        h_t = f_t / (f_t + i_t) * h_{t-1} + i_t / (f_t + i_t) * n_t

    Feng et al., "Were RNNs All We Needed?", arXiv:2410.01201v2, section 3.2. Gates are stacked in the order f, i, n.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h = MinLSTM(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "fin"
    candidate = "n"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        f, i, n = self.from_input(x).chunk(3, -1)
        f, i, n = named(f=sigmoid(f), i=sigmoid(i), n=n)
        return (f * h + i * n) / (f + i)
