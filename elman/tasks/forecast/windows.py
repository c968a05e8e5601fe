"""Windows of time series: which there are, how they are split by time, what the network reads of them."""

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
from elman.data.time_index.clock import CYCLES, cycles
from elman.errors import BadInput
from elman.tasks.codec import Codec
from elman.tasks.forecast.data import Series, Window, scale
from elman.tasks.forecast.model import ForecastBatch
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import ForecastOptions, Sizes

SHARES = {"validation": 0.1, "test": 0.2}  # of the time, from its end; the rest is learned from
MOST = 50_000  # windows of a part of the data: from there on, not every step begins one
FLAT = 0.1  # the least spread of a window, in its unit


@dataclass(frozen=True)
class ForecastCodec(Codec):
    """Windows to numbers, by statistics of the training part.

    The network reads and predicts values in units of the window's own context: it depends neither on the unit of a
    series nor on which series that is. `scales` are for the scores alone.

    Attributes:
        season: steps.
        horizon: steps.
        context: steps, at most.
        cycles: of the calendar, as inputs.
        scales: of each series, its mean absolute difference from the season before.
        means: of the covariates.
        spreads: standard deviations of the covariates.
    """

    season: int
    horizon: int
    context: int
    cycles: list[str]
    scales: dict[str, float]
    means: list[float]
    spreads: list[float]

    @override
    def check(self) -> None:
        super().check()
        unknown = set(self.cycles) - set(CYCLES)
        if unknown or len(self.means) != len(self.spreads):
            raise ValueError(f"cycles: {self.cycles}, {len(self.means)} means and {len(self.spreads)} spreads")
        if min([1.0, *self.spreads, *self.scales.values()]) <= 0:
            raise ValueError("spreads, scales: expected numbers above 0, got others")

    @property
    def inputs(self) -> int:
        """Numbers of a step."""
        return 5 + 2 * len(self.cycles) + len(self.means)

    def scale(self, series: Series) -> float:
        """The unit of scores of a series; of one that was not learned from, by all of its own values."""
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
        own, asked = ([getattr(source, name) for name in Sizes._fields] for source in (self, options))
        if own != asked:
            raise ValueError(f"{', '.join(Sizes._fields)} of {own}, where the options have {asked}")
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        return {"inputs": self.inputs, "horizon": self.horizon} | {name: getattr(options, name) for name in names}

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """The window itself; it becomes numbers when its batch is made."""
        return example.input, example.input.steps

    @override
    def collate(self, encoded: Sequence[Any]) -> ForecastBatch:
        return self.batch(encoded)

    @override
    def predict(self, model: Any, batch: ForecastBatch) -> list[Any]:
        """Quantiles (F, 3) in units of the series."""
        quantiles = model(batch.steps, batch.lengths).double()
        return list((quantiles * batch.spread[:, None, None] + batch.last[:, None, None]).numpy())

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        """The first step and the last one."""
        columns = {1: "next step", self.horizon: f"step {self.horizon}"}
        return {name: "{1:.4g} ({0:.4g} to {2:.4g})".format(*prediction[step - 1]) for step, name in columns.items()}

    @override
    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """A row for each step of the horizon."""
        window: Window = example.input
        for step, quantiles in enumerate(prediction, window.origin):
            low, median, high = (float(f"{value:.6g}") for value in quantiles)
            stamp = window.series.stamp(step)
            yield {"series": window.series.name, "time": stamp, "median": median, "low": low, "high": high}

    def batch(self, windows: Sequence[Window]) -> ForecastBatch:
        """Windows as the network takes them."""
        B, F = len(windows), self.horizon
        counts = [window.steps for window in windows]
        steps = np.zeros((max(counts), B, self.inputs), np.float32)
        future, weight = np.zeros((B, F)), np.zeros((B, F))
        last, spread = np.zeros(B), np.zeros(B)
        for b, window in enumerate(windows):
            unit = scale(window.context, self.season)
            known = window.context[~np.isnan(window.context)]
            last[b], spread[b] = known[-1], max(known.std(), FLAT * unit)
            steps[: counts[b], b] = self._steps(window, last[b], spread[b], unit)
            comes = window.future
            seen = ~np.isnan(comes)
            future[b, seen] = (comes[seen] - last[b]) / spread[b]
            weight[b, seen] = spread[b] / self.scale(window.series)
        lengths = torch.tensor(counts) if min(counts) < max(counts) else None
        return ForecastBatch(
            torch.from_numpy(steps),
            lengths,
            torch.from_numpy(future).float(),
            torch.from_numpy(weight).float(),
            torch.from_numpy(last),
            torch.from_numpy(spread),
        )

    def _steps(self, window: Window, last: float, spread: float, unit: float) -> NDArray[Any]:
        """A window step by step (T, D): the value, whether it is known, that of the season before, the mean of all
        seasons before; the spread, the calendar, the covariates.
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
    """The window whose horizon begins there."""
    return Window(series, max(0, origin - sizes.context), origin, sizes.horizon)


def windows(series: Series, sizes: Sizes) -> list[Window]:
    """All windows of a series that have a known value in their context and in their horizon."""
    N, known = len(series.values), np.concatenate(([0], np.cumsum(~np.isnan(series.values))))
    made = (window_at(series, origin, sizes) for origin in range(sizes.least, N - sizes.horizon + 1))
    return [w for w in made if known[w.origin] > known[w.begin] and known[w.origin + w.horizon] > known[w.origin]]


def thinned(found: list[Window], season: int) -> list[Window]:
    """No more than there should be: every so manieth, at all places in the season."""
    every = -(-len(found) // MOST)
    while every > 1 and math.gcd(every, season) > 1:
        every += 1
    return found[::every]


def split_windows(found: Sequence[Window], names: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the windows of each part, by time: no value of a horizon is in a later part's time.

    Args:
        found: all windows.
        names: of the parts that are to be taken from the end of the time, besides what is learned from.
    """
    series = list({id(window.series): window.series for window in found}.values())
    time = np.sort(np.concatenate([s.grid.moments(np.flatnonzero(~np.isnan(s.values))) for s in series]))
    cuts, share = [int(time[-1]) + 1], 1.0
    for name in reversed(names):
        share -= SHARES[name]
        cuts.insert(0, int(time[int(share * len(time))]))
    parts = ["train", *names]
    numbers: dict[str, list[int]] = {name: [] for name in parts}
    for i, window in enumerate(found):
        begin, end = window.series.grid.moments(np.array([window.origin, window.origin + window.horizon - 1]))
        at = int(np.searchsorted(cuts, begin, "right"))
        if end < cuts[at]:
            numbers[parts[at]].append(i)
    for name in parts:
        if not numbers[name]:
            longest = max(len(s.values) for s in series)
            raise BadInput(
                f"forecast: expected room for --horizon {found[0].horizon} in each part of the time, got none in "
                f"{name}: the longest series has {longest} steps; give more data, or a shorter --horizon or --season"
            )
    return numbers


def seasons_before(values: Values, season: int, horizon: int) -> tuple[Values, Values]:
    """At each step, the value a season before, and the mean of those of all seasons before; 0 where there is none.

    Args:
        values: of the context, (C,).
        season: S, steps.
        horizon: F, steps after the context; of those the last season that is known is the one before.

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
