"""The recurrent highway network."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear
from typing_extensions import override

from elman.cells._cell import Cell
from elman.engine import named


class RecurrentHighway(Cell):
    """A cell of L highway layers in sequence; only the first depends on x.

        s_0 = h_{t-1}
        n_l = tanh(W_in x_t [l = 1] + W_hn,l s_{l-1} + b_n,l)
        z_l = sigmoid(W_iz x_t [l = 1] + W_hz,l s_{l-1} + b_z,l)
        s_l = z_l * n_l + (1 - z_l) * s_{l-1}
        h_t = s_L

    Zilly et al., arXiv:1607.03474v5, equations 6 to 9, with the carry gate coupled to the transform gate z. `weight_ih`
    is (2*H, D), `weight_hh` (L, 2*H, H), `bias_hh` (L, 2*H), each with n before z. The biases of z are initially -2, so
    that layers at first carry their input through.

    Args:
        input_size: D, the width of x.
        hidden_size: H, the width of h.
        bias: if False, there is no b.
        depth: L, the number of highway layers.
        **options: device and dtype of the parameters.

    Raises:
        ValueError: for a size or depth below 1.

    >>> import torch
    >>> h = RecurrentHighway(3, 5, depth=2)(torch.randn(2, 3), torch.zeros(2, 5))
    >>> h.shape
    torch.Size([2, 5])
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_hh: Tensor | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, depth: int = 3, **options: Any) -> None:
        if depth < 1:
            raise ValueError(f"depth: expected at least 1, got {depth}")
        self.depth = depth
        super().__init__(input_size, hidden_size, bias, **options)

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        H = self.hidden_size
        yield "weight_ih", (2 * H, self.input_size)
        yield "weight_hh", (self.depth, 2 * H, H)
        yield "bias_hh", (self.depth, 2 * H)

    @override
    def init_parameter(self, name: str, value: Tensor) -> None:
        super().init_parameter(name, value)
        if name == "bias_hh":
            value.data[:, self.hidden_size :] = -2

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return h (B, H) after a step, from the input x (B, D) and the state h (B, H) before it."""
        for k in range(self.depth):
            a = linear(h, self.weight_hh[k], None if self.bias_hh is None else self.bias_hh[k])
            n, z = (a if k else a + linear(x, self.weight_ih)).chunk(2, -1)
            n, z = named(**{f"n_{k + 1}": tanh(n), f"z_{k + 1}": sigmoid(z)})
            h = z * n + (1 - z) * h
        return h
