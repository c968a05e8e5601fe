"""Base classes of the registered cells: their parameters."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override


class Cell(nn.Module):
    """A cell with input x of width D = `input_size` and states of width H = `hidden_size`.

    Args:
        input_size: D.
        hidden_size: H.
        bias: if False, parameters whose names begin with "bias" are None.
        device: device of the parameters.
        dtype: dtype of the parameters.

    Raises:
        ValueError: for a width below 1.
    """

    num_states: ClassVar[int] = 1
    gates: ClassVar[str] = ""  # letters of the gates, in the order in which they are stacked
    candidate: ClassVar[str] = ""  # name of the candidate for the new state, if there is one
    torch_function: ClassVar[str] = ""  # name of the function in torch that computes these equations for all steps

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
            exists = bias or not name.startswith("bias")
            value = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if exists else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of all parameters in order, biases included."""
        raise NotImplementedError

    def init_parameter(self, name: str, value: Tensor) -> None:
        """Initialize a parameter in place: from U(-1/sqrt(H), 1/sqrt(H)), unless a subclass does otherwise.

        Args:
            name: the name of the parameter.
            value: the parameter.
        """
        bound = self.hidden_size**-0.5
        nn.init.uniform_(value, -bound, bound)

    def reset_parameters(self) -> None:
        """Initialize all parameters, in the order of `shapes`."""
        for name, value in self.named_parameters():
            self.init_parameter(name, value)

    @property
    def state_size(self) -> int | tuple[int, ...]:
        """The width of the state, or of each state if there are several."""
        return self.hidden_size if self.num_states == 1 else (self.hidden_size,) * self.num_states

    @override
    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class GatedCell(Cell):
    """A cell of G gates with one stacked matrix for the products with x, and one for those with h.

    Parameters have the names, shapes, order of gates and initialization of `torch.nn.LSTMCell`, `GRUCell` and
    `RNNCell`: `weight_ih` (G*H, D), `weight_hh` (G*H, H), `bias_ih` and `bias_hh` (G*H). Arguments as for `Cell`.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        GH = len(self.gates) * self.hidden_size
        yield "weight_ih", (GH, self.input_size)
        yield "weight_hh", (GH, self.hidden_size)
        yield "bias_ih", (GH,)
        yield "bias_hh", (GH,)

    def from_input(self, x: Tensor) -> Tensor:
        """Return W_ih x + b_ih, (B, G*H)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def from_state(self, h: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Return W_hh h + b_hh, (B, G*H), or only its gates first .. last - 1."""
        if first == 0 and last is None:
            return linear(h, self.weight_hh, self.bias_hh)
        H = self.hidden_size
        rows = slice(first * H, None if last is None else last * H)
        return linear(h, self.weight_hh[rows], None if self.bias_hh is None else self.bias_hh[rows])


class InputCell(Cell):
    """A cell of G gates without a recurrent product: `weight_ih` (G*H, D), `bias_ih` (G*H). Arguments as for `Cell`."""

    weight_ih: Tensor
    bias_ih: Tensor | None

    @override
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "weight_ih", (len(self.gates) * self.hidden_size, self.input_size)
        yield "bias_ih", (len(self.gates) * self.hidden_size,)

    def from_input(self, x: Tensor) -> Tensor:
        """Return W_ih x + b_ih, (B, G*H)."""
        return linear(x, self.weight_ih, self.bias_ih)
