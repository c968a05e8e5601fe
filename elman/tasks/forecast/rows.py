"""The rows of tables of time series: read, checked, in order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.data.examples import is_files
from elman.data.tables import column, read_table
from elman.data.time_index.grid import shown
from elman.data.time_index.zone import DAY, HOUR, Moments, Zone, zone_of, zone_of_day
from elman.data.validation import listed
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.forecast.frames import SPELLING, frame, index_of, is_series, names_of, numbers
from elman.tasks.forecast.numerals import Values, is_value, numbers_of
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.stamps import UNREADABLE, Stamps, first, stamps_of

AHEAD = 14 * HOUR  # of UTC, at most


class SeriesRows(NamedTuple):
    """The rows of one series in order of time: stamps; values and covariates with NaN where they are missing.

    moments: instants in UTC; of stamps that are numbers, these.
    zone: of the stamps; None of numbers.
    """

    name: str
    moments: Moments
    values: Values  # (N,)
    covariates: Values  # (N, K)
    zone: Zone | None


class _Read(NamedTuple):
    """What was read of a table, row by row: stamps; values and covariates; which rows are used; names of series."""

    path: Path
    name: str
    stamps: Stamps
    values: Values  # (N, 1 + K)
    used: NDArray[np.bool_]
    of: pl.Series | None


def rows(data: Any, options: ForecastOptions) -> tuple[ForecastOptions, list[SeriesRows]]:
    """The series of files, of a data frame, or of an array.

    Returns:
        The options, with names for columns that have none: of values alone, and of an index; and the series.

    Raises:
        BadInput: for data that cannot be used.
    """
    if data is None:
        raise BadInput("forecast: expected DATA, a table with a column of stamps and a column of values; got none")
    if is_files(data):
        options, read = _read_files(data, options)
    else:
        options = _named_in_python(data, options)
        read = [_read(Path("DATA"), frame(data, options), str(options.target), options)]
    zone = _zone(read, options)
    found = [part for one in read for part in _series(one, zone, options)]
    (name, count), *_ = Counter(part.name for part in found).most_common(1)
    if count > 1:
        raise BadInput(f"forecast: expected each series in one file, got {name!r} in {count}")
    return options, found


def _read_files(paths: Sequence[Path], options: ForecastOptions) -> tuple[ForecastOptions, list[_Read]]:
    read = list[_Read]()
    for path in paths:
        table = _table(path, options)
        options = options if read else _named(str(path), table.columns, options)
        read.append(_read(path, table, str(options.target) if len(paths) == 1 else path.stem, options))
    return options, read


def _named_in_python(data: Any, options: ForecastOptions) -> ForecastOptions:
    time, target, series = SPELLING
    if numbers(data):
        if options.time not in (None, time) or options.target not in (None, target):
            raise BadInput(
                f"DATA: expected a table with the columns {options.time!r} and {options.target!r} (--time and "
                "--target), got numbers alone"
            )
        return replace(options, time=time, target=target, series=series)
    if options.time is not None and options.target is not None:
        return options
    columns = names_of(data)
    index = index_of(data)
    if index is not None and options.time is None and index.times and index.name not in columns:
        options = replace(options, time=index.name)
        options = replace(options, target=options.target or (columns[0] if len(columns) == 1 else None))
        columns = [index.name, *columns]
    if is_series(data):
        options = replace(options, time=options.time or SPELLING[0], target=options.target or columns[-1])
    return _named("DATA", columns, options)


def _named(where: str, columns: Sequence[str], options: ForecastOptions) -> ForecastOptions:
    """The options, with a name for the column of values where a table has no other.

    Raises:
        BadInput: where the columns of time and values are not named.
    """
    if options.time is not None and options.target is not None:
        return options
    others = [
        name for name in columns if name not in (options.target, options.series, *listed_names(options.covariates))
    ]
    if options.time is None and options.target is None and len(columns) == 1:
        return replace(options, target=columns[0])
    if options.time is None and options.target in columns and not others:
        return options
    for option, name in (("--time", options.time), ("--target", options.target)):
        if name is None:
            raise BadInput(f"{where}: {option}: expected the name of a column, one of {listed(columns)}; got none")
    return options


def _table(path: Path, options: ForecastOptions) -> pl.DataFrame:
    """A table in a file, its cells as they are written; a column of numbers without a name is called "value"."""
    table = read_table(path, options.encoding, options.quote, decimal=options.decimal)
    head = table.columns[0]
    if len(table.columns) > 1 or not is_value(head, options.decimal):
        return table
    return pl.DataFrame({SPELLING[1]: pl.concat([pl.Series([head]), table.to_series().cast(pl.String)])})


def _read(path: Path, table: pl.DataFrame, name: str, options: ForecastOptions) -> _Read:
    """The columns of a table that are used. Rows that are all empty are not."""
    names = listed_names(options.covariates)
    for taken in {options.time, options.target} & set(names):
        raise BadInput(f"{path}: --covariates: expected columns beside --time and --target, got {taken!r}")
    of = column(path, table, options.series, "--series").cast(pl.String) if options.series else None
    if options.time is None:  # the numbers of rows, of each series
        names_of = pl.DataFrame({"of": [""] * len(table) if of is None else of})
        counts = names_of.select(pl.int_range(pl.len()).over("of")).to_series()
        stamps = Stamps(counts.to_numpy().copy(), None, None, False)
        used = np.ones(len(table), np.bool_)
    else:
        of_time = column(path, table, options.time, "--time")
        used = ~np.logical_and.reduce([_empty(one) for one in table])
        stamps = stamps_of(path, of_time, options)
        bad = (stamps.moments == UNREADABLE) & used
        used &= ~bad
        if bad.any():
            _refuse(path, of_time, bad, stamps.dated, options)
    asked = {str(options.target): "--target"} | dict.fromkeys(names, "--covariates")
    values = []
    for one, option in asked.items():
        cells = column(path, table, one, option)
        value, bad = numbers_of(path, cells, option, options, table)
        _check_bad(path, cells, option, bad, options)
        values.append(value)
    if of is not None and (missing := of.is_null() & pl.Series(used)).any():
        raise BadInput(
            f"{path}: --series: expected the name of a series in every row, got none in row {first(missing) + 1}"
        )
    return _Read(path, name, stamps, np.column_stack(values), used, of)


def _empty(cells: pl.Series) -> NDArray[np.bool_]:
    found = cells.str.strip_chars() == "" if cells.dtype == pl.String else cells.is_null()
    return found.fill_null(True).to_numpy()


def _refuse(path: Path, stamps: pl.Series, bad: NDArray[np.bool_], dated: bool, options: ForecastOptions) -> None:
    """Stamps that cannot be read; or tell that they are left out."""
    row = int(bad.argmax())
    if not options.skip_bad:
        form = f"of the form {options.time_format}" if options.time_format else "like 2016-07-01 13:00:00"
        expected = f"a stamp {form}" if dated else "a whole number"
        raise BadInput(
            f"{path}: --time: expected {expected}, got {stamps[row]!r} in row {row + 1}; name another "
            "--time-format, or leave such rows out by --skip-bad"
        )
    note(f"{path}: rows left out, as their stamps cannot be read: {int(bad.sum())}")


def _check_bad(path: Path, cells: pl.Series, option: str, bad: NDArray[np.bool_], options: ForecastOptions) -> None:
    if bad.any():
        row = int(bad.argmax())
        if not options.skip_bad:
            raise BadInput(
                f"{path}: {option}: expected numbers up to 1e+150 in {cells.name}, got {cells[row]!r} in row "
                f"{row + 1}; pass --skip-bad to treat unreadable values as missing"
            )
        note(f"{path}: {cells.name}: taken for missing, as they are no numbers: {int(bad.sum())}")


def _zone(read: Sequence[_Read], options: ForecastOptions) -> Zone | None:
    """The time zone of stamps; None of stamps that are numbers.

    Raises:
        BadInput: where tables have stamps of several kinds.
    """
    for what, kinds in (
        ("moments in all files or numbers in all files", [one.stamps.dated for one in read]),
        (
            "an offset from UTC in the stamps of all files or of none (or --timezone)",
            [one.stamps.zoned or options.timezone is not None for one in read],
        ),
    ):
        if len(set(kinds)) > 1:
            odd = read[kinds.index(not kinds[0])].path
            raise BadInput(f"--time: expected {what}, got others in {odd} than in {read[0].path}")
    if not read[0].stamps.dated:
        if options.timezone is not None:
            raise BadInput(f"--timezone: expected stamps that are moments, got numbers in {read[0].path}")
        return None
    if options.timezone is not None:
        return Zone.parse(options.timezone)
    if not read[0].stamps.zoned:
        return Zone()
    zones = {one.stamps.zone for one in read}
    if None not in zones:
        zone = zones.pop() if len(zones) == 1 else Zone("UTC")
        assert zone is not None
    else:
        offsets = [one.stamps.offsets for one in read]
        zone = zone_of(
            np.concatenate([one.stamps.moments[one.used] for one in read]),
            np.concatenate(
                [
                    np.zeros(int(one.used.sum()), np.int64) if of is None else of[one.used]
                    for one, of in zip(read, offsets, strict=True)
                ]
            ),
        )
    return _of_days(np.concatenate([one.stamps.moments[one.used] for one in read])) if zone.name == "UTC" else zone


def _of_days(instants: Moments) -> Zone:
    """The zone in which stamps in UTC, on two hours of the day, are at one time of it, midnights if they can be; else
    UTC.
    """
    hours, once = np.unique(instants % DAY), np.unique(instants)
    if len(hours) != 2 or len(once) < 2 or float(np.median(np.diff(once))) < DAY - 2 * HOUR:
        return Zone("UTC")
    behind = -instants % DAY
    zone = zone_of(instants, np.where(behind > AHEAD, behind - DAY, behind))
    return zone if zone.has_rules else zone_of_day(instants)


def _series(read: _Read, zone: Zone | None, options: ForecastOptions) -> Iterator[SeriesRows]:
    """The series of a table.

    Raises:
        BadInput: where none has values.
    """
    moments, at = read.stamps.moments, np.flatnonzero(read.used)
    if zone is not None and zone.name and not read.stamps.zoned:
        moments = moments.copy()
        of = pl.Series([""] * len(at)) if read.of is None else read.of.filter(pl.Series(read.used))
        again = pl.DataFrame({"of": of, "at": moments[at]}).select(pl.int_range(pl.len()).over("of", "at")).to_series()
        moments[at] = zone.instants(moments[at], again.to_numpy() > 0)
    parts = {read.name: at}
    if read.of is not None:
        table = pl.DataFrame({"of": read.of, "at": np.arange(len(read.of))}).filter(pl.Series(read.used))
        names = table.group_by("of", maintain_order=True).agg("at")
        parts = {name: np.array(rows) for name, rows in names.iter_rows()}
    some = False
    for name, places in parts.items():
        part = _ordered(read.path, name, places, moments[places], read.values[places], zone, options)
        if part is not None:
            some = True
            yield part
    if not some:
        raise BadInput(f"{read.path}: expected numbers in {options.target}, got none")


def _ordered(
    path: Path, name: str, at: Any, moments: Moments, values: Values, zone: Zone | None, options: ForecastOptions
) -> SeriesRows | None:
    """A series in order of time; None if it has no values."""
    if (np.diff(moments) < 0).any():
        order = np.argsort(moments, kind="stable")
        at, moments, values = at[order], moments[order], values[order]
        note(f"{path}: {name}: the rows are not in order of time; sorted")
    again = np.flatnonzero(np.diff(moments) == 0) + 1
    if len(again):
        if not options.skip_bad:
            moment = int(moments[again[0]])
            stamp = str(moment) if zone is None else shown(moment, zone, days=True)
            raise BadInput(
                f"{path}: expected each stamp once in a series, got {stamp} again in row {at[again[0]] + 1}"
                f"{f' for {name!r}' if options.series else ''}; name the --series it belongs to, "
                f"{'the --timezone if clocks were set back, ' if zone == Zone() and ':' in stamp else ''}or --skip-bad"
            )
        note(f"{path}: {name}: rows left out, as their stamps were there already: {len(again)}")
        moments, values = np.delete(moments, again), np.delete(values, again, axis=0)
    if np.isnan(values[:, 0]).all():
        note(f"{path}: {name}: left out, as it has no values")
        return None
    return SeriesRows(name, moments, values[:, 0], values[:, 1:], zone)


def listed_names(covariates: Any) -> list[str]:
    """The names in an option: with commas between them; in Python also a list."""
    parts = covariates.split(",") if isinstance(covariates, str) else covariates or []
    return [part.strip() for part in parts]
