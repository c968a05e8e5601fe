"""Time series as Python objects: data frames, pandas Series, arrays."""

from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from elman.data.frames import columns_of, replace_missing, series_of
from elman.data.validation import described, is_table
from elman.errors import BadInput
from elman.tasks.forecast.options import ForecastOptions

DEFAULT_NAMES = ("time", "value", "series")  # of the columns of arrays
TABLES = "a data frame, columns by name, a series of pandas or an array of numbers"


def to_table(data: Any, options: ForecastOptions) -> pl.DataFrame:
    """Convert a Python object to a table. The time stamps of numbers are 0, 1, 2, ...

    Args:
        data: a data frame, columns by name, a pandas Series, or numbers.
        options: with names for all columns.

    Raises:
        BadInput: for anything that is neither a table nor numbers.
    """
    try:
        if not is_numbers(data):
            if isinstance(data, pl.DataFrame):
                return data
            if is_series(data):
                columns = {str(options.target): _to_polars(data)}
            else:
                columns = {name: _to_polars(values) for name, values in columns_of(data).items()}
            index = index_of(data)
            if index is not None and options.time not in (None, *columns) and _is_time_index(data, index, options):
                columns[str(options.time)] = _to_polars(index.values)
            return pl.DataFrame(columns)
        values = np.asarray(data, np.float64)
    except (TypeError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        actual = f"{type(data).__name__}: {str(error).splitlines()[0]}"
        raise BadInput(f"DATA: expected {TABLES}, got {actual}") from None
    if values.ndim not in (1, 2) or not values.size:
        raise BadInput(f"DATA: expected values (N,), or (N, series), got an array {values.shape}")
    N, S = len(values), values.size // len(values)
    time, target, series = DEFAULT_NAMES
    return pl.DataFrame(
        {time: np.tile(np.arange(N), S), target: values.T.ravel(), series: np.repeat(np.arange(S), N).astype(str)}
    )


def column_names(data: Any) -> list[str]:
    """Return the column names of a data frame, columns by name or a pandas Series."""
    if is_series(data):
        return [DEFAULT_NAMES[1] if data.name is None else str(data.name)]
    if not is_table(data):
        raise BadInput(f"DATA: expected {TABLES}, got {described(data)}")
    return list(columns_of(data))


def is_series(data: Any) -> bool:
    """Return whether data are a pandas Series: values with an index, and no columns."""
    index = getattr(data, "index", None)
    return index is not None and not callable(index) and not hasattr(data, "columns")


class _Index(NamedTuple):
    """The index of a pandas object; for periods, their start times."""

    name: str
    values: Any
    times: bool  # whether it is a datetime index


def index_of(data: Any) -> _Index | None:
    """Return the index of a pandas object; None if data have none.

    Raises:
        BadInput: for a Series with a MultiIndex.
    """
    index = getattr(data, "index", None)
    if index is None or callable(index):
        return None
    if getattr(index, "nlevels", 1) > 1:
        if is_series(data):
            raise BadInput("DATA: expected one index of times, got several levels; make a table by reset_index()")
        return None
    index = index.to_timestamp() if hasattr(index, "to_timestamp") else index
    name = DEFAULT_NAMES[0] if getattr(index, "name", None) is None else str(index.name)
    return _Index(name, index.to_series(), "M" in (np.asarray(index[:1]).dtype.kind, getattr(index.dtype, "kind", "")))


def _is_time_index(data: Any, index: _Index, options: ForecastOptions) -> bool:
    """Return whether the index is the time column."""
    return (
        is_series(data)
        or options.time == index.name
        or (index.times and DEFAULT_NAMES[0] in (options.time, index.name))
    )


def _to_polars(values: Any) -> Any:
    """Convert values to a type that polars takes.

    Times are in microseconds with their time zone, or texts if polars does not know the time zone.
    """
    if hasattr(getattr(values, "dt", None), "to_timestamp"):  # pandas periods
        values = values.dt.to_timestamp()
    column = series_of(values)
    if not isinstance(column, nw.Series):
        array = np.asarray(values)
        if array.dtype.kind == "M":
            return array.astype("datetime64[us]")
        return replace_missing(values) if array.dtype == object else array
    if isinstance(native := column.to_native(), pl.Series):
        return native
    zone = column.dtype.time_zone if isinstance(column.dtype, nw.Datetime) else None
    if zone is not None:
        utc = pl.Series(_moments(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)))
        try:
            return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        except pl.exceptions.PolarsError:  # a fixed offset, not a named time zone
            return pl.Series([None if time is None else time.isoformat() for time in replace_missing(values)])
    if column.dtype.is_temporal():
        return _moments(column)
    is_whole = column.dtype.is_float() or (column.dtype.is_numeric() and not column.is_null().any())
    return column.to_numpy() if is_whole else replace_missing(values)


def _moments(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy()).astype("datetime64[us]")


def is_numbers(data: Any) -> bool:
    """Return whether data are values alone, without column names."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return isinstance(data, float | int | np.ndarray | Tensor | pl.Series)
