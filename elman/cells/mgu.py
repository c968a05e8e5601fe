"""The minimal gated unit (MGU)."""

from torch import Tensor, sigmoid, tanh

from elman.cells._cell import GatedCell
from elman.engine import named


class MGU(GatedCell):
    """A GRU with a single gate, used both as forget gate and as reset gate.

        f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)
        n_t = tanh(W_in x_t + b_in + W_hn (f_t * h_{t-1}) + b_hn)
        h_t = (1 - f_t) * h_{t-1} + f_t * n_t

    Zhou et al., "Minimal Gated Unit for Recurrent Neural Networks", arXiv:1603.09420. Gates are stacked in the order f,
    n.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h = MGU(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "fn"
    candidate = "n"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        x_f, x_n = self.from_input(x).chunk(2, -1)
        f = named(f=sigmoid(x_f + self.from_state(h, 0, 1)))
        n = named(n=tanh(x_n + self.from_state(f * h, 1)))
        return (1 - f) * h + f * n
