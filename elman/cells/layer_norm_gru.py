"""The GRU with layer normalization."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn, sigmoid, tanh
from torch.nn.functional import layer_norm, linear
from typing_extensions import override

from elman.cells._cell import GatedCell
from elman.engine import named


class LayerNormGRU(GatedCell):
    """A GRU, with the reset gate after the recurrent product, whose matrix products are normalized.

        (r, z) = LN_1(W_i x_t) + LN_2(W_h h_{t-1})        with the rows of W_i and W_h for r and z
        n_t = tanh(LN_3(W_in x_t) + sigmoid(r) * LN_4(W_hn h_{t-1}))
        h_t = (1 - sigmoid(z)) * n_t + sigmoid(z) * h_{t-1}

    with LN(a) = gain * (a - mean(a)) / sqrt(var(a) + 1e-5) + bias. Ba, Kiros and Hinton, arXiv:1607.06450, equations 25
    to 27, with the roles of z and 1 - z as in torch.nn. `gain_ih` and `gain_hh` (3*H), initially 1, and `bias_ih` and
    `bias_hh` (3*H), initially 0, are stacked like the matrices: r, z, n.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there are no biases.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h = LayerNormGRU(3, 5)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    gates = "rzn"
    candidate = "n"

    gain_ih: Tensor
    gain_hh: Tensor

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from super().shapes()
        yield "gain_ih", (3 * self.hidden_size,)
        yield "gain_hh", (3 * self.hidden_size,)

    @override
    def init_parameter(self, name: str, value: Tensor) -> None:
        if name.startswith("gain"):
            nn.init.ones_(value)
        elif name.startswith("bias"):
            nn.init.zeros_(value)
        else:
            super().init_parameter(name, value)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        x_g, x_n = self._normalize(linear(x, self.weight_ih), self.gain_ih, self.bias_ih)
        h_g, h_n = self._normalize(linear(h, self.weight_hh), self.gain_hh, self.bias_hh)
        r, z = sigmoid(x_g + h_g).chunk(2, -1)
        r, z = named(r=r, z=z)
        n = named(n=tanh(x_n + r * h_n))
        return (1 - z) * n + z * h

    def _normalize(self, a: Tensor, gain: Tensor, bias: Tensor | None) -> list[Tensor]:
        """Apply LN to the part for r and z, and to the part for n."""
        sizes = [2 * self.hidden_size, self.hidden_size]
        biases = (None, None) if bias is None else torch.split(bias, sizes)
        parts = zip(a.split(sizes, -1), gain.split(sizes), biases, strict=True)
        return [layer_norm(part, g.shape, g, b) for part, g, b in parts]
