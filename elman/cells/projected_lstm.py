"""The LSTM with a recurrent projection."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, sigmoid, tanh
from torch.nn.functional import linear
from typing_extensions import override

from elman.cells._cell import GatedCell
from elman.engine import named


class ProjectedLSTM(GatedCell):
    """The LSTM of torch.nn with `proj_size`: h is narrower than c.

        i_t = sigmoid(W_ii x_t + b_ii + W_hi h_{t-1} + b_hi)
        f_t = sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)
        g_t = tanh(W_ig x_t + b_ig + W_hg h_{t-1} + b_hg)
        o_t = sigmoid(W_io x_t + b_io + W_ho h_{t-1} + b_ho)
        c_t = f_t * c_{t-1} + i_t * g_t
        h_t = W_hr (o_t * tanh(c_t))

    Sak, Senior and Beaufays, arXiv:1402.1128, without peepholes. `weight_hh` is (4*H, P), `weight_hr` (P, H). Gates are
    stacked in the order i, f, g, o.

    Args:
        input_size: D.
        hidden_size: H, the width of c.
        bias: if False, there are no biases.
        proj_size: P, the width of h; by default half of H, rounded up.
        **options: device and dtype of the parameters.

    Raises:
        ValueError: for a size below 1.

    >>> import torch
    >>> h, c = ProjectedLSTM(3, 5, proj_size=2)(torch.randn(2, 3), (torch.zeros(2, 2), torch.zeros(2, 5)))
    >>> h.shape
    torch.Size([2, 2])
    """

    gates = "ifgo"
    candidate = "g"
    num_states = 2
    torch_function = "lstm"

    weight_hr: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, proj_size: int | None = None, **options: Any
    ) -> None:
        self.proj_size = (hidden_size + 1) // 2 if proj_size is None else proj_size
        if self.proj_size < 1:
            raise ValueError(f"proj_size: expected at least 1, got {proj_size}")
        super().__init__(input_size, hidden_size, bias, **options)

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, shape in super().shapes():
            yield name, (shape[0], self.proj_size) if name == "weight_hh" else shape
        yield "weight_hr", (self.proj_size, self.hidden_size)

    @property
    @override
    def state_size(self) -> tuple[int, int]:
        return self.proj_size, self.hidden_size

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return h (B, P) and c (B, H) after a step, from the input x (B, D) and the state (h, c) before it."""
        h, c = state
        i, f, g, o = (self.from_input(x) + self.from_state(h)).chunk(4, -1)
        i, f, g, o = named(i=sigmoid(i), f=sigmoid(f), g=tanh(g), o=sigmoid(o))
        c = f * c + i * g
        h = linear(o * tanh(c), self.weight_hr)
        return h, c
