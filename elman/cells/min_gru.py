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
    Arguments as for `InputCell`.

    >>> import torch
    >>> h = MinGRU(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    """

    gates = "zn"
    candidate = "n"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """One step: x (B, D) and h (B, H) to the next h (B, H)."""
        z, n = self.from_input(x).chunk(2, -1)
        z, n = named(z=sigmoid(z), n=n)
        return (1 - z) * h + z * n
