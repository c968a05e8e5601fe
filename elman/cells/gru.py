"""The gated recurrent unit (GRU) of torch.nn."""

from torch import Tensor, sigmoid, tanh

from elman.cells._cell import GatedCell
from elman.engine import named


class GRU(GatedCell):
    """The GRU with the reset gate *after* the recurrent product, as in torch.nn and cuDNN.

        r_t = sigmoid(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)
        z_t = sigmoid(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
        n_t = tanh(W_in x_t + b_in + r_t * (W_hn h_{t-1} + b_hn))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    Cho et al., arXiv:1406.1078v1; the paper's v3 resets h before the product: see `ResetBeforeGRU`. Gates are stacked
    in the order r, z, n.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h = GRU(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "rzn"
    candidate = "n"
    torch_function = "gru"

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        x_r, x_z, x_n = self.from_input(x).chunk(3, -1)
        h_r, h_z, h_n = self.from_state(h).chunk(3, -1)
        r, z = named(r=sigmoid(x_r + h_r), z=sigmoid(x_z + h_z))
        n = named(n=tanh(x_n + r * h_n))
        return (1 - z) * n + z * h
