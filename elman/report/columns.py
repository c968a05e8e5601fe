"""The tables that a training writes, as columns of numbers."""

import csv
import math
from pathlib import Path

from elman.errors import BadInput
from elman.io import metrics_csv as table

Columns = dict[str, list[float | None]]


def read(path: Path, expected: list[str]) -> list[dict[str, str]]:
    """The rows of a table.

    Raises:
        BadInput: if it cannot be read, or lacks a column.
    """
    try:
        rows = table.read(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: expected a table of numbers, got something else: {error}") from None
    lacking = [name for name in expected if rows and name not in rows[0]]
    if lacking:
        raise BadInput(f"{path}: expected a column {lacking[0]!r}, got {', '.join(map(str, rows[0]))[:60]!r}")
    return rows


def numbers(path: Path, rows: list[dict[str, str]], names: list[str]) -> Columns:
    """Some columns of a table; None where a cell is empty, or holds what can be drawn nowhere: nan, inf.

    Raises:
        BadInput: for a cell that holds no number.
    """
    return {name: [_number(path, name, row, at) for at, row in enumerate(rows, 1)] for name in names}


def _number(path: Path, name: str, row: dict[str, str], at: int) -> float | None:
    try:
        value = float(row[name]) if row[name] else math.nan
    except ValueError:
        raise BadInput(f"{path}: row {at}: {name}: expected a number, got {row[name]!r:.40}") from None
    return value if math.isfinite(value) else None


def both(columns: Columns, x: str, y: str) -> tuple[list[float], list[float]]:
    """Two columns, where there is a number in both."""
    pairs = [(a, b) for a, b in zip(columns[x], columns[y], strict=True) if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]
