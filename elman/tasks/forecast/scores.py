"""Scores of forecasts: the definitions of utilsforecast, and OWA of the M4 competition."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from elman.decoding.quantiles import pinball_loss
from elman.tasks.forecast.numerals import Values

EXACT = 1e-9  # a MASE or sMAPE below is that of rounding
TINY = float(np.finfo(np.float64).eps)  # in place of a divisor of 0


@dataclass(frozen=True)
class Observed:
    """The true values of the horizons of windows.

    Attributes:
        values: (N, F), the true values; NaN where they are unknown.
        units: (N,), the mean absolute seasonal difference of the past of each series.
        series: (N,), the number of the series of each window.
        naive: (N, F), forecasts of Naive 2, for `owa`; None: without it.
    """

    values: Values
    units: Values
    series: NDArray[np.int64]
    naive: Values | None = None

    @classmethod
    def of(
        cls, values: Sequence[Values], units: Sequence[float], series: Sequence[Hashable], naive: Values | None = None
    ) -> "Observed":
        """Collect the true values of windows, whose series are named by anything hashable.

        If Naive 2 makes no error but that of rounding, it is left out: no score can be divided by it.
        """
        numbers: dict[Hashable, int] = {}
        ids = [numbers.setdefault(name, len(numbers)) for name in series]
        observed = cls(np.stack(values), np.array(units), np.array(ids), naive)
        is_exact = naive is not None and min(_point_scores(naive, observed)) < EXACT
        return replace(observed, naive=None) if is_exact else observed

    def at(self, indices: Sequence[int]) -> "Observed":
        """Return the true values of some of the windows, by their indices."""
        index, naive = np.asarray(indices), self.naive
        some = replace(self, values=self.values[index], units=self.units[index], series=self.series[index])
        return some if naive is None else replace(some, naive=naive[index])


def forecast_scores(quantiles: Values, levels: Sequence[float], observed: Observed) -> dict[str, float]:
    """Score forecasts.

    Each score is the mean over all known values, but `crps`, which is the mean over the series:

    - mase: mean absolute error of the median in units of the series (Hyndman and Koehler 2006)
    - smape: symmetric mean absolute percentage error of the median, in percent, from 0 to 200
    - scaled_pinball: pinball loss in units of the series, averaged over the quantiles; `scaled_mqloss` of utilsforecast
    - crps: twice the sum of the pinball losses of a series, averaged over the quantiles, divided by the sum of its
      absolute values (Rangapuram et al. 2021): with many quantiles, the continuous ranked probability score
    - coverage: share of values between the lowest and the highest quantile
    - owa, with forecasts of Naive 2: the mean of mase and smape, each divided by that of Naive 2 (Makridakis,
      Spiliotis and Assimakopoulos 2020)

    Args:
        quantiles: (N, F, Q), the forecasts.
        levels: (Q,), the levels of the quantiles, in ascending order, with 0.5.
        observed: the true values.

    >>> quantiles, observed = np.array([[[1.0, 2.0, 3.0]]]), Observed.of([np.array([4.0])], [2.0], ["a"])
    >>> scores = forecast_scores(quantiles, [0.1, 0.5, 0.9], observed)
    >>> scores["mase"], round(scores["smape"], 2), round(scores["crps"], 2), scores["coverage"]
    (1.0, 66.67, 0.37, 0.0)
    """
    y, unit, median = observed.values, observed.units[:, None], quantiles[..., list(levels).index(0.5)]
    known = ~np.isnan(y)
    mase, smape = _point_scores(median, observed)
    loss = pinball_loss(torch.from_numpy(quantiles), torch.from_numpy(y), torch.tensor(levels)).numpy()
    scores = {
        "mase": mase,
        "smape": smape,
        "scaled_pinball": float((loss / unit)[known].mean()),
        "crps": _crps(loss, observed),
        "coverage": float(((quantiles[..., 0] <= y) & (y <= quantiles[..., -1]))[known].mean()),
    }
    if observed.naive is not None:
        of_naive = _point_scores(observed.naive, observed)
        scores["owa"] = (mase / max(of_naive[0], TINY) + smape / max(of_naive[1], TINY)) / 2
    return scores


def _point_scores(forecast: Values, observed: Observed) -> tuple[float, float]:
    """Return MASE and sMAPE of forecasts (N, F)."""
    y, known = observed.values, ~np.isnan(observed.values)
    error, size = np.abs(y - forecast), np.abs(y) + np.abs(forecast)
    mase = float((error / observed.units[:, None])[known].mean())
    return mase, float((200 * error / np.where(size > 0, size, 1))[known].mean())


def _crps(loss: Values, observed: Observed) -> float:
    """Return the mean over series of twice the sum of losses (N, F), divided by the sum of absolute values."""
    known, count = ~np.isnan(observed.values), int(observed.series.max()) + 1
    sums = [
        np.bincount(observed.series, np.where(known, part, 0).sum(1), count)
        for part in (loss, np.abs(observed.values), np.ones_like(loss))
    ]
    has_values = sums[2] > 0
    return float((2 * sums[0] / np.maximum(sums[1], TINY))[has_values].mean())
