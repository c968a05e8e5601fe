"""Parsing of numbers with a decimal point or comma, and with thousands separators."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.stamps import first_index

Values = NDArray[np.float64]
MISSING = ("", "na", "nan", "n/a", "null", "none")  # in columns of text
MAX_VALUE = 1e150  # sums of squares of many such values fit into float64
GROUP_SPACES = "[ \u00a0\u2009\u202f'\u2019]"  # thousands separators other than a point or a comma
# A number with a decimal comma, or with points as thousands separators.
DECIMAL_COMMA = (
    rf"^[+-]?(\d{{1,3}}((\.|{GROUP_SPACES})\d{{3}})+|\d+),\d+([eE][+-]?\d+)?$|^[+-]?\d{{1,3}}(\.\d{{3}}){{2,}}$"
)
COMMA_GROUPS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"  # a number with commas as thousands separators
UNAMBIGUOUS_GROUPS = (
    r"^[+-]?[1-9]\d{0,2}(,\d{3}){2,}$|,\d{3}\."  # a number whose commas can only be thousands separators
)
POINT_GROUPS = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"  # a number whose points may be thousands separators


def parse_numbers(
    path: Path, cells: pl.Series, option: str, options: ForecastOptions, table: pl.DataFrame
) -> tuple[Values, NDArray[np.bool_]]:
    """Parse a column of numbers.

    Args:
        path: the table's file, for error messages.
        cells: the column.
        option: the option that names the column.
        options: the options of the task.
        table: the table; its other columns help to decide what a comma means.

    Returns:
        Values, NaN where they are missing or unreadable; and a mask of the unreadable ones.

    Raises:
        BadInput: for a column of another type; if a point or a comma is ambiguous.
    """
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(MISSING), None)
        if options.decimal is None:
            _check_separators(path, text, option, table)
        values = _normalize(text, options.decimal or ".").cast(pl.Float64, strict=False)
        missing = text.is_null()
    elif cells.dtype.is_numeric() or cells.dtype in (pl.Boolean, pl.Null):
        values, missing = cells.cast(pl.Float64, strict=False), cells.is_null()
    else:
        raise BadInput(f"{path}: {option}: expected numbers in {cells.name!r:.60}, got {cells.dtype}")
    bad = (~missing & values.is_null()) | (values.is_not_nan() & (values.abs() > MAX_VALUE)).fill_null(False)
    return np.array(values.set(bad, None).fill_null(np.nan).to_numpy(), np.float64), bad.to_numpy()


def is_value(text: str, decimal: str | None) -> bool:
    """Return whether a text is a number or a marker of a missing value."""
    if text.strip().lower() in MISSING:
        return True
    return _normalize(pl.Series([text.strip()]), decimal or ".").count() > 0


def _normalize(text: pl.Series, decimal: str) -> pl.Series:
    """Convert numbers to the notation of Python; null for other texts."""
    point, comma = (r"\.", ",") if decimal == "." else (",", r"\.")
    text = text.str.replace("^\u2212", "-")
    for group in (comma, GROUP_SPACES):
        grouped = text.str.contains(rf"^[+-]?\d{{1,3}}({group}\d{{3}})+({point}\d*)?$").fill_null(False)
        if grouped.any():
            text = text.zip_with(~grouped, text.str.replace_all(group, ""))
    number = text.str.contains(rf"^[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$").fill_null(False)
    logical = text.str.to_lowercase().replace_strict({"true": "1", "false": "0"}, default=None, return_dtype=pl.String)
    return text.str.replace(",", ".", literal=True).zip_with(number, logical)


def _check_separators(path: Path, text: pl.Series, option: str, table: pl.DataFrame) -> None:
    """Check that points and commas are unambiguous.

    Raises:
        BadInput: if they are not.
    """
    groups = text.str.contains(COMMA_GROUPS).fill_null(False)
    commas = text.str.contains(DECIMAL_COMMA).fill_null(False) & ~groups
    points = text.str.contains(POINT_GROUPS).fill_null(False)
    where = f"{path}: {option}: expected numbers in {text.name!r:.60}"
    if commas.any():
        raise BadInput(
            f"{where} with a decimal point, got {text[first_index(commas)]!r:.60} in row {first_index(commas) + 1}; "
            "pass --decimal , if numbers have a decimal comma, or --decimal . if this is a mistake"
        )
    if groups.any() and not text.str.contains(UNAMBIGUOUS_GROUPS).any():
        raise BadInput(
            f"{where}, got {text[first_index(groups)]!r:.60} in row {first_index(groups) + 1}, whose comma may be a "
            "decimal comma or a thousands separator; pass --decimal , or --decimal ."
        )
    if points.any():
        for other in table.iter_columns():
            if other.dtype != pl.String:
                continue
            has_comma = other.str.strip_chars().str.contains(DECIMAL_COMMA).fill_null(False)
            has_comma &= ~other.str.strip_chars().str.contains(COMMA_GROUPS).fill_null(False)
            if has_comma.any():
                raise BadInput(
                    f"{where}, got {text[first_index(points)]!r:.60} in row {first_index(points) + 1}, whose point may "
                    f"be a thousands separator, because {other.name!r:.60} has decimal commas: "
                    f"{other[first_index(has_comma)]!r:.60} in row {first_index(has_comma) + 1}; pass --decimal , "
                    "or --decimal ."
                )
