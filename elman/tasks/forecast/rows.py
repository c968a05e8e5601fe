"""The rows of tables of time series: read, checked, in order."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from elman.errors import BadInput
from elman.tasks._frame import known
from elman.tasks._parts import is_files
from elman.tasks._table import column, read_table
from elman.tasks.forecast.clock import Clock, Grid, Moments
from elman.tasks.forecast.options import ForecastOptions

Values = NDArray[np.float64]
MISSING = ("", "na", "nan", "n/a", "null", "none")  # in columns of text
SPELLING = ("time", "value", "series")  # of the columns of arrays, which have no names
HOURS = (" %H:%M:%S%.f", " %H:%M:%S", " %H:%M", "")  # of stamps
LARGEST = 1e150  # a value: sums of squares of many such are float64 yet
_BAD = np.iinfo(np.int64).min  # where a stamp cannot be read, and such rows are left out


class Rows(NamedTuple):
    """The rows of one series in order of time: stamps; values and covariates with NaN where they are missing."""

    name: str
    moments: Moments
    values: Values  # (N,)
    covariates: Values  # (N, K)
    zone: str
    dated: bool


def rows(data: Any, options: ForecastOptions) -> list[Rows]:
    """The series of files, of a data frame, or of an array.

    Raises:
        BadInput: for data that cannot be used.
    """
    if data is None:
        raise BadInput("forecast: expected DATA, a table with a column of stamps and a column of values; got none")
    if is_files(data):
        one = len(data) == 1
        names = [str(options.target) if one else path.stem for path in data]
        found = [
            part
            for path, name in zip(data, names, strict=True)
            for part in _rows(path, read_table(path, options.encoding, options.quote), name, options)
        ]
    else:
        table, options = frame(data, options)
        found = _rows(Path("DATA"), table, str(options.target), options)
    (name, count), *_ = Counter(part.name for part in found).most_common(1)
    if count > 1:
        raise BadInput(f"forecast: expected each series in one file, got {name!r} in {count}")
    return found


def frame(data: Any, options: ForecastOptions) -> tuple[pl.DataFrame, ForecastOptions]:
    """What Python has in the place of files, as a table; numbers alone have steps for stamps.

    Raises:
        BadInput: for what is neither a table nor numbers.
    """
    try:
        if not numbers(data):
            if not isinstance(data, pl.DataFrame):
                data = {str(name): _typed(data[name]) for name in getattr(data, "columns", data)}
            return pl.DataFrame(data), options
        values = np.asarray(data, np.float64)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        came = f"{type(data).__name__}: {str(error).splitlines()[0]}"
        raise BadInput(f"DATA: expected a data frame or an array of numbers, got {came}") from None
    if values.ndim not in (1, 2) or not values.size:
        raise BadInput(f"DATA: expected values (N,), or (N, series), got an array {values.shape}")
    N, S = len(values), values.size // len(values)
    time, target, series = SPELLING
    if options.time not in (None, time) or options.target not in (None, target):
        raise BadInput(
            f"DATA: expected a table with the columns {options.time!r} and {options.target!r} (--time and "
            "--target), got numbers alone"
        )
    table = {time: np.tile(np.arange(N), S), target: values.T.ravel(), series: np.repeat(np.arange(S), N)}
    return pl.DataFrame(table), replace(options, time=time, target=target, series=series)


def _typed(values: Any) -> Any:
    """As polars takes it, which knows stamps of whole days and of thousandths of a second, and none in between."""
    if isinstance(values, pl.Series):
        return values
    found = np.asarray(values)
    if found.dtype.kind == "M":
        return found.astype("datetime64[us]")
    return known(values) if found.dtype == object else found


def numbers(data: Any) -> bool:
    """Whether data are values alone, without names of columns."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return isinstance(data, float | int | np.ndarray | Tensor | pl.Series)


def _rows(path: Path, table: pl.DataFrame, name: str, options: ForecastOptions) -> list[Rows]:
    """The series of a table."""
    listed = ", ".join(table.columns)[:200]
    for option, given in (("--time", options.time), ("--target", options.target)):
        if given is None:
            raise BadInput(f"{path}: {option}: expected the name of a column, one of {listed}; got none")
    names = listed_names(options.covariates)
    stamps = column(path, table, str(options.time), "--time")
    for taken in {str(options.time), str(options.target)} & set(names):
        raise BadInput(f"{path}: --covariates: expected columns beside --time and --target, got {taken!r}")
    numbers = {str(options.target): "--target"} | dict.fromkeys(names, "--covariates")
    moments, dated, zone = _moments(path, stamps, options)
    columns = [_numbers(path, column(path, table, one, option), option, options) for one, option in numbers.items()]
    values = np.column_stack(columns) if len(columns) > 1 else columns[0][:, None]
    of = column(path, table, options.series, "--series").cast(pl.String) if options.series else None
    if of is not None and of.null_count():
        raise BadInput(
            f"{path}: --series: expected the name of a series in every row, got none in row {_first(of.is_null())}"
        )
    parts = {name: np.arange(len(table))} if of is None else _by_name(of)
    made = [_ordered(path, key, at, moments[at], values[at], zone, dated, options) for key, at in parts.items()]
    found = [part for part in made if part is not None]
    if not found:
        raise BadInput(f"{path}: expected numbers in {options.target}, got none")
    return found


def _ordered(
    path: Path, name: str, at: Any, moments: Moments, values: Values, zone: str, dated: bool, options: ForecastOptions
) -> Rows | None:
    """A series in order of time; None if it has no values."""
    good = moments != _BAD
    at, moments, values = at[good], moments[good], values[good]
    if (np.diff(moments) < 0).any():
        order = np.argsort(moments, kind="stable")
        at, moments, values = at[order], moments[order], values[order]
        note(f"{path}: {name}: the rows are not in order of time; sorted")
    again = np.flatnonzero(np.diff(moments) == 0) + 1
    if len(again):
        if not options.skip_bad:
            step = Grid(Clock("us" if dated else "", 1), int(moments[again[0]]), 0).name(0, zone)
            raise BadInput(
                f"{path}: expected each stamp once in a series, got {step} again in row {at[again[0]] + 1}"
                f"{f' for {name!r}' if options.series else ''}; name the --series it belongs to, or --skip-bad"
            )
        note(f"{path}: {name}: rows left out, as their stamps were there already: {len(again)}")
        moments, values = np.delete(moments, again), np.delete(values, again, axis=0)
    if np.isnan(values[:, 0]).all():
        note(f"{path}: {name}: left out, as it has no values")
        return None
    return Rows(name, moments, values[:, 0], values[:, 1:], zone, dated)


def _moments(path: Path, stamps: pl.Series, options: ForecastOptions) -> tuple[Moments, bool, str]:
    """Stamps as numbers, whether they are moments, and what stands behind them: Z where they have a zone."""
    kind, zone = stamps.dtype, ""
    if kind.is_numeric():
        found = stamps.cast(pl.Int64, strict=False)
        found = found.set((found.cast(pl.Float64) != stamps.cast(pl.Float64)).fill_null(True), None)
    elif kind == pl.String:
        found, zone = _parsed(path, stamps, options.time_format)
    elif kind == pl.Date or kind == pl.Datetime:
        zone = "Z" if getattr(kind, "time_zone", None) else ""
        found = (stamps.dt.convert_time_zone("UTC") if zone else stamps).cast(pl.Datetime("us")).cast(pl.Int64)
    else:
        raise BadInput(f"{path}: --time: expected stamps in {stamps.name}, got {kind}")
    bad = found.is_null()
    if bad.any():
        row = _first(bad)
        if not options.skip_bad:
            how = f"of the form {options.time_format}" if options.time_format else "like 2016-07-01 13:00:00"
            raise BadInput(
                f"{path}: --time: expected a stamp {how}, got {stamps[row - 1]!r} in row {row}; name another "
                "--time-format, or leave such rows out by --skip-bad"
            )
        note(f"{path}: rows left out, as their stamps cannot be read: {int(bad.sum())}")
    return found.fill_null(_BAD).to_numpy().copy(), not kind.is_numeric(), zone


def _parsed(path: Path, stamps: pl.Series, form: str | None) -> tuple[pl.Series, str]:
    """Microseconds of stamps of text, null where they cannot be read; with a zone, of UTC."""
    text = stamps.str.strip_chars()
    if form is None:
        text = text.str.replace(r"^(\d{4}-\d\d)$", "${1}-01").str.replace("T", " ", literal=True)
        text = text.str.replace(r"\s?(Z|UTC)$", "+00:00")
        offsets = text.str.contains(r"\d\d:\d\d.*[+-]\d\d:?\d\d$").fill_null(False)
        zoned, others = bool(offsets.any()), text.str.contains(r"\d\d:\d\d").fill_null(False) & ~offsets
        if zoned and others.any():
            a, b = _first(offsets), _first(others)
            raise BadInput(
                f"{path}: --time: expected an offset from UTC in all stamps or in none, got one in row {a}, "
                f"{stamps[a - 1]!r}, and none in row {b}, {stamps[b - 1]!r}"
            )
        forms = [f"{day}{hour}{'%z' if zoned else ''}" for day in ("%Y-%m-%d", "%Y/%m/%d") for hour in HOURS]
    else:
        zoned, forms = "%z" in form, [form]
    found = pl.Series([None] * len(text), dtype=pl.Int64)
    for one in forms:
        if found.null_count():
            made = text.str.to_datetime(one, time_unit="us", strict=False)
            found = found.zip_with(
                found.is_not_null(), (made.dt.replace_time_zone(None) if zoned else made).cast(pl.Int64)
            )
    return found, "Z" if zoned else ""


def _numbers(path: Path, cells: pl.Series, option: str, options: ForecastOptions) -> Values:
    """A column of numbers, NaN where they are missing."""
    found = cells
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        found = text.set(text.str.to_lowercase().is_in(MISSING), None)
    elif not cells.dtype.is_numeric() and cells.dtype not in (pl.Boolean, pl.Null):
        raise BadInput(f"{path}: {option}: expected numbers in {cells.name}, got {cells.dtype}")
    made = found.cast(pl.Float64, strict=False)
    bad = (found.is_not_null() & made.is_null()) | (made.is_not_nan() & (made.abs() > LARGEST)).fill_null(False)
    if bad.any():
        row = _first(bad)
        if not options.skip_bad:
            raise BadInput(
                f"{path}: {option}: expected numbers up to {LARGEST:g} in {cells.name}, got {cells[row - 1]!r} in row "
                f"{row}; take such ones for missing by --skip-bad"
            )
        note(f"{path}: {cells.name}: taken for missing, as they are no numbers: {int(bad.sum())}")
        made = made.set(bad, None)
    return np.array(made.fill_null(np.nan).to_numpy(), np.float64)


def listed_names(covariates: Any) -> list[str]:
    """The names in an option: with commas between them; in Python also a list."""
    parts = covariates.split(",") if isinstance(covariates, str) else covariates or []
    return [part.strip() for part in parts]


def note(line: str) -> None:
    """For people, beside the results."""
    print(line, file=sys.stderr)


def _by_name(of: pl.Series) -> dict[str, Any]:
    names = of.to_numpy()
    return {str(name): np.flatnonzero(names == name) for name in of.unique(maintain_order=True)}


def _first(mask: pl.Series) -> int:
    """The row where something is, counted from 1."""
    return int(mask.arg_true()[0]) + 1
