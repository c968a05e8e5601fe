"""A recurrent network that forecasts quantiles of a time series."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from elman.decoding.quantiles import ordered_quantiles, pinball_loss_of_errors
from elman.tasks.forecast.encoding import FIRST_OF_PAST, MAX_LOG
from elman.tasks.forecast.options import MEDIAN
from elman.tasks.recurrent_layers import stack, title

QUANTILES = (0.1, MEDIAN, 0.9)


class ForecastBatch(NamedTuple):
    """A batch of windows, with standardized values.

    steps: (T, B, D), features of context and horizon.
    future: (B, F), targets; arbitrary where they are missing.
    weight: (B, F), the unit of errors, in units of the series; 0 where targets are missing.
    center: (B, 1), the center of the values on their scale.
    spread: (B, 1), their spread on their scale.
    scaling: the floor, center and spread of `Scaling`, as arrays in float64, which not every device has.
    """

    steps: Tensor
    future: Tensor
    weight: Tensor
    center: Tensor
    spread: Tensor
    scaling: tuple[NDArray[np.float64], ...]


MIN_CALIBRATED = 100  # values
MIN_FACTOR, MAX_FACTOR = 0.2, 5.0  # of a calibration


class ForecastNetwork(nn.Module):
    """Recurrent layers over context and horizon, and a linear output of quantiles at each step of the horizon.

    A step of the context holds the observed value. A step of the horizon holds what is known in advance: values of
    seasons before, calendar features, covariates. The output layer reads them, too, and starts as a linear regression.

    Args:
        inputs: D, features of a step.
        horizon: F, steps to forecast.
        regression: weights of the features from `FIRST_OF_PAST` on, whose sum is the forecast before training.
        is_log: whether values are standardized on a logarithmic scale.
        quantiles: the levels, in ascending order, with 0.5.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.

    Attributes:
        calibration: (Q,), factors of the distances of quantiles from the median; ones before `calibrate`.

    >>> quantiles = ForecastNetwork(5, 3, cell="gru", hidden=16)(torch.randn(10, 2, 5))
    >>> quantiles.shape                                # of B=2 windows, F=3 steps
    torch.Size([2, 3, 3])
    >>> bool((quantiles.diff(dim=2) >= 0).all())
    True
    """

    calibration: Tensor

    def __init__(
        self,
        inputs: int,
        horizon: int,
        regression: Sequence[float] = (),
        is_log: bool = False,
        quantiles: Sequence[float] = QUANTILES,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.recurrent = stack(inputs, hidden, layers, cell, dropout, bptt)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrent.output_size + inputs, len(quantiles))
        self.horizon, self.is_log, self.quantiles = horizon, is_log, list(quantiles)
        self.median = self.quantiles.index(MEDIAN)
        self.register_buffer("calibration", torch.ones(len(quantiles)))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        first = self.recurrent.output_size + FIRST_OF_PAST
        with torch.no_grad():
            self.output.weight[self.median, first : first + len(regression)] = torch.tensor(regression)
        self.title = title(cell, layers, hidden)

    def forward(self, steps: Tensor) -> Tensor:
        """Map steps (T, B, D), which end with the horizon, to quantiles (B, F, Q) in ascending order."""
        h, _ = self.recurrent(steps)
        of_horizon = torch.cat((self.dropout(h[-self.horizon :]), steps[-self.horizon :]), 2)
        quantiles = ordered_quantiles(self.output(of_horizon).transpose(0, 1), self.median)
        median = quantiles[..., self.median : self.median + 1]
        return median + (quantiles - median) * self.calibration

    @torch.no_grad()
    def calibrate(self, batches: Iterable[ForecastBatch]) -> None:
        """Set the factors so that the lowest and the highest quantile have their shares of the targets below them.

        All quantiles below the median have one factor, and all above it, so that their order stays.

        Args:
            batches: batches of windows that the network was not trained on. If they have few targets, nothing changes.
        """
        self.calibration.fill_(1)
        ratios = list[Tensor]()
        for batch in batches:
            quantiles = self(batch.steps)
            median = quantiles[..., self.median]
            distances = torch.stack((quantiles[..., 0] - median, quantiles[..., -1] - median), 2)
            errors = (batch.future - median).unsqueeze(2) / distances
            ratios.append(errors[batch.weight > 0].cpu())
        below, above = torch.cat(ratios).double().numpy().T if ratios else ([], [])
        if len(below) < MIN_CALIBRATED:
            return
        if self.median > 0:
            factor = np.quantile(below, 1 - self.quantiles[0])
            self.calibration[: self.median] = float(np.clip(factor, MIN_FACTOR, MAX_FACTOR))
        if self.median < len(self.quantiles) - 1:
            factor = np.quantile(above, self.quantiles[-1])
            self.calibration[self.median + 1 :] = float(np.clip(factor, MIN_FACTOR, MAX_FACTOR))

    def loss(self, batch: ForecastBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the pinball loss summed over values, averaged over quantiles; the number of values; and no state.

        In training on a logarithmic scale, it is the mean of this loss and that of the standardized values, which
        weighs windows alike, whatever their errors.
        """
        quantiles, is_known = self(batch.steps), batch.weight > 0
        loss = self._pinball(self._errors(quantiles, batch))
        if self.training and self.is_log:
            loss = (loss + self._pinball(batch.future.unsqueeze(2) - quantiles) * is_known) / 2
        return loss.sum(), int(is_known.sum()), None

    def _pinball(self, errors: Tensor) -> Tensor:
        """Return the pinball loss (B, F) of errors of quantiles (B, F, Q)."""
        return pinball_loss_of_errors(errors, errors.new_tensor(self.quantiles))

    def _errors(self, quantiles: Tensor, batch: ForecastBatch) -> Tensor:
        """Return the errors of quantiles (B, F, Q) in units of the series.

        On a logarithmic scale, values are hyperbolic sines: their difference is written as a product, which is exact
        for small errors of large values.
        """
        future, weight = batch.future.unsqueeze(2), batch.weight.unsqueeze(2)
        if not self.is_log:
            return (future - quantiles) * weight
        spread = batch.spread.unsqueeze(2)
        mean = batch.center.unsqueeze(2) + spread * (future + quantiles) / 2
        half = spread * (future - quantiles) / 2
        return _cosh(mean) * _sinh(half) * weight


def _cosh(x: Tensor) -> Tensor:
    return torch.cosh(x.clamp(-MAX_LOG / 2, MAX_LOG / 2))


def _sinh(x: Tensor) -> Tensor:
    return torch.sinh(x.clamp(-MAX_LOG / 2, MAX_LOG / 2))
