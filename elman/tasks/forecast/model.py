"""A recurrent network that forecasts quantiles of a time series."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.decoding.quantiles import ordered_quantiles, pinball_loss
from elman.tasks.recurrent_layers import stack, title

QUANTILES = (0.1, 0.5, 0.9)


class ForecastBatch(NamedTuple):
    """A batch of windows. Each window is standardized: minus its last value, divided by its spread.

    steps: (T, B, D), context and horizon.
    lengths: (B,), steps of each window; None if all have T.
    future: (B, F), targets; arbitrary where they are missing.
    weight: (B, F), the spread of the window in units of the series; 0 where targets are missing.
    last: (B,), the last values, in the units of the data; an array in float64, which not every device has.
    spread: (B,), the spreads, in the units of the data; such an array, too.
    """

    steps: Tensor
    lengths: Tensor | None
    future: Tensor
    weight: Tensor
    last: NDArray[np.float64]
    spread: NDArray[np.float64]


class ForecastNetwork(nn.Module):
    """Recurrent layers over context and horizon, and a linear output of three quantiles at each step of the horizon.

    A step of the context holds the observed value. A step of the horizon holds what is known in advance: calendar
    features and the value one season before. The output layer starts at zero, so the first forecast is the last value.

    Args:
        inputs: D, features of a step.
        horizon: F, steps to forecast.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.

    >>> quantiles = ForecastNetwork(5, 3, "gru", 16)(torch.randn(10, 2, 5))
    >>> quantiles.shape                                # of B=2 windows, F=3 steps
    torch.Size([2, 3, 3])
    >>> bool((quantiles.diff(dim=2) >= 0).all())
    True
    """

    def __init__(
        self,
        inputs: int,
        horizon: int,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.recurrent = stack(inputs, hidden, layers, cell, dropout, bptt)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrent.output_size, len(QUANTILES))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.horizon = horizon
        self.title = title(cell, layers, hidden)

    def forward(self, steps: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map steps (T, B, D), which end with the horizon, to quantiles (B, F, 3) in ascending order."""
        T, B, _ = steps.shape
        h, _ = self.recurrent(steps, lengths=lengths)
        ends = torch.full((B,), T, device=h.device) if lengths is None else lengths
        at = ends - self.horizon + torch.arange(self.horizon, device=h.device)[:, None]
        last = h[at, torch.arange(B, device=h.device)]
        return ordered_quantiles(self.output(self.dropout(last)).transpose(0, 1))

    def loss(self, batch: ForecastBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the pinball loss summed over values, averaged over quantiles; the number of values; and no state."""
        loss = pinball(self(batch.steps, batch.lengths), batch.future) * batch.weight
        return loss.sum(), int((batch.weight > 0).sum()), None


def pinball(quantiles: Tensor, values: Tensor) -> Tensor:
    """Return the pinball loss of the quantiles of a forecast, (..., 3), for values (...)."""
    return pinball_loss(quantiles, values, quantiles.new_tensor(QUANTILES))
