"""The encoding of windows for the network, by statistics of the training part."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.data.examples import Example
from elman.data.time_index.clock import Cycle, cycles
from elman.data.time_index.zone import DAY
from elman.errors import BadInput
from elman.io.schema import Natural, Positive, Size
from elman.tasks.codec import Codec
from elman.tasks.forecast.data import Series, Window, scale
from elman.tasks.forecast.encoding import FIRST_OF_PAST, Center, Scaling, WindowEncoder
from elman.tasks.forecast.holidays import is_holiday
from elman.tasks.forecast.model import ForecastBatch
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import MEDIAN, ForecastOptions, Sizes, levels_of

MIN_POSITIVE_SHARE = 0.99  # of the values, for a logarithmic scale
MIN_SLOPE = 0.5  # of the logarithms of seasonal differences over those of levels, above which a scale is logarithmic
MAX_REGRESSED = 1000  # windows
MAX_STANDARDIZED = 10.0  # of values in the regression
RIDGE = 0.01  # of the squared features
MAX_CATEGORIES = 100  # of a column that describes series


@dataclass(frozen=True)
class ForecastCodec(Codec):
    """Encodes windows as tensors, by statistics of the training part.

    The network reads and predicts values that are standardized by the past of their window, so it depends neither on
    the unit of a series nor on its name. `scales` are used by the scores only.

    Attributes:
        season: steps.
        second_season: steps; 0 if there is none.
        horizon: steps.
        context: past steps that the network reads.
        is_log: whether values are standardized on a logarithmic scale.
        center: what standardized values are relative to.
        levels: the quantiles.
        cycles: calendar cycles that are inputs.
        holidays: the country whose holidays are an input; "" for none.
        scales: the mean absolute seasonal difference of each series.
        means: means of the covariates whose future is unknown.
        spreads: their standard deviations.
        future_means: means of the covariates whose future is known, without holidays.
        future_spreads: their standard deviations.
        regression: weights of the features that repeat the past, by which they forecast best.
        static: of each column that describes series the categories, or mean and standard deviation.
    """

    season: Size
    second_season: Natural
    horizon: Size
    context: Size
    is_log: bool
    center: Center
    levels: list[float]
    cycles: list[Cycle]
    holidays: str
    scales: dict[str, Positive]
    means: list[float]
    spreads: list[Positive]
    future_means: list[float]
    future_spreads: list[Positive]
    static: list[list[str] | tuple[float, Positive]]
    regression: list[float]

    def __post_init__(self) -> None:
        for prefix in ("", "future_"):
            means, spreads = (getattr(self, f"{prefix}{name}") for name in ("means", "spreads"))
            if len(means) != len(spreads):
                message = f"expected as many means as spreads, got {len(means)} and {len(spreads)}"
                raise ValueError(f"{prefix}means, {prefix}spreads: {message}")

    @property
    def sizes(self) -> Sizes:
        """Sizes of windows."""
        return Sizes(self.season, self.second_season, self.horizon, self.context)

    @property
    def median(self) -> int:
        """The index of the median among the quantiles."""
        return self.levels.index(MEDIAN)

    @cached_property
    def encoder(self) -> WindowEncoder:
        """Encodes windows as features."""
        holiday = [0.0] if self.holidays else [], [1.0] if self.holidays else []
        future = self.future_means + holiday[0], [*self.future_spreads, *holiday[1]]
        static = sum(1 if isinstance(column, tuple) else len(column) for column in self.static)
        past = self.means, [*self.spreads]
        return WindowEncoder(self.sizes, self.is_log, self.center, self.cycles, past, future, static)

    def scale(self, series: Series) -> float:
        """Return the unit of scores of a series; a series that is not in the training data has its own."""
        return (self.scales.get(series.learned) if series.learned else None) or series.unit(self.season)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: ForecastOptions) -> "ForecastCodec":
        return cls.fit_windows([example.input for example in train], options)

    @classmethod
    def fit_windows(cls, train: Sequence[Window], options: ForecastOptions) -> "ForecastCodec":
        """Fit a codec on windows of the training part."""
        ends: dict[Series, int] = {}
        for window in train:
            ends[window.series] = max(ends.get(window.series, 0), window.origin + window.horizon)
        spans = [np.ptp(series.moments(0, end)[[0, -1]]) for series, end in ends.items()]
        values = [series.values[:end] for series, end in ends.items()]
        past = _means_and_spreads(np.concatenate([series.covariates[:end] for series, end in ends.items()]))
        future = _means_and_spreads(np.concatenate([series.future_covariates[:end] for series, end in ends.items()]))
        static = zip(*(series.static_covariates for series in ends), strict=True)
        codec = cls(
            *options.sizes,
            is_multiplicative(values, options.sizes.season) if options.scale is None else options.scale == "log",
            "last season",
            levels_of(options.quantiles),
            cycles(train[0].series.grid.clock, int(max(spans))),
            options.holidays or "",
            {series.name: scale(series.values[:end], options.sizes.season) for series, end in ends.items()},
            *past,
            *future,
            [_fitted(texts) for texts in static],
            [],
        )
        some = codec.batch(sample := train[:: -(-len(train) // MAX_REGRESSED)])
        last = some.steps[-1, :, FIRST_OF_PAST, None]
        of_last, of_season = (((some.future - level).abs() * some.weight).sum() for level in (last, 0.0))
        if of_last < of_season:  # the last value is nearer to the next ones than the mean of the last season
            codec = replace(codec, center="last value")
            some = codec.batch(sample)
        return replace(codec, regression=codec._regression(some))

    def _regression(self, batch: ForecastBatch) -> list[float]:
        """Return the weights of a ridge regression of the targets on the features that repeat the past."""
        X = batch.steps[-self.horizon :, :, self.encoder.of_past].transpose(0, 1)[batch.weight > 0].double()
        y = batch.future[batch.weight > 0].double()
        X, y = X.clamp(-MAX_STANDARDIZED, MAX_STANDARDIZED), y.clamp(-MAX_STANDARDIZED, MAX_STANDARDIZED)
        ridge = RIDGE * len(X) * torch.eye(X.shape[1], dtype=torch.float64)
        weights: list[float] = torch.linalg.solve(X.T @ X + ridge, X.T @ y).tolist()
        return [round(weight, 6) for weight in weights]

    @override
    def model_args(self, options: ForecastOptions) -> dict[str, Any]:
        named = {name: getattr(options, name) for name in Sizes._fields}
        fitted, requested = [*self.sizes], [*(named | {"second_season": options.second_season or 0}).values()]
        if fitted != requested:
            raise ValueError(f"{', '.join(Sizes._fields)} of {fitted}, where the options have {requested}")
        if self.levels != levels_of(options.quantiles):
            raise ValueError(f"levels of {self.levels}, where the options have {options.quantiles!r:.60}")
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        sizes = {"inputs": self.encoder.size, "horizon": self.horizon, "regression": self.regression}
        scaled = {"is_log": self.is_log, "quantiles": self.levels}
        return sizes | scaled | {name: getattr(options, name) for name in names}

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return the window and its length; `collate` makes the tensors."""
        return example.input, self.context + self.horizon

    @override
    def collate(self, encoded: Sequence[Any]) -> ForecastBatch:
        return self.batch(encoded)

    @override
    def predict(self, model: Any, batch: ForecastBatch) -> list[Any]:
        """Predict quantiles (F, Q) in units of the series."""
        quantiles = model(batch.steps).cpu().double()
        restored = Scaling(*map(torch.from_numpy, batch.scaling)).restore(quantiles.flatten(1), self.is_log)
        return list(restored.reshape(quantiles.shape).numpy())

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        """Return the forecasts of the first and the last step."""
        columns = {1: "next step", self.horizon: f"step {self.horizon}"}
        at = [self.median, 0, -1]
        return {name: "{:.4g} ({:.4g} to {:.4g})".format(*prediction[step - 1][at]) for step, name in columns.items()}

    @override
    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Return a row for each step of the horizon."""
        window: Window = example.input
        names = [f"{level:g}" for level in self.levels]
        names[-1], names[0], names[self.median] = "high", "low", "median"
        order = sorted(names, key=lambda name: ("median", "low", "high", name).index(name))
        for step, quantiles in enumerate(prediction, window.origin):
            values = {name: float(f"{value:.6g}") for name, value in zip(names, quantiles, strict=True)}
            row = {"series": window.series.name, "time": window.series.stamp(step)}
            yield row | {name: values[name] for name in order}

    def batch(self, windows: Sequence[Window]) -> ForecastBatch:
        """Make a batch of windows."""
        future = np.stack([window.future for window in windows])
        is_known = ~np.isnan(future)
        with torch.no_grad():
            features, scaling = self.encoder(*self._inputs(windows))
            z = scaling.standardize(torch.from_numpy(np.where(is_known, future, 0)), self.is_log)
        units = 4 * scaling.floor if self.is_log else scaling.spread
        weights = units.numpy() * is_known / np.array([self.scale(window.series) for window in windows])[:, None]
        return ForecastBatch(
            features.transpose(0, 1).float(),
            z.float(),
            torch.from_numpy(weights).float(),
            scaling.center.float(),
            scaling.spread.float(),
            tuple(part.numpy() for part in scaling),
        )

    def _inputs(self, windows: Sequence[Window]) -> list[torch.Tensor]:
        """Return the inputs of the encoder."""
        P, C, F = self.sizes.past, self.context, self.horizon
        values = np.full((len(windows), P), np.nan)
        for row, window in zip(values, windows, strict=True):
            row[P - len(window.past) :] = window.past
        inputs = [values]
        moments = (
            [w.series.moments(w.origin - C, w.origin + F) for w in windows] if self.cycles or self.holidays else []
        )
        if self.cycles:
            inputs.append(np.stack(moments))
        if self.means:
            inputs.append(np.stack([_rows(w.series.covariates, w.origin - C, w.origin) for w in windows]))
        if self.future_means or self.holidays:
            known = [_rows(w.series.future_covariates, w.origin - C, w.origin + F) for w in windows]
            if self.holidays:
                days = [is_holiday(times // DAY, self.holidays)[:, None] for times in moments]
                known = [np.concatenate(pair, 1) for pair in zip(known, days, strict=True)]
            inputs.append(np.stack(known))
        if self.static:
            inputs.append(np.stack([self._static(window.series) for window in windows]))
        return [torch.from_numpy(array) for array in inputs]

    def _static(self, series: Series) -> Values:
        """Return the features of a series: numbers standardized, categories one-hot; NaN or zeros where unknown."""
        features = list[float]()
        for text, column in zip(series.static_covariates, self.static, strict=True):
            if isinstance(column, tuple):
                features.append((_number(text) - column[0]) / column[1])
            else:
                features += [float(text == category) for category in column]
        return np.array(features)


def is_multiplicative(values: Sequence[Values], season: int) -> bool:
    """Return whether values are positive and their seasonal differences grow with their level.

    In each series, the mean differences and levels of the lowest and of the highest quarter of values are compared;
    over all series, the slope between their logarithms is that of a least-squares line through the origin.

    >>> hills = 2 + np.sin(np.arange(100) / 8)
    >>> noise = np.random.default_rng(0).normal(size=100)
    >>> is_multiplicative([hills * np.exp(noise / 10)], 1), is_multiplicative([hills + noise / 10], 1)
    (True, False)
    """
    known = np.concatenate([series[~np.isnan(series)] for series in values])
    if float((known > 0).mean()) < MIN_POSITIVE_SHARE:
        return False
    ratios = []
    for series in values:
        differences = np.abs(series[season:] - series[:-season])
        levels = (np.abs(series[season:]) + np.abs(series[:-season])) / 2
        differences, levels = differences[~np.isnan(differences)], levels[~np.isnan(differences)]
        order, quarter = np.argsort(levels, kind="stable"), len(levels) // 4
        if quarter:
            means = [[part[at].mean() for at in (order[:quarter], order[-quarter:])] for part in (levels, differences)]
            if np.min(means) > 0:
                ratios.append([math.log(high / low) for low, high in means])
    if not ratios:
        return False
    x, y = np.array(ratios).T
    return bool(x @ y > MIN_SLOPE * (x @ x))


def _rows(values: Values, begin: int, end: int) -> Values:
    """Return rows of values (N, K); NaN before the first and after the last."""
    rows = np.full((end - begin, values.shape[1]), np.nan)
    inside = values[max(begin, 0) : max(end, 0)]
    rows[max(begin, 0) - begin :][: len(inside)] = inside
    return rows


def _means_and_spreads(values: Values) -> tuple[list[float], list[float]]:
    """Return means and standard deviations of columns; 1 for a standard deviation of 0."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(0), 1)
    means = np.where(known, values, 0).sum(0) / counts
    spreads = np.sqrt((np.where(known, values - means, 0) ** 2).sum(0) / counts)
    return means.tolist(), np.where(spreads > 0, spreads, 1).tolist()


def _number(text: str) -> float:
    """Return the number in a text; NaN if there is none."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _fitted(texts: Sequence[str]) -> list[str] | tuple[float, float]:
    """Return mean and standard deviation of a column of numbers, or the categories in another column.

    Raises:
        BadInput: for too many categories.
    """
    numbers = np.array([_number(text) for text in texts])
    if all(text == "" or not math.isnan(number) for text, number in zip(texts, numbers, strict=True)):
        (mean,), (spread,) = _means_and_spreads(numbers[:, None])
        return mean, spread
    categories = sorted({text for text in texts if text})
    if len(categories) > MAX_CATEGORIES:
        raise BadInput(
            f"--static-covariates: expected numbers or at most {MAX_CATEGORIES} categories, got {len(categories):,}: "
            f"{categories[0]!r:.40}, {categories[1]!r:.40}, ..."
        )
    return categories
