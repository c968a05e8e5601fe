"""Time series that Python has, in the place of files: data frames, series of pandas, arrays."""

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

SPELLING = ("time", "value", "series")  # of the columns of arrays, which have no names
TABLES = "a data frame, columns by name, a series of pandas or an array of numbers"  # of Python


def frame(data: Any, options: ForecastOptions) -> pl.DataFrame:
    """What Python has in the place of files, as a table; numbers alone have steps for stamps.

    Args:
        data: a data frame, columns by name, a series of pandas, or numbers.
        options: with names for all columns, as `named` gives them.

    Raises:
        BadInput: for what is neither a table nor numbers.
    """
    try:
        if not numbers(data):
            if isinstance(data, pl.DataFrame):
                return data
            if is_series(data):
                columns = {str(options.target): _typed(data)}
            else:
                columns = {name: _typed(values) for name, values in columns_of(data).items()}
            index = index_of(data)
            if index is not None and options.time not in (None, *columns) and _means(data, index, options):
                columns[str(options.time)] = _typed(index.values)
            return pl.DataFrame(columns)
        values = np.asarray(data, np.float64)
    except (TypeError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
        came = f"{type(data).__name__}: {str(error).splitlines()[0]}"
        raise BadInput(f"DATA: expected {TABLES}, got {came}") from None
    if values.ndim not in (1, 2) or not values.size:
        raise BadInput(f"DATA: expected values (N,), or (N, series), got an array {values.shape}")
    N, S = len(values), values.size // len(values)
    time, target, series = SPELLING
    return pl.DataFrame(
        {time: np.tile(np.arange(N), S), target: values.T.ravel(), series: np.repeat(np.arange(S), N).astype(str)}
    )


def names_of(data: Any) -> list[str]:
    """The names of the columns of a table that Python has."""
    if is_series(data):
        return [SPELLING[1] if data.name is None else str(data.name)]
    if not is_table(data):
        raise BadInput(f"DATA: expected {TABLES}, got {described(data)}")
    return list(columns_of(data))


def is_series(data: Any) -> bool:
    """Whether data are a series of pandas: values with an index, and no columns."""
    index = getattr(data, "index", None)
    return index is not None and not callable(index) and not hasattr(data, "columns")


class _Index(NamedTuple):
    """The index of a table or a series of pandas; of periods, when they begin."""

    name: str
    values: Any
    times: bool  # whether it says times


def index_of(data: Any) -> _Index | None:
    """The index of a table or a series of pandas; None where there is none.

    Raises:
        BadInput: for a series with an index of several levels.
    """
    index = getattr(data, "index", None)
    if index is None or callable(index):
        return None
    if getattr(index, "nlevels", 1) > 1:
        if is_series(data):
            raise BadInput("DATA: expected one index of times, got several levels; make a table by reset_index()")
        return None
    index = index.to_timestamp() if hasattr(index, "to_timestamp") else index
    name = SPELLING[0] if getattr(index, "name", None) is None else str(index.name)
    return _Index(name, index.to_series(), "M" in (np.asarray(index[:1]).dtype.kind, getattr(index.dtype, "kind", "")))


def _means(data: Any, index: _Index, options: ForecastOptions) -> bool:
    """Whether the column of time is the index."""
    return is_series(data) or options.time == index.name or (index.times and SPELLING[0] in (options.time, index.name))


def _typed(values: Any) -> Any:
    """As polars takes it. Times are in microseconds, with their zone or, where polars does not know it, as texts."""
    if hasattr(getattr(values, "dt", None), "to_timestamp"):  # periods of pandas
        values = values.dt.to_timestamp()
    column = series_of(values)
    if not isinstance(column, nw.Series):
        found = np.asarray(values)
        if found.dtype.kind == "M":
            return found.astype("datetime64[us]")
        return replace_missing(values) if found.dtype == object else found
    if isinstance(native := column.to_native(), pl.Series):
        return native
    zone = column.dtype.time_zone if isinstance(column.dtype, nw.Datetime) else None
    if zone is not None:
        utc = pl.Series(_moments(column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)))
        try:
            return utc.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        except pl.exceptions.PolarsError:  # an offset
            return pl.Series([None if time is None else time.isoformat() for time in replace_missing(values)])
    if column.dtype.is_temporal():
        return _moments(column)
    is_whole = column.dtype.is_float() or (column.dtype.is_numeric() and not column.is_null().any())
    return column.to_numpy() if is_whole else replace_missing(values)


def _moments(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy()).astype("datetime64[us]")


def numbers(data: Any) -> bool:
    """Whether data are values alone, without names of columns."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return isinstance(data, float | int | np.ndarray | Tensor | pl.Series)
