"""The LSTM with layer normalization."""

from collections.abc import Iterator

from torch import Tensor, nn, sigmoid, tanh
from torch.nn.functional import layer_norm, linear
from typing_extensions import override

from elman.cells._cell import GatedCell
from elman.engine import named


class LayerNormLSTM(GatedCell):
    """An LSTM whose matrix products and cell state are normalized.

        (i, f, g, o) = LN_i(W_ih x_t) + LN_h(W_hh h_{t-1}) + b
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(LN_c(c_t))

    with LN(a) = gain * (a - mean(a)) / sqrt(var(a) + 1e-5), and LN_c with a bias too. Ba, Kiros and Hinton,
    arXiv:1607.06450, equations 20 to 22; the biases of LN_i and LN_h, which are only added, are one b: `bias_ih`. The
    gains are `gain_ih` and `gain_hh` (4*H) and `gain_c` (H), initially 1; `bias_c` (H) is initially 0. Gates are
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
    >>> h, c = LayerNormLSTM(3, 5)(torch.randn(2, 3), (torch.zeros(2, 5), torch.zeros(2, 5)))
    >>> h.shape, c.shape
    (torch.Size([2, 5]), torch.Size([2, 5]))
    """

    gates = "ifgo"
    candidate = "g"
    num_states = 2

    gain_ih: Tensor
    gain_hh: Tensor
    gain_c: Tensor
    bias_c: Tensor | None

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        H = self.hidden_size
        yield from (pair for pair in super().shapes() if pair[0] != "bias_hh")
        yield "gain_ih", (4 * H,)
        yield "gain_hh", (4 * H,)
        yield "gain_c", (H,)
        yield "bias_c", (H,)

    @override
    def init_parameter(self, name: str, value: Tensor) -> None:
        if name.startswith("gain"):
            nn.init.ones_(value)
        elif name == "bias_c":
            nn.init.zeros_(value)
        else:
            super().init_parameter(name, value)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (h, c) after a step, each (B, H), from the input x (B, D) and the state (h, c) before it."""
        h, c = state
        a = layer_norm(linear(x, self.weight_ih), self.gain_ih.shape, self.gain_ih, self.bias_ih)
        a = a + layer_norm(linear(h, self.weight_hh), self.gain_hh.shape, self.gain_hh)
        i, f, g, o = a.chunk(4, -1)
        i, f, g, o = named(i=sigmoid(i), f=sigmoid(f), g=tanh(g), o=sigmoid(o))
        c = f * c + i * g
        h = o * tanh(layer_norm(c, self.gain_c.shape, self.gain_c, self.bias_c))
        return h, c
