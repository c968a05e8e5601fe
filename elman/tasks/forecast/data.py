"""Evenly spaced time series, and windows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.data.time_index.clock import TimeStep
from elman.data.time_index.grid import Grid, clock_by, shown
from elman.data.time_index.zone import Moments, Zone
from elman.errors import BadInput
from elman.io.files import check_regular
from elman.io.terminal import note
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.rows import SeriesRows, listed_names, read_rows

RELATIVE_TOLERANCE = 1e-6  # differences below this share of the spread are rounding errors
MIN_SHARED_VALUES = 8  # equal values that identify a series
MAX_STAMP_DEVIATION = 0.1  # of a time stamp from the stamp of its step, as a share of the step
MIN_STEP_SHARE = 0.75  # of the usual number of values, below which a step is incomplete
MIN_STORED_STEPS = 120  # they show on which day of the month the stamps of a series are
MAX_STEPS_PER_VALUE = 3  # in a series with gaps


@dataclass(frozen=True, eq=False)
class Series:
    """An evenly spaced time series, from its first value to its last.

    Args:
        name: the name of the series.
        values: (N,), NaN in gaps.
        covariates: those whose future is unknown, (N, K), NaN in gaps.
        grid: the time stamps of the steps.
        learned: the name of this series in the training data; None if it is not part of them.
        future_covariates: those whose future is known, (N + M, L), NaN in gaps; M steps after the last value.
        static_covariates: texts that describe the series.
    """

    name: str
    values: Values
    covariates: Values
    grid: Grid
    learned: str | None = None
    future_covariates: Values = field(default_factory=lambda: np.zeros((0, 0)))
    static_covariates: tuple[str, ...] = ()
    _units: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _moments: dict[str, tuple[int, Moments]] = field(default_factory=dict, init=False, repr=False)

    def stamp(self, step: int) -> str:
        """Return the time stamp of a step, which may lie after the end."""
        return self.grid.name(step)

    def unit(self, season: int) -> float:
        """Return the mean absolute difference from the values one season before."""
        if season not in self._units:
            self._units[season] = scale(self.values, season)
        return self._units[season]

    def before(self, step: int, horizon: int) -> "Series":
        """Return the part before a step, with what is known in advance of a horizon after it, as a series of its own.

        It is not `learned`: what it is in the training data may depend on values after the step.
        """
        part = replace(
            self,
            learned=None,
            values=self.values[:step],
            covariates=self.covariates[:step],
            future_covariates=self.future_covariates[: step + horizon],
        )
        part._moments.update(self._moments)  # which depend on the grid alone
        return part

    def moments(self, begin: int, end: int) -> Moments:
        """Return the local times of steps, which may lie before the beginning or after the end, (end - begin,)."""
        first, cached = self._moments.get("", (0, np.zeros(0, np.int64)))
        if begin < first or end > first + len(cached):
            first, last = min(begin, first), max(end, first + len(cached), len(self.values))
            cached = self.grid.moments(np.arange(first, last))
            self._moments[""] = first, cached
        return cached[begin - first : end - first]

    def agrees(self, other: "Series") -> bool:
        """Return whether two series have the same values at the time stamps that they share.

        They must share at least `MIN_SHARED_VALUES` known values.
        """
        if other.grid.clock != self.grid.clock or self._differs(other):
            return False
        moments, other_moments = (series.moments(0, len(series.values)) for series in (self, other))
        _, indices, other_indices = np.intersect1d(moments, other_moments, return_indices=True)
        a, b = self.values[indices], other.values[other_indices]
        known = ~(np.isnan(a) | np.isnan(b))
        return int(known.sum()) >= min(MIN_SHARED_VALUES, len(self.values)) and np.allclose(
            a[known], b[known], rtol=RELATIVE_TOLERANCE, atol=0
        )

    def _differs(self, other: "Series") -> bool:
        """Return whether the last value of another series is another one here: most series differ there already."""
        moments, moment = self.moments(0, len(self.values)), other.moments(len(other.values) - 1, len(other.values))[0]
        at = int(np.searchsorted(moments, moment))
        if at == len(moments) or moments[at] != moment:
            return False
        return bool(abs(self.values[at] - other.values[-1]) > RELATIVE_TOLERANCE * abs(other.values[-1]))


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """A part of a series: past values, and the horizon after them.

    Args:
        series: the series.
        begin: the first step of the past.
        origin: the first step of the horizon.
        horizon: the number of steps to forecast.
    """

    series: Series
    begin: int
    origin: int
    horizon: int

    @property
    def past(self) -> Values:
        """The past values, (P,)."""
        return self.series.values[self.begin : self.origin]

    @property
    def future(self) -> Values:
        """The true values of the horizon, (F,); NaN where they are unknown."""
        values = self.series.values[self.origin : self.origin + self.horizon]
        return np.concatenate((values, np.full(self.horizon - len(values), np.nan)))

    def __str__(self) -> str:
        return f"{self.series.name} from {self.series.stamp(self.origin)}"

    def tobytes(self) -> bytes:
        """Return the content as bytes, to find duplicates."""
        end = self.origin + self.horizon
        parts = self.series.values, self.series.covariates, self.series.future_covariates
        static = "\0".join(self.series.static_covariates)
        return f"{self}{static}".encode() + b"".join(part[self.begin : end].tobytes() for part in parts)


class SeriesList(list[Series]):
    """Time series that were read already."""


def read_series(data: Any, options: ForecastOptions) -> SeriesList:
    """Read evenly spaced series from data.

    Raises:
        BadInput: for data that cannot be used.
    """
    if isinstance(data, SeriesList):
        return data
    options, all_rows = read_rows(data, options)
    clock, _ = clock_of(all_rows, options)
    return SeriesList(resample(rows, clock) for rows in all_rows)


def ends_to_csv(all_series: Sequence[Series], options: ForecastOptions) -> str:
    """Return the last steps of series as CSV: at least as many as features are made from."""
    parts = []
    for series in all_series:
        N, length = len(series.values), max(len(series.values), len(series.future_covariates))
        steps = range(max(0, N - max(options.sizes.past, MIN_STORED_STEPS)), length)
        columns: dict[str, Any] = {"series": [series.name] * len(steps), "time": [series.stamp(i) for i in steps]}
        numbers = {"target": series.values[:, None], "covariate": series.covariates, "future": series.future_covariates}
        for name, values in numbers.items():
            for k, column in enumerate(values.T):
                padded = np.concatenate((column[steps.start :], np.full(length - len(column), np.nan)))
                columns[name if name == "target" else f"{name} {k}"] = pl.Series(padded).fill_nan(None)
        columns |= {f"static {k}": [text] * len(steps) for k, text in enumerate(series.static_covariates)}
        parts.append(pl.DataFrame(columns))
    return pl.concat(parts).write_csv()


def read_ends(path: Path, options: ForecastOptions) -> list[Series]:
    """Read the series that `ends_to_csv` wrote.

    Raises:
        BadInput: if the file is damaged.
    """
    check_regular(path, "a table")

    def names(option: str, prefix: str) -> str | None:
        return ",".join(f"{prefix} {k}" for k in range(len(listed_names(options, option)))) or None

    stored = options.model_copy(
        update={
            "time": "time", "target": "target", "series": "series", "time_format": None,
            "covariates": names("covariates", "covariate"),
            "future_covariates": names("future_covariates", "future"),
            "static_covariates": names("static_covariates", "static"),
        }
    )  # fmt: skip
    return read_series([path], stored.model_copy(update={"decimal": ".", "quote": '"', "encoding": "utf-8"}))


def clock_of(rows: Sequence[SeriesRows], options: ForecastOptions) -> tuple[TimeStep, str]:
    """Return the time step, from the options or from the time stamps, and a text on its source."""
    zone = rows[0].zone
    if options.step is None:
        return clock_by([series_rows.moments for series_rows in rows], zone)
    clock = TimeStep.parse(options.step)
    if (zone is not None) != bool(clock.unit):
        kind = (
            "a duration, because the time stamps are dates or times"
            if zone is not None
            else "a number, because the time stamps are numbers"
        )
        raise BadInput(f"--step: expected {kind}; got {options.step!r:.100}")
    return clock, "--step"


def resample(rows: SeriesRows, clock: TimeStep) -> Series:
    """Resample a series to even steps, by the mean of the values of each step.

    If there are several time stamps in a step, a step covers the time from its stamp to the next one. Otherwise each
    value belongs to the nearest step.
    """
    grid = Grid.of(clock, rows.moments, rows.zone or Zone())
    ticks = grid.ticks(rows.moments)
    N = int(ticks[-1]) + 1
    if len(ticks) > 1 and MAX_STEPS_PER_VALUE * len(ticks) < N:
        raise BadInput(
            f"series {rows.name!r:.60}: expected about one value in {clock} (--step), got {len(ticks):,} in {N:,} such "
            "steps; pass another --step"
        )
    columns = np.column_stack((rows.values, rows.covariates, rows.future_covariates))
    known = ~np.isnan(columns)
    sums, counts = np.zeros((N, columns.shape[1])), np.zeros((N, columns.shape[1]))
    np.add.at(sums, ticks, np.where(known, columns, 0))
    np.add.at(counts, ticks, known)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    if (num_steps := int((counts[:, 0] > 1).sum())) > 0:
        num_values = int(counts[counts[:, 0] > 1, 0].sum())
        note(f"{rows.name}: {num_values:,} values averaged to {num_steps:,}, because a step of {clock} has several")
    usual = np.median(counts[:, 0])
    if usual <= 1:
        _tell_deviations(rows, grid, ticks)
    elif grid.whole:
        for step, place in ((0, "first"), (N - 1, "last")):
            if counts[step, 0] < MIN_STEP_SHARE * usual:
                note(
                    f"{rows.name}: the {place} step, {grid.name(step)}, has {int(counts[step, 0])} values, but "
                    f"others have {usual:g}; remove them if this step is incomplete"
                )
    inside = np.flatnonzero(counts[:, 0])
    first, last = inside[0], inside[-1] + 1
    grid = replace(grid, start=grid.start + int(first) * clock.size)
    K = 1 + rows.covariates.shape[1]
    past = means[first:last, 1:K]
    return Series(rows.name, means[first:last, 0], past, grid, rows.name, means[first:, K:], rows.static_covariates)


def _tell_deviations(rows: SeriesRows, grid: Grid, ticks: NDArray[np.int64]) -> None:
    """Print how many time stamps differ from those of their steps, as of a rule that no step follows."""
    moments = rows.moments if rows.zone is None else rows.zone.local(rows.moments)
    deviations = np.abs(moments - grid.moments(ticks))
    is_far = deviations > MAX_STAMP_DEVIATION * grid.clock.length
    if is_far.any():
        at = int(deviations.argmax())
        moment = int(rows.moments[at])
        stamp = str(moment) if rows.zone is None else shown(moment, rows.zone, days=True)
        note(
            f"{rows.name}: {int(is_far.sum()):,} of {len(ticks):,} time stamps do not fall on a step of "
            f"{grid.clock}; the "
            f"farthest, {stamp}, is read as {grid.name(int(ticks[at]))}"
        )


def scale(values: Values, season: int) -> float:
    """Return the mean absolute difference from the values one season before: the unit of MASE.

    Hyndman and Koehler 2006. If that is 0, use the differences from the step before, or else the mean absolute value.

    >>> scale(np.array([1.0, 5.0, 2.0, 7.0]), 2), scale(np.array([1.0, 5.0, 1.0, 5.0]), 2)
    (1.5, 4.0)
    """
    rounding = RELATIVE_TOLERANCE * float(_known(values).std())
    for lag in (season, 1):
        differences = _known(np.abs(values[lag:] - values[:-lag]))
        if len(differences) and (mean := float(differences.mean())) > rounding:
            return mean
    return float(np.abs(_known(values)).mean()) or 1.0


def _known(values: Values) -> Values:
    return values[~np.isnan(values)]
