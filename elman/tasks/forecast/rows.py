"""Rows of time series tables: read, checked and sorted by time."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
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
from elman.io.format import counted
from elman.io.terminal import note
from elman.tasks.forecast.frames import DEFAULT_NAMES, column_names, index_of, is_numbers, is_series, to_table
from elman.tasks.forecast.numerals import Values, is_value, parse_numbers
from elman.tasks.forecast.options import COVARIATES, ForecastOptions
from elman.tasks.forecast.stamps import UNREADABLE, Stamps, first_index, parse_stamps

MAX_UTC_OFFSET = 14 * HOUR  # the largest offset ahead of UTC


class SeriesRows(NamedTuple):
    """The rows of one series, sorted by time.

    moments: instants in UTC in microseconds, or the numbers if time stamps are numbers.
    values: NaN where they are missing.
    covariates: those whose future is unknown; NaN where they are missing.
    future_covariates: those whose future is known; NaN where they are missing.
    static_covariates: texts that describe the series.
    zone: the time zone of the stamps; None if they are numbers.
    """

    name: str
    moments: Moments
    values: Values  # (N,)
    covariates: Values  # (N, K)
    future_covariates: Values  # (N, L)
    static_covariates: tuple[str, ...]
    zone: Zone | None


class _TableColumns(NamedTuple):
    """The columns of a table, row by row.

    name: the name of the series, if there is no column of series names.
    stamps: time stamps.
    values: the target, then the covariates, those with a known future last; NaN where they are missing.
    is_used: a mask of the rows to use.
    series: the series name of each row; None if the table has one series.
    static: texts that describe the series of each row, by column.
    """

    path: Path
    name: str
    stamps: Stamps
    values: Values  # (N, 1 + K + L)
    is_used: NDArray[np.bool_]
    series: pl.Series | None
    static: dict[str, pl.Series]


def read_rows(data: Any, options: ForecastOptions) -> tuple[ForecastOptions, list[SeriesRows]]:
    """Read the rows of each series from files, a data frame or an array.

    Returns:
        The options, with names for columns that have none (values alone, an index); and the series.

    Raises:
        BadInput: for data that cannot be used.
    """
    if data is None:
        raise BadInput("forecast: expected DATA, a table with a column of time stamps and a column of values; got none")
    if is_files(data):
        options, read = _read_files(data, options)
    else:
        options = _resolve_python_columns(data, options)
        read = [_read_columns(Path("DATA"), to_table(data, options), str(options.target), options)]
    zone = _resolve_zone(read, options)
    series = [rows for table in read for rows in _split_series(table, zone, options)]
    (name, count), *_ = Counter(rows.name for rows in series).most_common(1)
    if count > 1:
        raise BadInput(f"forecast: expected each series in one file, got {name!r:.100} in {count}")
    return options, series


def _read_files(paths: Sequence[Path], options: ForecastOptions) -> tuple[ForecastOptions, list[_TableColumns]]:
    read = list[_TableColumns]()
    for path in paths:
        table = _read_text_table(path, options)
        options = options if read else _resolve_columns(str(path), table.columns, options)
        read.append(_read_columns(path, table, str(options.target) if len(paths) == 1 else path.stem, options))
    return options, read


def _resolve_python_columns(data: Any, options: ForecastOptions) -> ForecastOptions:
    time, target, series = DEFAULT_NAMES
    if is_numbers(data):
        if options.time not in (None, time) or options.target not in (None, target):
            raise BadInput(
                f"DATA: expected a table with the columns {options.time!r} and {options.target!r} (--time and "
                "--target), got only numbers"
            )
        return options.model_copy(update={"time": time, "target": target, "series": series})
    if options.time is not None and options.target is not None:
        return options
    columns = column_names(data)
    index = index_of(data)
    if index is not None and options.time is None and index.times and index.name not in columns:
        options = options.model_copy(update={"time": index.name})
        options = options.model_copy(update={"target": options.target or (columns[0] if len(columns) == 1 else None)})
        columns = [index.name, *columns]
    if is_series(data):
        options = options.model_copy(
            update={"time": options.time or DEFAULT_NAMES[0], "target": options.target or columns[-1]}
        )
    return _resolve_columns("DATA", columns, options)


def _resolve_columns(where: str, columns: Sequence[str], options: ForecastOptions) -> ForecastOptions:
    """Set the options of columns that need not be named: the target of a table with one column.

    Raises:
        BadInput: if the columns of time stamps and targets are not named.
    """
    if options.time is not None and options.target is not None:
        return options
    unnamed = [name for name in columns if name not in (options.target, options.series, *_covariates(options))]
    if options.time is None and options.target is None and len(columns) == 1:
        return options.model_copy(update={"target": columns[0]})
    if options.time is None and options.target in columns and not unnamed:
        return options
    for option, name in (("--time", options.time), ("--target", options.target)):
        if name is None:
            raise BadInput(f"{where}: {option}: expected the name of a column, one of {listed(columns)}; got none")
    return options


def _read_text_table(path: Path, options: ForecastOptions) -> pl.DataFrame:
    """Read a table from a file, as text. A column of numbers without a header is named "value"."""
    table = read_table(path, options.encoding, options.quote, decimal=options.decimal)
    head = table.columns[0]
    if len(table.columns) > 1 or not is_value(head, options.decimal):
        return table
    return pl.DataFrame({DEFAULT_NAMES[1]: pl.concat([pl.Series([head]), table.to_series().cast(pl.String)])})


def _read_columns(path: Path, table: pl.DataFrame, name: str, options: ForecastOptions) -> _TableColumns:
    """Read the columns to use. Empty rows are not used."""
    _check_names(path, options)
    series = column(path, table, options.series, "--series").cast(pl.String) if options.series else None
    if options.time is None:  # the row numbers of each series
        series_names = pl.DataFrame({"of": [""] * len(table) if series is None else series})
        counts = series_names.select(pl.int_range(pl.len()).over("of")).to_series()
        stamps = Stamps(counts.to_numpy().copy(), None, None, False)
        is_used = np.ones(len(table), np.bool_)
    else:
        of_time = column(path, table, options.time, "--time")
        is_used = ~np.logical_and.reduce([_is_empty(cells) for cells in table])
        stamps = parse_stamps(path, of_time, options)
        bad = (stamps.moments == UNREADABLE) & is_used
        is_used &= ~bad
        if bad.any():
            _check_stamps(path, of_time, bad, stamps.dated, options)
    option_of = {str(options.target): "--target"} | dict.fromkeys(listed_names(options, "covariates"), "--covariates")
    option_of |= dict.fromkeys(listed_names(options, "future_covariates"), "--future-covariates")
    values = []
    for name_of_column, option in option_of.items():
        cells = column(path, table, name_of_column, option)
        value, bad = parse_numbers(path, cells, option, options, table)
        _check_bad(path, cells, option, bad, options)
        values.append(value)
    if series is not None and (missing := series.is_null() & pl.Series(is_used)).any():
        raise BadInput(
            f"{path}: --series: expected the name of a series in every row, got none in row {first_index(missing) + 1}"
        )
    static = {
        name_of_column: column(path, table, name_of_column, "--static-covariates").cast(pl.String)
        for name_of_column in listed_names(options, "static_covariates")
    }
    return _TableColumns(path, name, stamps, np.column_stack(values), is_used, series, static)


def _covariates(options: ForecastOptions) -> list[str]:
    """Return the names of all covariates."""
    return [name for option in COVARIATES for name in listed_names(options, option)]


def _check_names(path: Path, options: ForecastOptions) -> None:
    """Check that no column has two uses.

    Raises:
        BadInput: if one has.
    """
    uses = {name: option for option, name in (("time", options.time), ("target", options.target)) if name}
    for option in COVARIATES:
        for name in listed_names(options, option):
            if name in uses:
                raise BadInput(
                    f"{path}: --{option.replace('_', '-')}: expected columns without another use, got {name!r:.60}, "
                    f"which is one of --{uses[name].replace('_', '-')}, too"
                )
            uses[name] = option


def _is_empty(cells: pl.Series) -> NDArray[np.bool_]:
    is_empty = cells.str.strip_chars() == "" if cells.dtype == pl.String else cells.is_null()
    return is_empty.fill_null(True).to_numpy()


def _check_stamps(path: Path, stamps: pl.Series, bad: NDArray[np.bool_], dated: bool, options: ForecastOptions) -> None:
    """Raise an error for unreadable time stamps; with `--skip-bad`, print how many rows are left out."""
    row = int(bad.argmax())
    if not options.skip_bad:
        form = f"of the form {options.time_format}" if options.time_format else "like 2016-07-01 13:00:00"
        expected = f"a time stamp {form}" if dated else "an integer"
        raise BadInput(
            f"{path}: --time: expected {expected}, got {stamps[row]!r:.100} in row {row + 1}; pass another "
            "--time-format, or pass --skip-bad to skip such rows"
        )
    note(f"{path}: skipped {counted(int(bad.sum()), 'row')} whose time stamps cannot be read")


def _check_bad(path: Path, cells: pl.Series, option: str, bad: NDArray[np.bool_], options: ForecastOptions) -> None:
    if bad.any():
        row = int(bad.argmax())
        if not options.skip_bad:
            raise BadInput(
                f"{path}: {option}: expected numbers up to 1e+150 in {cells.name}, got {cells[row]!r:.100} in row "
                f"{row + 1}; pass --skip-bad to treat unreadable values as missing"
            )
        note(f"{path}: {cells.name}: {counted(int(bad.sum()), 'unreadable value')} treated as missing")


def _resolve_zone(tables: Sequence[_TableColumns], options: ForecastOptions) -> Zone | None:
    """Return the time zone of the stamps; None if they are numbers.

    Raises:
        BadInput: if tables have stamps of different kinds.
    """
    for expected, kinds in (
        ("dates in all files or numbers in all files", [table.stamps.dated for table in tables]),
        (
            "an offset from UTC in the time stamps of all files or of none (or --timezone)",
            [table.stamps.zoned or options.timezone is not None for table in tables],
        ),
    ):
        if len(set(kinds)) > 1:
            odd = tables[kinds.index(not kinds[0])].path
            raise BadInput(f"--time: expected {expected}, but {odd} and {tables[0].path} differ")
    if not tables[0].stamps.dated:
        if options.timezone is not None:
            raise BadInput(f"--timezone: expected dates or times, got numbers in {tables[0].path}")
        return None
    if options.timezone is not None:
        return Zone.parse(options.timezone)
    if not tables[0].stamps.zoned:
        return Zone()
    zones = {table.stamps.zone for table in tables}
    if None not in zones:
        zone = zones.pop() if len(zones) == 1 else Zone("UTC")
        assert zone is not None
    else:
        offsets = [table.stamps.offsets for table in tables]
        zone = zone_of(
            np.concatenate([table.stamps.moments[table.is_used] for table in tables]),
            np.concatenate(
                [
                    np.zeros(int(table.is_used.sum()), np.int64) if of is None else of[table.is_used]
                    for table, of in zip(tables, offsets, strict=True)
                ]
            ),
        )
    if zone.name != "UTC":
        return zone
    return _zone_of_dates(np.concatenate([table.stamps.moments[table.is_used] for table in tables]))


def _zone_of_dates(instants: Moments) -> Zone:
    """Return the time zone of daily stamps that are at two hours of the day in UTC because of daylight saving time.

    In that zone they are at one hour, at midnight if possible. Return UTC if the stamps are not like this.
    """
    hours, once = np.unique(instants % DAY), np.unique(instants)
    if len(hours) != 2 or len(once) < 2 or float(np.median(np.diff(once))) < DAY - 2 * HOUR:
        return Zone("UTC")
    behind = -instants % DAY
    zone = zone_of(instants, np.where(behind > MAX_UTC_OFFSET, behind - DAY, behind))
    return zone if zone.has_rules else zone_of_day(instants)


def _split_series(columns: _TableColumns, zone: Zone | None, options: ForecastOptions) -> Iterator[SeriesRows]:
    """Split a table into its series.

    Raises:
        BadInput: if no series has values.
    """
    moments, indices = columns.stamps.moments, np.flatnonzero(columns.is_used)
    if zone is not None and zone.name and not columns.stamps.zoned:
        moments = moments.copy()
        series = (
            pl.Series([""] * len(indices))
            if columns.series is None
            else columns.series.filter(pl.Series(columns.is_used))
        )
        repeat = (
            pl.DataFrame({"of": series, "at": moments[indices]})
            .select(pl.int_range(pl.len()).over("of", "at"))
            .to_series()
        )
        moments[indices] = zone.instants(moments[indices], repeat.to_numpy() > 0)
    parts = {columns.name: indices}
    if columns.series is not None:
        table = pl.DataFrame({"of": columns.series, "at": np.arange(len(columns.series))}).filter(
            pl.Series(columns.is_used)
        )
        names = table.group_by("of", maintain_order=True).agg("at")
        parts = {name: np.array(rows) for name, rows in names.iter_rows()}
    has_values = False
    for name, places in parts.items():
        part = _sort_rows(columns, name, places, moments[places], zone, options)
        if part is not None:
            has_values = True
            yield part
    if not has_values:
        raise BadInput(f"{columns.path}: expected numbers in {options.target}, got none")


def _sort_rows(
    columns: _TableColumns, name: str, at: Any, moments: Moments, zone: Zone | None, options: ForecastOptions
) -> SeriesRows | None:
    """Sort the rows of a series by time; None if it has no values."""
    path, values = columns.path, columns.values[at]
    static = tuple(_one_text(path, name, column_name, cells[at]) for column_name, cells in columns.static.items())
    if (np.diff(moments) < 0).any():
        order = np.argsort(moments, kind="stable")
        at, moments, values = at[order], moments[order], values[order]
        note(f"{path}: {name}: the rows were not in time order and have been sorted")
    repeated = np.flatnonzero(np.diff(moments) == 0) + 1
    if len(repeated):
        if not options.skip_bad:
            moment = int(moments[repeated[0]])
            stamp = str(moment) if zone is None else shown(moment, zone, days=True)
            raise BadInput(
                f"{path}: expected each time stamp once in a series, got {stamp} again in row {at[repeated[0]] + 1}"
                f"{f' for {name!r:.100}' if options.series else ''}; pass --series if there are several, "
                f"{'--timezone if clocks were set back, ' if zone == Zone() and ':' in stamp else ''}or --skip-bad to "
                "skip repeated rows"
            )
        note(f"{path}: {name}: skipped {counted(len(repeated), 'row')} with repeated time stamps")
        moments, values = np.delete(moments, repeated), np.delete(values, repeated, axis=0)
    if np.isnan(values[:, 0]).all():
        note(f"{path}: {name}: skipped, because it has no values")
        return None
    K = 1 + len(listed_names(options, "covariates"))
    return SeriesRows(name, moments, values[:, 0], values[:, 1:K], values[:, K:], static, zone)


def _one_text(path: Path, series: str, name: str, cells: pl.Series) -> str:
    """Return the text that all rows of a series have in a column, "" for none.

    Raises:
        BadInput: if they have several.
    """
    texts = cells.drop_nulls().str.strip_chars().unique(maintain_order=True)
    texts = texts.filter(texts != "")
    if len(texts) > 1:
        raise BadInput(
            f"{path}: --static-covariates: expected one value of {name!r:.60} in all rows of a series, got "
            f"{texts[0]!r:.60} and {texts[1]!r:.60} for {series!r:.60}"
        )
    return str(texts[0]) if len(texts) else ""


def listed_names(options: ForecastOptions, option: str) -> list[str]:
    """Return the names of columns in an option: a list in Python, or a text with commas between names.

    In a text, a name with commas is quoted as in CSV.

    Args:
        options: the options.
        option: the name of one of them, such as "covariates".

    Raises:
        BadInput: for a text that is not CSV.

    >>> listed_names(ForecastOptions(covariates='wind, "sun, shade",a "b" c'), "covariates")
    ['wind', 'sun, shade', 'a "b" c']
    """
    names: Any = getattr(options, option)
    if isinstance(names, str):
        try:
            names = next(csv.reader([names.replace("\n", " ")], skipinitialspace=True), [])
        except csv.Error as error:
            raise BadInput(f"--{option.replace('_', '-')}: expected names of columns: {error}") from None
    return [name.strip() for name in names or []]
