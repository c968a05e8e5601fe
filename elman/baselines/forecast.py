"""Forecasts without a model, from the context of a time series, shape (C,), in which NaN marks gaps.

Each rule takes the context, the number of steps to forecast, F, and the steps of a season, and returns values (F,).

Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 5.2.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

GROWTH = (0.5, 2.0)  # lower and upper bound of the growth from one season to the next


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
    """Repeat the last season.

    >>> seasonal_naive(np.array([1.0, 2.0, 3.0, 4.0]), 3, season=2)
    array([3., 4., 3.])
    """
    values = fill_gaps(context, season)
    return values[len(values) - season + np.arange(horizon) % season]


def seasonal_growth(context: Values, horizon: int, season: int) -> Values:
    """Scale the last season by its growth over the season before, if the means of both are above zero."""
    values = fill_gaps(context, season)
    last, previous = values[-season:].mean(), values[-2 * season : -season].sum() / season
    grows = len(values) >= 2 * season and last > 0 and previous > 0
    return seasonal_naive(context, horizon, season) * (np.clip(last / previous, *GROWTH) if grows else 1.0)


RULES: dict[str, Callable[[Values, int, int], Values]] = {
    "naive": naive,
    "drift": drift,
    "seasonal naive": seasonal_naive,
    "seasonal x growth": seasonal_growth,
}


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
