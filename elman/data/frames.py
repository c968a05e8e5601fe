"""Tables that Python has."""

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import BadInput


class Frame:
    """A table that is there already: a data frame of polars or pandas, or columns by name.

    Args:
        data: this.

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
            self.names = [str(name) for name in getattr(data, "columns", data)]
            columns = {name: data[name] for name in getattr(data, "columns", data)}
            once = {str(name): values for name, values in columns.items() if self.names.count(str(name)) == 1}
            self.columns = {name: known(values) for name, values in once.items()}
        except (TypeError, KeyError, IndexError) as error:
            raise BadInput(f"{self._name}: expected a data frame, or columns by name: {error}") from None
        counts = {name: len(values) for name, values in self.columns.items()}
        if len(set(counts.values())) > 1:
            raise BadInput(f"{self._name}: expected columns of one length, got {counts}")

    def __str__(self) -> str:
        return self._name


def known(values: Any) -> list[Any]:
    """A column that Python has, with None where it has nothing: NaN, and what pandas has in its place.

    >>> known([1.5, float("nan"), "a"])
    [1.5, None, 'a']
    """
    there = values.notna() if hasattr(values, "notna") else repeat(True)
    return [
        value if is_there and not (isinstance(value, float | np.floating) and np.isnan(value)) else None
        for value, is_there in zip(values, there, strict=False)
    ]
