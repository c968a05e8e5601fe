"""Time series in even steps, and windows of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from elman.errors import BadInput
from elman.tasks.forecast.clock import Clock, Grid, most_common
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.rows import Rows, Values, listed_names, rows

SPARSE = 3  # steps to one value: no more of them can be gaps


@dataclass(frozen=True, eq=False)
class Series:
    """A series in even steps, from its first value to its last.

    Args:
        name: which one.
        values: (N,), NaN in gaps.
        covariates: (N, K), NaN in gaps.
        grid: the stamps of the steps.
        zone: what stands behind a stamp.
    """

    name: str
    values: Values
    covariates: Values
    grid: Grid
    zone: str

    def stamp(self, step: int) -> str:
        """Of a step, also behind the end."""
        return self.grid.name(step, self.zone)


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


def series(data: Any, options: ForecastOptions) -> list[Series]:
    """The series of data in even steps, each from its first value to its last.

    Raises:
        BadInput: for data that cannot be used.
    """
    found = rows(data, options)
    clock = clock_of(found, options)
    return [even(part, clock) for part in found]


def ends(found: Sequence[Series], options: ForecastOptions) -> str:
    """The last steps of series, as many as are read, as CSV."""
    parts = []
    for one in found:
        steps = range(max(0, len(one.values) - options.sizes.context), len(one.values))
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
    own = replace(options, time="time", target="target", series="series", covariates=covariates)
    return series([path], replace(own, time_format=None, encoding="utf-8"))


def clock_of(found: Sequence[Rows], options: ForecastOptions) -> Clock:
    """What was asked for, or else the most common step."""
    dated = found[0].dated
    if options.step is None:
        return most_common([part.moments for part in found], dated)
    clock = Clock.parse(options.step)
    if dated != bool(clock.unit):
        kind = "a time, as the stamps are moments" if dated else "a number, as the stamps are numbers"
        raise BadInput(f"--step: expected {kind}; got {options.step!r}")
    return clock


def even(found: Rows, clock: Clock) -> Series:
    """A series in even steps: the mean of the values that are nearest to each."""
    grid = clock.begin(found.moments)
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
    inside = np.flatnonzero(counts[:, 0])
    first, last = inside[0], inside[-1] + 1
    grid = replace(grid, start=grid.start + int(first) * clock.size)
    return Series(found.name, means[first:last, 0], means[first:last, 1:], grid, found.zone)
