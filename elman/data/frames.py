"""In-memory tables: data frames of any library that narwhals supports, and mappings of columns."""

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np

from elman.errors import BadInput


class Frame:
    """An in-memory table.

    Args:
        data: a data frame, or a mapping from names to columns.

    Raises:
        BadInput: if the data are neither.

    >>> from elman.data.tables import rows
    >>> list(rows(Frame({"text": ["a", "b"], "label": [1, 2]}), {"--label": "label"}))
    [(1,), (2,)]
    """

    suffix, parent = "", Path()

    def __init__(self, data: Any) -> None:
        self._name = type(data).__name__
        try:
            self.columns = {name: replace_missing(values) for name, values in columns_of(data).items()}
        except TypeError as error:
            raise BadInput(f"{self._name}: expected a data frame, or columns by name: {error}") from None
        self.names = list(self.columns)
        counts = {name: len(values) for name, values in self.columns.items()}
        if len(set(counts.values())) > 1:
            raise BadInput(f"{self._name}: expected columns of equal length, got {counts}")

    def __str__(self) -> str:
        return self._name


def columns_of(data: Any) -> dict[str, Any]:
    """Return the columns of a table by name: narwhals series, or the values of a mapping. A lazy frame is collected.

    Raises:
        TypeError: if the data are not a table.
        BadInput: if two columns have the same name.
    """
    if isinstance(data, Mapping):
        columns = [(str(name), values) for name, values in data.items()]
    else:
        try:
            frame = nw.from_native(data)
            eager = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
            columns = [(str(name), eager.get_column(name)) for name in eager.columns]
        except nw.exceptions.DuplicateError as error:
            got = " ".join(str(error).split())
            raise BadInput(f"{type(data).__name__}: expected unique column names; {got}") from None
    by_name = dict(columns)
    if len(by_name) < len(columns):
        raise BadInput(f"{type(data).__name__}: expected unique column names, got {list(data)}")
    return by_name


def series_of(values: Any) -> Any:
    """Convert a series of any library to a narwhals series; return anything else unchanged."""
    return nw.from_native(values, allow_series=True, pass_through=True)


def replace_missing(values: Any) -> list[Any]:
    """Return the values of a column as a list, with None for NaN and for missing values of data frames.

    >>> replace_missing([1.5, float("nan"), "a"])
    [1.5, None, 'a']
    """
    column = series_of(values)
    is_series = isinstance(column, nw.Series)
    is_null = column.is_null().to_list() if is_series else repeat(False)
    return [
        None if is_missing or (isinstance(value, float | np.floating) and np.isnan(value)) else value
        for value, is_missing in zip(column.to_list() if is_series else values, is_null, strict=False)
    ]
