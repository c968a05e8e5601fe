"""The minGRU, a GRU without a recurrent matrix."""

from torch import Tensor, sigmoid

from elman.cells._cell import InputCell
from elman.engine import named


class MinGRU(InputCell):
    """A GRU whose gate and candidate depend on x only: a linear recurrence.

        z_t = sigmoid(W_iz x_t + b_iz)
        n_t = W_in x_t + b_in
        h_t = (1 - z_t) * h_{t-1} + z_t * n_t

    Feng et al., "Were RNNs All We Needed?", arXiv:2410.01201v2, section 3.1. Gates are stacked in the order z, n.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h = MinGRU(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "zn"
    candidate = "n"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        z, n = self.from_input(x).chunk(2, -1)
        z, n = named(z=sigmoid(z), n=n)
        return (1 - z) * h + z * n
