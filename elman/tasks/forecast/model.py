"""A network that reads the past of a series, goes on over the horizon, and says what to expect there."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from elman.tasks.recurrent_layers import stack, title

QUANTILES = (0.1, 0.5, 0.9)


class ForecastBatch(NamedTuple):
    """Windows side by side. All numbers are in units of the window: above its last value, by its spread.

    steps: (T, B, D), context and horizon.
    lengths: (B,), steps of each; None where all have T.
    future: (B, F), what comes; anything where that is missing.
    weight: (B, F), a unit of the window in units of the series; 0 where what comes is missing.
    last: (B,), the last values, in their own units.
    spread: (B,), a unit of the window in those.
    """

    steps: Tensor
    lengths: Tensor | None
    future: Tensor
    weight: Tensor
    last: Tensor
    spread: Tensor


class ForecastNetwork(nn.Module):
    """Recurrent layers over context and horizon, and three quantiles at each step of the horizon.

    In the context a step brings the value; in the horizon it brings what is known of it: its place in the calendar and
    the value a season before. It begins with the last value as its forecast.

    Args:
        inputs: D, numbers of a step.
        horizon: F, steps.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer.
        layers: how many of them.
        dropout: probability, on what each recurrent layer hands up, in training.
        bptt: steps that the gradient goes back; 0: all the way.

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
        """Steps (T, B, D), the last of them the horizon, to quantiles (B, F, 3), the lowest first."""
        T, B, _ = steps.shape
        h, _ = self.recurrent(steps, lengths=lengths)
        ends = torch.full((B,), T) if lengths is None else lengths
        at = ends - self.horizon + torch.arange(self.horizon)[:, None]
        below, median, above = self.output(self.dropout(h[at, torch.arange(B)])).transpose(0, 1).unbind(2)
        return torch.stack((median - softplus(below), median, median + softplus(above)), 2)

    def loss(self, batch: ForecastBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Pinball loss, its mean over quantiles, summed over a batch, of how many values, and no state."""
        loss = pinball(self(batch.steps, batch.lengths), batch.future) * batch.weight
        return loss.sum(), int((batch.weight > 0).sum()), None


def pinball(quantiles: Tensor, values: Tensor) -> Tensor:
    """The loss of quantiles (..., 3) beside values (...): the mean over quantiles.

    Koenker and Bassett 1978: q of what a value is above the quantile, 1 - q of what it is below.

    >>> pinball(torch.tensor([0.0, 1.0, 2.0]), torch.tensor(1.0))     # (0.1 * 1 + 0 + 0.1 * 1) / 3
    tensor(0.0667)
    """
    q = quantiles.new_tensor(QUANTILES)
    above = values.unsqueeze(-1) - quantiles
    return torch.maximum(q * above, (q - 1) * above).mean(-1)
