"""Tables that Python has: data frames of any library that narwhals knows, and columns by name."""

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np

from elman.errors import BadInput


class Frame:
    """A table that is there already.

    Args:
        data: a data frame, or columns by name.

    Raises:
        BadInput: if it is none.

    >>> from elman.data.tables import rows
    >>> list(rows(Frame({"text": ["a", "b"], "label": [1, 2]}), {"--label": "label"}))
    [(1,), (2,)]
    """

    suffix, parent = "", Path()

    def __init__(self, data: Any) -> None:
        self._name = type(data).__name__
        try:
            self.columns = {name: known(values) for name, values in columns_of(data).items()}
        except TypeError as error:
            raise BadInput(f"{self._name}: expected a data frame, or columns by name: {error}") from None
        self.names = list(self.columns)
        counts = {name: len(values) for name, values in self.columns.items()}
        if len(set(counts.values())) > 1:
            raise BadInput(f"{self._name}: expected columns of one length, got {counts}")

    def __str__(self) -> str:
        return self._name


def columns_of(data: Any) -> dict[str, Any]:
    """The columns of a table by name: series of narwhals, or what stands in a mapping. A lazy frame is collected.

    Raises:
        TypeError: for what is no table.
        BadInput: for columns of the same name.
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
            raise BadInput(f"{type(data).__name__}: expected columns of different names; {got}") from None
    found = dict(columns)
    if len(found) < len(columns):
        raise BadInput(f"{type(data).__name__}: expected columns of different names, got {list(data)}")
    return found


def series_of(values: Any) -> Any:
    """A series of any library as one of narwhals; anything else as it is."""
    return nw.from_native(values, allow_series=True, pass_through=True)


def known(values: Any) -> list[Any]:
    """The values of a column, with None where it has nothing: NaN, and what data frames have in its place.

    >>> known([1.5, float("nan"), "a"])
    [1.5, None, 'a']
    """
    column = series_of(values)
    is_series = isinstance(column, nw.Series)
    missing = column.is_null().to_list() if is_series else repeat(False)
    return [
        None if is_missing or (isinstance(value, float | np.floating) and np.isnan(value)) else value
        for value, is_missing in zip(column.to_list() if is_series else values, missing, strict=False)
    ]
