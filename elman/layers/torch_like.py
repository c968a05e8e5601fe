"""The layers of torch.nn: `RNN`, `GRU` and `LSTM`."""

from typing import Any

from elman import cells
from elman.layers.stack import Stack


class RNN(Stack):
    """Multi-layer Elman RNN, replaces torch.nn.RNN; see `cells.RNN` for equations, `Stack` for arguments and shapes.

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        num_layers: L.
        nonlinearity: "tanh" or "relu".
        *args: the further arguments of `Stack`, from `bias` on.
        **kwargs: the same by name.

    Raises:
        TypeError: as for `Stack`.
        ValueError: as for `Stack`, and for another nonlinearity.

    >>> import torch
    >>> outputs, h = RNN(3, 5, num_layers=2, nonlinearity="relu")(torch.randn(7, 2, 3))
    >>> outputs.shape
    torch.Size([7, 2, 5])
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

    @property
    def nonlinearity(self) -> str:
        """Nonlinearity of every cell: "tanh" or "relu"."""
        return str(self._options["nonlinearity"])

    @nonlinearity.setter
    def nonlinearity(self, value: str) -> None:
        self._set_options(nonlinearity=value)


class GRU(Stack):
    """Multi-layer GRU, replaces torch.nn.GRU; see `cells.GRU` for equations, `Stack` for arguments and shapes.

    >>> import torch
    >>> outputs, h = GRU(3, 5)(torch.randn(7, 2, 3))
    >>> outputs.shape
    torch.Size([7, 2, 5])
    """

    cell_type = cells.GRU


class LSTM(Stack):
    """Multi-layer LSTM, replaces torch.nn.LSTM; see `cells.LSTM` for equations, `Stack` for arguments and shapes.

    >>> import torch
    >>> outputs, (h, c) = LSTM(3, 5)(torch.randn(7, 2, 3))
    >>> outputs.shape
    torch.Size([7, 2, 5])
    """

    cell_type = cells.LSTM
