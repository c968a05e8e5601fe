"""What the cells of the shelf share: their parameters."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Cell(nn.Module):
    """A cell with x of width D = `input_size` and states of width H = `hidden_size`.

    Args:
        input_size: D.
        hidden_size: H.
        bias: without it, there is no parameter whose name begins with "bias".
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: for a width below 1.
    """

    num_states: ClassVar[int] = 1
    gates: ClassVar[str] = ""  # the letters of its gates, as they are stacked
    candidate: ClassVar[str] = ""  # the name of what it would write into its state, if there is such a value

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"input_size and hidden_size: expected at least 1, got {input_size} and {hidden_size}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        for name, shape in self.shapes():
            wanted = bias or not name.startswith("bias")
            value = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The name and the shape of every parameter, biases included, in order."""
        raise NotImplementedError

    def init_parameter(self, name: str, value: Tensor) -> None:
        """Fill the memory of a parameter as it is before any training: from U(-1/sqrt(H), 1/sqrt(H))."""
        bound = self.hidden_size**-0.5
        nn.init.uniform_(value, -bound, bound)

    def reset_parameters(self) -> None:
        """Fill every parameter anew, in the order of `shapes`."""
        for name, value in self.named_parameters():
            self.init_parameter(name, value)

    @property
    def state_size(self) -> int | tuple[int, ...]:
        """The width of the state, or of each state where there are several."""
        return self.hidden_size if self.num_states == 1 else (self.hidden_size,) * self.num_states

    def extra_repr(self) -> str:
        """As torch.nn.LSTMCell prints itself."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class GatedCell(Cell):
    """A cell of G gates whose products with x, and with h, stand in one matrix each.

    Parameters are named, shaped, stacked by gate and initialised as those of `torch.nn.LSTMCell` and its kin:
    `weight_ih` (G*H, D), `weight_hh` (G*H, H), `bias_ih` and `bias_hh` (G*H). Arguments as for `Cell`.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The two matrices and the two biases."""
        GH = len(self.gates) * self.hidden_size
        yield "weight_ih", (GH, self.input_size)
        yield "weight_hh", (GH, self.hidden_size)
        yield "bias_ih", (GH,)
        yield "bias_hh", (GH,)

    def from_input(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih, shape (B, G*H)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def from_state(self, h: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """W_hh h + b_hh, shape (B, G*H), or of that the gates first .. last."""
        if first == 0 and last is None:
            return linear(h, self.weight_hh, self.bias_hh)
        H = self.hidden_size
        rows = slice(first * H, None if last is None else last * H)
        return linear(h, self.weight_hh[rows], None if self.bias_hh is None else self.bias_hh[rows])


class InputCell(Cell):
    """A cell of G gates without a recurrent product: `weight_ih` (G*H, D), `bias_ih` (G*H). Arguments as for `Cell`."""

    weight_ih: Tensor
    bias_ih: Tensor | None

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The matrix and the bias."""
        yield "weight_ih", (len(self.gates) * self.hidden_size, self.input_size)
        yield "bias_ih", (len(self.gates) * self.hidden_size,)

    def from_input(self, x: Tensor) -> Tensor:
        """W_ih x + b_ih, shape (B, G*H)."""
        return linear(x, self.weight_ih, self.bias_ih)
