"""Baselines of forecasts: rules without a network, with prediction intervals from their training errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.baselines.forecast import RULES, Values, seasonal_naive
from elman.data.examples import Example
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Window
from elman.tasks.forecast.options import MEDIAN, ForecastOptions
from elman.tasks.supervised import Baseline


class Rule(Baseline):
    """A rule as the median, with the quantiles of its training errors around it.

    Args:
        title: the name of the rule.
        codec: the fitted codec.
        errors: the error quantiles at each step of the horizon, in units of the series, (F, Q); 0 for the median.
    """

    def __init__(self, title: str, codec: ForecastCodec, errors: Values) -> None:
        self.title, self._codec, self._errors = title, codec, errors

    @classmethod
    def fit(cls, title: str, codec: ForecastCodec, train: Sequence[Example]) -> "Rule":
        """Fit the error quantiles on the training part."""
        errors = [
            (example.target.future - _median(title, example.input, codec)) / codec.scale(example.input.series)
            for example in train
        ]
        quantiles = np.nanquantile(np.stack(errors), codec.levels, axis=0).T
        signs = np.sign(np.array(codec.levels) - MEDIAN)  # of errors below and above the median
        return cls(title, codec, np.where(quantiles * signs > 0, quantiles, 0))

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        """Predict quantiles (F, Q) for each example."""
        return [self._quantiles(example.input) for example in examples]

    def _quantiles(self, window: Window) -> Values:
        median = _median(self.title, window, self._codec)
        return np.asarray(median[:, None] + self._codec.scale(window.series) * self._errors)

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {self.title: torch.from_numpy(self._errors)}


def _median(title: str, window: Window, codec: ForecastCodec) -> Values:
    if title in RULES:
        return RULES[title](window.past, window.horizon, codec.season)
    season = codec.second_season if len(window.past) >= codec.second_season else codec.season
    return seasonal_naive(window.past, window.horizon, season)


def rule_titles(codec: ForecastCodec) -> list[str]:
    """Return the titles of the rules to use. Without a season, the seasonal rules equal the others."""
    has_seasons = 1 < codec.season <= codec.context
    titles = [title for title in RULES if has_seasons or not title.startswith("seasonal")]
    return [*titles, f"seasonal naive ({codec.second_season})"] if codec.second_season else titles


def fit_baselines(
    codec: ForecastCodec, train: Sequence[Example], options: ForecastOptions, seed: int
) -> list[Baseline]:
    """Fit the rules: the last value, a line, the last season and that with growth, the last second season."""
    return [Rule.fit(title, codec, train) for title in rule_titles(codec)]


def load_baselines(codec: ForecastCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    errors = {title: tensors[title].numpy() for title in rule_titles(codec)}
    for title, values in errors.items():
        if values.shape != (codec.horizon, len(codec.levels)):
            raise ValueError(f"{title} of shape {values.shape}")
    return [Rule(title, codec, values) for title, values in errors.items()]
