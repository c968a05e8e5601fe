"""Time series in even steps, and windows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.data.time_index.clock import TimeStep, phases
from elman.data.time_index.grid import Grid, clock_by, shown
from elman.data.time_index.zone import Zone
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.rows import SeriesRows, listed_names, rows

SAME = 1e-6  # of their spread, by which values have to differ to be others
SHARED = 8  # values by which a series is known again
BESIDE = 0.1  # of a step, by which a stamp may be beside that of its step
PART = 0.75  # of the values of a step, where it is a whole one
ENOUGH = 120  # steps that tell on which day of a month a series has its stamps
SPARSE = 3  # steps to one value: no more of them can be gaps


@dataclass(frozen=True, eq=False)
class Series:
    """A series in even steps, from its first value to its last.

    Args:
        name: which one.
        values: (N,), NaN in gaps.
        covariates: (N, K), NaN in gaps.
        grid: the stamps of the steps.
        learned: the name under which a training knows it; None of one that is not of the training.
    """

    name: str
    values: Values
    covariates: Values
    grid: Grid
    learned: str | None = None
    _units: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _phases: dict[tuple[int, tuple[str, ...]], NDArray[np.float32]] = field(
        default_factory=dict, init=False, repr=False
    )

    def stamp(self, step: int) -> str:
        """Of a step, also behind the end."""
        return self.grid.name(step)

    def unit(self, season: int) -> float:
        """How much its values differ from those a season before."""
        if season not in self._units:
            self._units[season] = scale(self.values, season)
        return self._units[season]

    def phases(self, begin: int, end: int, cycles: Sequence[str]) -> NDArray[np.float32]:
        """Where in cycles of the calendar these steps are: sines and cosines (end - begin, 2 * cycles)."""
        length = max(end, len(self.values))
        found = self._phases.get((length, tuple(cycles)))
        if found is None:
            found = self._phases[length, tuple(cycles)] = phases(self.grid.moments(np.arange(length)), cycles)
        return found[begin:end]

    def agrees(self, other: "Series") -> bool:
        """Whether another one has the same values at the stamps that both have, and has some of these."""
        if other.grid.clock != self.grid.clock:
            return False
        own, theirs = (one.grid.moments(np.arange(len(one.values))) for one in (self, other))
        _, here, there = np.intersect1d(own, theirs, return_indices=True)
        a, b = self.values[here], other.values[there]
        known = ~(np.isnan(a) | np.isnan(b))
        return int(known.sum()) >= min(SHARED, len(self.values)) and np.allclose(a[known], b[known], rtol=SAME, atol=0)


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """A part of a series: some context that is known, and the horizon after it.

    Args:
        series: whose.
        begin: the first step of the context.
        origin: the first step that is not known.
        horizon: how many steps are to be foretold.
    """

    series: Series
    begin: int
    origin: int
    horizon: int

    @property
    def context(self) -> Values:
        """What is known, (C,)."""
        return self.series.values[self.begin : self.origin]

    @property
    def future(self) -> Values:
        """What comes, (F,), as far as it is known; NaN where it is not."""
        found = self.series.values[self.origin : self.origin + self.horizon]
        return np.concatenate((found, np.full(self.horizon - len(found), np.nan)))

    @property
    def steps(self) -> int:
        """Of context and horizon."""
        return self.origin - self.begin + self.horizon

    def __str__(self) -> str:
        return f"{self.series.name} from {self.series.stamp(self.origin)}"

    def tobytes(self) -> bytes:
        """To know it again."""
        end = self.origin + self.horizon
        return str(self).encode() + b"".join(
            part[self.begin : end].tobytes() for part in (self.series.values, self.series.covariates)
        )


class SeriesList(list[Series]):
    """Series that were read."""


def series(data: Any, options: ForecastOptions) -> SeriesList:
    """The series of data in even steps, each from its first value to its last.

    Raises:
        BadInput: for data that cannot be used.
    """
    if isinstance(data, SeriesList):
        return data
    options, found = rows(data, options)
    clock, _ = clock_of(found, options)
    return SeriesList(even(part, clock) for part in found)


def ends(found: Sequence[Series], options: ForecastOptions) -> str:
    """The last steps of series, at least as many as are read, as CSV."""
    parts = []
    for one in found:
        steps = range(max(0, len(one.values) - max(options.sizes.context, ENOUGH)), len(one.values))
        columns = {"series": [one.name] * len(steps), "time": [one.stamp(i) for i in steps]}
        numbers = {"target": one.values} | {f"covariate {k}": v for k, v in enumerate(one.covariates.T)}
        known = {name: pl.Series(v[steps.start :]).fill_nan(None) for name, v in numbers.items()}
        parts.append(pl.DataFrame(columns | known))
    return pl.concat(parts).write_csv()


def from_ends(path: Path, options: ForecastOptions) -> list[Series]:
    """The series of which `ends` has told.

    Raises:
        BadInput: if the file is damaged.
    """
    covariates = ",".join(f"covariate {k}" for k in range(len(listed_names(options.covariates)))) or None
    own = replace(options, time="time", target="target", series="series", covariates=covariates, time_format=None)
    return series([path], replace(own, decimal=".", quote='"', encoding="utf-8"))


def clock_of(found: Sequence[SeriesRows], options: ForecastOptions) -> tuple[TimeStep, str]:
    """What was asked for, or else what the stamps show; and how it was found."""
    zone = found[0].zone
    if options.step is None:
        return clock_by([part.moments for part in found], zone)
    clock = TimeStep.parse(options.step)
    if (zone is not None) != bool(clock.unit):
        kind = "a time, as the stamps are moments" if zone is not None else "a number, as the stamps are numbers"
        raise BadInput(f"--step: expected {kind}; got {options.step!r}")
    return clock, "--step"


def even(found: SeriesRows, clock: TimeStep) -> Series:
    """A series in even steps: the mean of the values of each. Those are in a step from its stamp to the next, where
    stamps are several to a step; and else nearest to it.
    """
    grid = Grid.of(clock, found.moments, found.zone or Zone())
    ticks = grid.ticks(found.moments)
    N = int(ticks[-1]) + 1
    if len(ticks) > 1 and SPARSE * len(ticks) < N:
        raise BadInput(
            f"series {found.name!r}: expected about one value in {clock} (--step), got {len(ticks):,} in {N:,} such "
            "steps; name another --step"
        )
    columns = np.column_stack((found.values, found.covariates))
    known = ~np.isnan(columns)
    sums, counts = np.zeros((N, columns.shape[1])), np.zeros((N, columns.shape[1]))
    np.add.at(sums, ticks, np.where(known, columns, 0))
    np.add.at(counts, ticks, known)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    if (several := int((counts[:, 0] > 1).sum())) > 0:
        many = int(counts[counts[:, 0] > 1, 0].sum())
        note(f"{found.name}: {many:,} values averaged to {several:,}, as there are several in a step of {clock}")
    usual = np.median(counts[:, 0])
    if usual <= 1:
        _tell_beside(found, grid, ticks)
    elif grid.whole:
        for step, which, more in ((0, "first", "came before"), (N - 1, "last", "are to come")):
            if counts[step, 0] < PART * usual:
                note(
                    f"{found.name}: the {which} step, {grid.name(step)}, has {int(counts[step, 0])} values, where "
                    f"others have {usual:g}; leave them out if more {more}"
                )
    inside = np.flatnonzero(counts[:, 0])
    first, last = inside[0], inside[-1] + 1
    grid = replace(grid, start=grid.start + int(first) * clock.size)
    return Series(found.name, means[first:last, 0], means[first:last, 1:], grid, found.name)


def _tell_beside(found: SeriesRows, grid: Grid, ticks: NDArray[np.int64]) -> None:
    """Stamps that are far from those of their steps, as of a rule that no step follows."""
    moments = found.moments if found.zone is None else found.zone.local(found.moments)
    apart = np.abs(moments - grid.moments(ticks))
    beside = apart > BESIDE * grid.clock.length
    if beside.any():
        at = int(apart.argmax())
        moment = int(found.moments[at])
        stamp = str(moment) if found.zone is None else shown(moment, found.zone, days=True)
        note(
            f"{found.name}: {int(beside.sum()):,} of {len(ticks):,} stamps are not those of steps of {grid.clock}; the "
            f"farthest, {stamp}, is read as {grid.name(int(ticks[at]))}"
        )


def scale(values: Values, season: int) -> float:
    """How much values differ from those a season before, on average: the unit of MASE, Hyndman and Koehler 2006.

    Where that is nothing, by those a step before, or by their size.

    >>> scale(np.array([1.0, 5.0, 2.0, 7.0]), 2), scale(np.array([1.0, 5.0, 1.0, 5.0]), 2)
    (1.5, 4.0)
    """
    least = SAME * float(_known(values).std())
    for lag in (season, 1):
        differences = _known(np.abs(values[lag:] - values[:-lag]))
        if len(differences) and (mean := float(differences.mean())) > least:
            return mean
    return float(np.abs(_known(values)).mean()) or 1.0


def _known(values: Values) -> Values:
    return values[~np.isnan(values)]
