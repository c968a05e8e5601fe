"""Windows of time series: their split by time, and their encoding for the network."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.baselines.forecast import fill_gaps
from elman.data.examples import Example
from elman.data.time_index.clock import Cycle, cycles
from elman.errors import BadInput
from elman.io.schema import Positive, Size
from elman.tasks.codec import Codec
from elman.tasks.forecast.data import Series, Window, scale
from elman.tasks.forecast.model import ForecastBatch
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import ForecastOptions, Sizes

SHARES = {"validation": 0.1, "test": 0.2}  # of the time, from its end; the rest is the training part
MAX_WINDOWS = 50_000  # above it, only every n-th window is used
MIN_SPREAD = 0.1  # of a window, in units of its mean seasonal difference


@dataclass(frozen=True)
class ForecastCodec(Codec):
    """Encodes windows as tensors, by statistics of the training part.

    The network reads and predicts values that are standardized by the context of their window, so it depends neither on
    the unit of a series nor on its name. `scales` are used by the scores only.

    Attributes:
        season: steps.
        horizon: steps.
        context: steps of the longest context.
        cycles: calendar cycles that are inputs.
        scales: the mean absolute seasonal difference of each series.
        means: means of the covariates.
        spreads: standard deviations of the covariates.
    """

    season: Size
    horizon: Size
    context: Size
    cycles: list[Cycle]
    scales: dict[str, Positive]
    means: list[float]
    spreads: list[Positive]

    def __post_init__(self) -> None:
        if len(self.means) != len(self.spreads):
            message = f"expected as many means as spreads, got {len(self.means)} and {len(self.spreads)}"
            raise ValueError(f"means, spreads: {message}")

    @property
    def inputs(self) -> int:
        """The number of features of a step."""
        return 5 + 2 * len(self.cycles) + len(self.means)

    def scale(self, series: Series) -> float:
        """Return the unit of scores of a series; a series that is not in the training data has its own."""
        return (self.scales.get(series.learned) if series.learned else None) or series.unit(self.season)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: ForecastOptions) -> "ForecastCodec":
        return cls.fit_windows([example.input for example in train], options.sizes)

    @classmethod
    def fit_windows(cls, train: Sequence[Window], sizes: Sizes) -> "ForecastCodec":
        """Fit a codec on windows of the training part."""
        ends: dict[Series, int] = {}
        for window in train:
            ends[window.series] = max(ends.get(window.series, 0), window.origin + window.horizon)
        spans = [np.ptp(series.grid.moments(np.array([0, end - 1]))) for series, end in ends.items()]
        covariates = np.concatenate([series.covariates[:end] for series, end in ends.items()])
        known = ~np.isnan(covariates)
        counts = np.maximum(known.sum(0), 1)
        means = np.where(known, covariates, 0).sum(0) / counts
        spreads = np.sqrt((np.where(known, covariates - means, 0) ** 2).sum(0) / counts)
        return cls(
            *sizes,
            cycles(train[0].series.grid.clock, int(max(spans))),
            {series.name: scale(series.values[:end], sizes.season) for series, end in ends.items()},
            means.tolist(),
            np.where(spreads > 0, spreads, 1).tolist(),
        )

    @override
    def model_args(self, options: ForecastOptions) -> dict[str, Any]:
        fitted, requested = ([getattr(source, name) for name in Sizes._fields] for source in (self, options))
        if fitted != requested:
            raise ValueError(f"{', '.join(Sizes._fields)} of {fitted}, where the options have {requested}")
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        return {"inputs": self.inputs, "horizon": self.horizon} | {name: getattr(options, name) for name in names}

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return the window and its length; `collate` makes the tensors."""
        return example.input, example.input.steps

    @override
    def collate(self, encoded: Sequence[Any]) -> ForecastBatch:
        return self.batch(encoded)

    @override
    def predict(self, model: Any, batch: ForecastBatch) -> list[Any]:
        """Predict quantiles (F, 3) in units of the series."""
        quantiles = model(batch.steps, batch.lengths).cpu().double()
        return list(quantiles.numpy() * batch.spread[:, None, None] + batch.last[:, None, None])

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        """Return the forecasts of the first and the last step."""
        columns = {1: "next step", self.horizon: f"step {self.horizon}"}
        return {name: "{1:.4g} ({0:.4g} to {2:.4g})".format(*prediction[step - 1]) for step, name in columns.items()}

    @override
    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Return a row for each step of the horizon."""
        window: Window = example.input
        for step, quantiles in enumerate(prediction, window.origin):
            low, median, high = (float(f"{value:.6g}") for value in quantiles)
            stamp = window.series.stamp(step)
            yield {"series": window.series.name, "time": stamp, "median": median, "low": low, "high": high}

    def batch(self, windows: Sequence[Window]) -> ForecastBatch:
        """Make a batch of windows."""
        B, F = len(windows), self.horizon
        counts = [window.steps for window in windows]
        steps = np.zeros((max(counts), B, self.inputs), np.float32)
        future, weight = np.zeros((B, F)), np.zeros((B, F))
        last, spread = np.zeros(B), np.zeros(B)
        for b, window in enumerate(windows):
            unit = scale(window.context, self.season)
            known = window.context[~np.isnan(window.context)]
            last[b], spread[b] = known[-1], max(known.std(), MIN_SPREAD * unit)
            steps[: counts[b], b] = self._steps(window, last[b], spread[b], unit)
            targets = window.future
            is_known = ~np.isnan(targets)
            future[b, is_known] = (targets[is_known] - last[b]) / spread[b]
            weight[b, is_known] = spread[b] / self.scale(window.series)
        lengths = torch.tensor(counts) if min(counts) < max(counts) else None
        return ForecastBatch(
            torch.from_numpy(steps),
            lengths,
            torch.from_numpy(future).float(),
            torch.from_numpy(weight).float(),
            last,
            spread,
        )

    def _steps(self, window: Window, last: float, spread: float, unit: float) -> NDArray[Any]:
        """Return the features of each step, (T, D).

        They are the value, whether it is known, the value one season before, the mean of all seasons before, the log of
        the spread in units of the mean seasonal difference, calendar features, covariates.
        """
        C, F = window.origin - window.begin, self.horizon
        z = (fill_gaps(window.context, self.season) - last) / spread
        value, known = np.zeros((2, C + F))
        value[:C], known[:C] = z, ~np.isnan(window.context)
        size = np.full(C + F, math.log(spread / unit))
        calendar = window.series.phases(window.begin, window.origin + F, self.cycles)
        covariates = np.zeros((C + F, len(self.means)))
        past = window.series.covariates[window.begin : window.origin]
        covariates[:C] = np.nan_to_num((past - self.means) / self.spreads)
        return np.column_stack((value, known, *seasons_before(z, self.season, F), size, calendar, covariates))


def window_at(series: Series, origin: int, sizes: Sizes) -> Window:
    """Return the window whose horizon begins at a step."""
    return Window(series, max(0, origin - sizes.context), origin, sizes.horizon)


def find_windows(series: Series, sizes: Sizes) -> list[Window]:
    """Return all windows of a series that have known values in context and horizon."""
    N, known = len(series.values), np.concatenate(([0], np.cumsum(~np.isnan(series.values))))
    candidates = (window_at(series, origin, sizes) for origin in range(sizes.min_context, N - sizes.horizon + 1))
    return [
        window
        for window in candidates
        if known[window.origin] > known[window.begin] and known[window.origin + window.horizon] > known[window.origin]
    ]


def thin_windows(windows: list[Window], season: int) -> list[Window]:
    """Return at most about `MAX_WINDOWS` windows, evenly spaced, that begin at all places in the season."""
    every = -(-len(windows) // MAX_WINDOWS)
    while every > 1 and math.gcd(every, season) > 1:
        every += 1
    return windows[::every]


def split_windows(windows: Sequence[Window], names: Sequence[str]) -> dict[str, list[int]]:
    """Split windows by time. No horizon reaches into the time of the next part.

    Args:
        windows: all windows.
        names: parts to take from the end of the time, after the training part.

    Returns:
        The indices of the windows of each part.
    """
    series = list({id(window.series): window.series for window in windows}.values())
    time = np.sort(np.concatenate([s.grid.moments(np.flatnonzero(~np.isnan(s.values))) for s in series]))
    cuts, share = [int(time[-1]) + 1], 1.0
    for name in reversed(names):
        share -= SHARES[name]
        cuts.insert(0, int(time[int(share * len(time))]))
    parts = ["train", *names]
    numbers: dict[str, list[int]] = {name: [] for name in parts}
    for i, window in enumerate(windows):
        begin, end = window.series.grid.moments(np.array([window.origin, window.origin + window.horizon - 1]))
        at = int(np.searchsorted(cuts, begin, "right"))
        if end < cuts[at]:
            numbers[parts[at]].append(i)
    for name in parts:
        if not numbers[name]:
            longest = max(len(s.values) for s in series)
            raise BadInput(
                f"forecast: expected each part to be long enough for --horizon {windows[0].horizon}, got a {name} part "
                f"that is too short; the longest series has {longest} steps; add data, or pass a smaller --horizon or "
                "--season"
            )
    return numbers


def seasons_before(values: Values, season: int, horizon: int) -> tuple[Values, Values]:
    """Return at each step the value one season before and the mean over all seasons before; 0 if there are none.

    Args:
        values: the context, (C,).
        season: S, steps.
        horizon: F, steps after the context; the last known season precedes all of them.

    >>> seasons_before(np.array([1.0, 2.0, 3.0, 6.0]), 2, 3)
    (array([0., 0., 1., 2., 3., 6., 3.]), array([0., 0., 1., 2., 2., 4., 2.]))
    """
    C = len(values)
    rows = -(-C // season) + 1
    seasons = np.zeros((rows, season))
    seasons.ravel()[:C] = values
    none = np.zeros((1, season))
    before = np.concatenate((none, seasons[:-1])).ravel()
    means = np.concatenate((none, seasons.cumsum(0)[:-1] / np.arange(1, rows)[:, None])).ravel()
    at = np.concatenate((np.arange(C), C + np.arange(horizon) % season))
    return before[at], means[at]
