"""The layers of torch.nn: `RNN`, `GRU` and `LSTM`."""

from typing import Any

from torch import nn

from elman import cells
from elman.layers.stack import Stack


class _Twin(Stack):
    """What code that was written for a layer of torch.nn asks of it besides."""

    def flatten_parameters(self) -> None:
        """Nothing: torch's layers order their memory for cuDNN by this, and models call it before every step."""

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer."""
        return [[getattr(self, full) for _, full in names] for names in self._names]


class RNN(_Twin):
    """Elman layers, in the place of torch.nn.RNN; `cells.RNN` has the equation, `Stack` the shapes.

    >>> import torch
    >>> outputs, h = RNN(3, 5, num_layers=2, nonlinearity="relu")(torch.randn(7, 2, 3))
    """

    cell_type = cells.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, *args, nonlinearity=nonlinearity, **kwargs)
        self.nonlinearity = nonlinearity


class GRU(_Twin):
    """GRU layers, in the place of torch.nn.GRU; `cells.GRU` has the equations, `Stack` the arguments and shapes.

    >>> import torch
    >>> outputs, h = GRU(3, 5)(torch.randn(7, 2, 3))
    """

    cell_type = cells.GRU


class LSTM(_Twin):
    """LSTM layers, in the place of torch.nn.LSTM; `cells.LSTM` has the equations, `Stack` the arguments and shapes.

    >>> import torch
    >>> outputs, (h, c) = LSTM(3, 5)(torch.randn(7, 2, 3))
    """

    cell_type = cells.LSTM
