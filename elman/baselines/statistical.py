"""Statistical models of the package statsforecast, fitted to one series: baselines of forecasts."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from elman.baselines.forecast import Values, fill_gaps
from elman.extras import needs

MAX_VALUES = 500  # that a model is fitted to, or 3 of its longest season
MIN_SEASONS = 3


def package() -> Any:
    """Import the models of statsforecast, which takes seconds.

    Raises:
        MissingPackage: without statsforecast.
    """
    with needs("statsforecast", "--baselines"):
        from statsforecast import models
    return models


def forecast(model: str, values: Values, horizon: int, seasons: Sequence[int], levels: Sequence[float]) -> Values:
    """Fit a model to a series, and forecast quantiles.

    Args:
        model: AutoETS, Theta, MSTL or SeasonalNaive.
        values: (N,), NaN in gaps.
        horizon: F, steps to forecast.
        seasons: steps of the seasons, the shorter first. MSTL has all, other models the first.
        levels: (Q,), the levels of the quantiles, in ascending order.

    Returns:
        The quantiles, (F, Q).

    Raises:
        MissingPackage: without statsforecast.
    """
    y = fill_gaps(values, seasons[0])
    fitting = [season for season in seasons if season > 1 and MIN_SEASONS * season <= len(y)]
    y = y[-max(MAX_VALUES, MIN_SEASONS * max(fitting, default=1)) :]
    season = fitting[0] if fitting else 1
    if model == "MSTL" and not fitting:
        model = "AutoETS"  # which MSTL has for what is left without its seasons
    fitted: Any = getattr(package(), model)(season_length=fitting if model == "MSTL" else season)
    sides = {level: ("lo" if level < 0.5 else "hi", _interval(level)) for level in levels if level != 0.5}
    intervals = sorted({interval for _, interval in sides.values()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fitted.forecast(y=y, h=horizon, level=intervals)
    named = {level: result[f"{side}-{interval:g}"] for level, (side, interval) in sides.items()}
    quantiles = np.stack([named.get(level, result["mean"]) for level in levels], axis=1).astype(np.float64)
    return np.sort(np.where(np.isnan(quantiles), np.asarray(result["mean"])[:, None], quantiles), axis=1)


def _interval(level: float) -> float:
    """Return the probability, in percent, of the symmetric interval that ends at a quantile.

    >>> _interval(0.1), _interval(0.975)
    (80, 95)
    """
    percent = round(abs(2 * level - 1) * 100, 6)
    return int(percent) if percent == int(percent) else percent
