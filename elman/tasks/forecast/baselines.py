"""Forecasts that need no network, each with an interval by its own errors."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.data.examples import Example
from elman.tasks.forecast.data import Window
from elman.tasks.forecast.model import QUANTILES
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.windows import ForecastCodec, filled
from elman.tasks.supervised import Baseline

GROWTH = (0.5, 2.0)  # the least and the most of a season that a season is taken to become


def naive(window: Window, season: int) -> Values:
    """The last value."""
    known = window.context[~np.isnan(window.context)]
    return np.full(window.horizon, known[-1])


def drift(window: Window, season: int) -> Values:
    """On the line from the first value of the context to its last."""
    at = np.flatnonzero(~np.isnan(window.context))
    first, last = window.context[at[[0, -1]]]
    slope = (last - first) / max(at[-1] - at[0], 1)
    return np.asarray(last + slope * (len(window.context) - 1 - at[-1] + np.arange(1, window.horizon + 1)))


def seasonal(window: Window, season: int) -> Values:
    """The last season again."""
    values = filled(window.context, season)
    return values[len(values) - season + np.arange(window.horizon) % season]


def growth(window: Window, season: int) -> Values:
    """The last season again, times what it was of the season before; where these are above zero, both."""
    values = filled(window.context, season)
    now, before = values[-season:].mean(), values[-2 * season : -season].sum() / season
    grown = len(values) >= 2 * season and now > 0 and before > 0
    return seasonal(window, season) * (np.clip(now / before, *GROWTH) if grown else 1.0)


RULES: dict[str, Callable[[Window, int], Values]] = {
    "naive": naive,
    "drift": drift,
    "seasonal naive": seasonal,
    "seasonal x growth": growth,
}


class Rule(Baseline):
    """One of `RULES` as the median, and the quantiles of its errors around it.

    Args:
        title: which one.
        codec: of the task.
        errors: of each step of the horizon, the lowest and the highest quantile, in units of the series (F, 2).
    """

    def __init__(self, title: str, codec: ForecastCodec, errors: Values) -> None:
        self.title, self._codec, self._errors = title, codec, errors

    @classmethod
    def fitted(cls, title: str, codec: ForecastCodec, train: Sequence[Example]) -> "Rule":
        """With the errors on what is learned from."""
        errors = [
            (example.target.future - RULES[title](example.input, codec.season)) / codec.scale(example.input.series)
            for example in train
        ]
        return cls(title, codec, np.nanquantile(np.stack(errors), (QUANTILES[0], QUANTILES[-1]), axis=0).T)

    def say(self, examples: Sequence[Example]) -> list[Any]:
        """As there: quantiles (F, 3)."""
        return [self._say(example.input) for example in examples]

    def _say(self, window: Window) -> Values:
        median = RULES[self.title](window, self._codec.season)
        low, high = self._codec.scale(window.series) * self._errors.T
        return np.column_stack((np.minimum(median + low, median), median, np.maximum(median + high, median)))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {self.title: torch.from_numpy(self._errors)}


def rules(codec: ForecastCodec) -> list[str]:
    """Those that there are: without seasons, the seasonal ones are the others again."""
    whole = 1 < codec.season <= codec.context
    return [title for title in RULES if whole or not title.startswith("seasonal")]
