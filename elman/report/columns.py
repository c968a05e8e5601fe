"""Reads the CSV files of a training as columns of numbers."""

import math
from pathlib import Path

from elman.errors import BadInput
from elman.io import metrics_csv as table

Columns = dict[str, list[float | None]]


def read(path: Path, expected: list[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file.

    Args:
        path: the file.
        expected: names of the columns that must exist.

    Returns:
        The rows, as texts by column name.

    Raises:
        BadInput: if the file cannot be read, or if a column is missing.
    """
    rows = table.read(path)
    missing = [name for name in expected if rows and name not in rows[0]]
    if missing:
        raise BadInput(f"{path}: expected a column {missing[0]!r}, got {', '.join(map(str, rows[0]))[:60]!r}")
    return rows


def numbers(path: Path, rows: list[dict[str, str]], names: list[str]) -> Columns:
    """Convert columns to numbers.

    Args:
        path: the file, for error messages.
        rows: its rows.
        names: names of the columns to convert.

    Returns:
        The columns by name; cells that are empty, nan or inf are None.

    Raises:
        BadInput: if a cell is not a number.
    """
    return {name: [_number(path, name, row, at) for at, row in enumerate(rows, 1)] for name in names}


def _number(path: Path, name: str, row: dict[str, str], at: int) -> float | None:
    try:
        value = float(row[name]) if row[name] else math.nan
    except ValueError:
        raise BadInput(f"{path}: row {at}: {name}: expected a number, got {row[name]!r:.40}") from None
    return value if math.isfinite(value) else None


def both(columns: Columns, x: str, y: str) -> tuple[list[float], list[float]]:
    """Return two columns, without the rows in which either is None."""
    pairs = [(a, b) for a, b in zip(columns[x], columns[y], strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]
