"""Forecasts without a model, from the context of a time series, shape (C,), in which NaN marks gaps.

Each rule takes the context, the number of steps to forecast, F, and the steps of a season, and returns values (F,).

Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 5.2.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

GROWTH = (0.5, 2.0)  # lower and upper bound of the growth from one season to the next
MIN_SEASONS = 3  # for a season of Naive 2
SIGNIFICANT = 1.645  # standard errors of an autocorrelation


def naive(context: Values, horizon: int, season: int) -> Values:
    """Repeat the last known value."""
    known = context[~np.isnan(context)]
    return np.full(horizon, known[-1])


def drift(context: Values, horizon: int, season: int) -> Values:
    """Extend the line through the first and the last known value."""
    at = np.flatnonzero(~np.isnan(context))
    first, last = context[at[[0, -1]]]
    slope = (last - first) / max(at[-1] - at[0], 1)
    return np.asarray(last + slope * (len(context) - 1 - at[-1] + np.arange(1, horizon + 1)))


def seasonal_naive(context: Values, horizon: int, season: int) -> Values:
    """Repeat the last season, or the last value if there is no whole season.

    >>> seasonal_naive(np.array([1.0, 2.0, 3.0, 4.0]), 3, season=2)
    array([3., 4., 3.])
    """
    if len(context) < season:
        return naive(context, horizon, season)
    values = fill_gaps(context, season)
    return values[len(values) - season + np.arange(horizon) % season]


def seasonal_growth(context: Values, horizon: int, season: int) -> Values:
    """Scale the last season by its growth over the season before, if the means of both are above zero."""
    values = fill_gaps(context, season)
    last, previous = values[-season:].mean(), values[-2 * season : -season].sum() / season  # 0 if there is none
    grows = len(values) >= 2 * season and last > 0 and previous > 0
    return seasonal_naive(context, horizon, season) * (np.clip(last / previous, *GROWTH) if grows else 1.0)


RULES: dict[str, Callable[[Values, int, int], Values]] = {
    "naive": naive,
    "drift": drift,
    "seasonal naive": seasonal_naive,
    "seasonal x growth": seasonal_growth,
}


def naive_2(values: Values, horizon: int, season: int) -> Values:
    """Repeat the last value, seasonally adjusted if there is a season: Naive 2 of the M4 competition.

    The season is that of a classical decomposition, multiplicative if all values are positive. It counts if the
    autocorrelation at its lag is significant at 90 %, in at least 3 seasons (Makridakis, Spiliotis and Assimakopoulos
    2020).

    >>> wave = 10 + np.tile([0.0, 1.0, 0.0, -1.0], 5)
    >>> naive_2(wave, 3, season=4).round(6).tolist(), naive_2(wave, 3, season=1).tolist()
    ([10.0, 11.0, 10.0], [9.0, 9.0, 9.0])
    """
    y = fill_gaps(values, season)
    if not _is_seasonal(y, season):
        return np.full(horizon, y[-1])
    half, even = season // 2, season % 2 == 0
    weights = np.ones(season + even)
    weights[[0, -1]] = 0.5 if even else 1.0
    trend = np.convolve(y, weights / season, "valid")
    is_positive, inner = bool((y > 0).all()), y[half : half + len(trend)]
    detrended = inner / trend if is_positive else inner - trend
    phases = (half + np.arange(len(trend))) % season
    figure = np.bincount(phases, detrended, season) / np.bincount(phases, minlength=season)
    figure = figure / figure.mean() if is_positive else figure - figure.mean()
    last, ahead = figure[(len(y) - 1) % season], figure[(len(y) + np.arange(horizon)) % season]
    return np.asarray(y[-1] / last * ahead if is_positive else y[-1] - last + ahead)


def _is_seasonal(y: Values, season: int) -> bool:
    """Return whether the autocorrelation at the lag of a season is significant, by Bartlett's formula."""
    if season < 2 or len(y) < MIN_SEASONS * season:
        return False
    changes = y - y.mean()
    power = float(changes @ changes)
    if power <= 0:
        return False
    correlation = np.array([changes[lag:] @ changes[:-lag] for lag in range(1, season + 1)]) / power
    limit = SIGNIFICANT * math.sqrt((1 + 2 * float((correlation[:-1] ** 2).sum())) / len(y))
    return bool(abs(correlation[-1]) > limit)


def fill_gaps(values: Values, season: int) -> Values:
    """Fill gaps with the values one season earlier, or with the last value where there is no earlier season.

    >>> fill_gaps(np.array([np.nan, 1.0, 2.0, np.nan, np.nan]), 3)
    array([1., 1., 2., 1., 1.])
    """
    filled = values.copy()
    gaps = np.flatnonzero(np.isnan(values))
    first = filled[~np.isnan(filled)][0] if len(gaps) else 0.0
    for i in gaps:
        filled[i] = filled[i - season] if i >= season else filled[i - 1] if i else first
    return filled
