"""Numbers as they are written: with a decimal point or comma, and with separators of thousands."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.stamps import first

Values = NDArray[np.float64]
MISSING = ("", "na", "nan", "n/a", "null", "none")  # in columns of text
LARGEST = 1e150  # a value: sums of squares of many such are float64 yet
SPACES = "[ \u00a0\u2009\u202f'\u2019]"  # between thousands, where that is neither a point nor a comma
# A number with a decimal comma, or with points between thousands.
COMMA = rf"^[+-]?(\d{{1,3}}((\.|{SPACES})\d{{3}})+|\d+),\d+([eE][+-]?\d+)?$|^[+-]?\d{{1,3}}(\.\d{{3}}){{2,}}$"
GROUPS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"  # a number with commas between thousands
SURE = r"^[+-]?[1-9]\d{0,2}(,\d{3}){2,}$|,\d{3}\."  # one that can be read in no other way
POINTS = r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$"  # what may be a number with points between thousands


def numbers_of(
    path: Path, cells: pl.Series, option: str, options: ForecastOptions, table: pl.DataFrame
) -> tuple[Values, NDArray[np.bool_]]:
    """A column of numbers, NaN where they are missing, and where there is something that is none.

    Args:
        path: of the table.
        cells: of the column.
        option: that names the column.
        options: of the task.
        table: by whose other columns it is told what a comma means.

    Raises:
        BadInput: for a column of something else; where a point or a comma can mean two things.
    """
    if cells.dtype == pl.String:
        text = cells.str.strip_chars()
        text = text.set(text.str.to_lowercase().is_in(MISSING), None)
        if options.decimal is None:
            _check(path, text, option, table)
        made = _plain(text, options.decimal or ".").cast(pl.Float64, strict=False)
        missing = text.is_null()
    elif cells.dtype.is_numeric() or cells.dtype in (pl.Boolean, pl.Null):
        made, missing = cells.cast(pl.Float64, strict=False), cells.is_null()
    else:
        raise BadInput(f"{path}: {option}: expected numbers in {cells.name!r}, got {cells.dtype}")
    bad = (~missing & made.is_null()) | (made.is_not_nan() & (made.abs() > LARGEST)).fill_null(False)
    return np.array(made.set(bad, None).fill_null(np.nan).to_numpy(), np.float64), bad.to_numpy()


def is_value(text: str, decimal: str | None) -> bool:
    """Whether a text is a number, or what stands for a missing one."""
    if text.strip().lower() in MISSING:
        return True
    return _plain(pl.Series([text.strip()]), decimal or ".").count() > 0


def _plain(text: pl.Series, decimal: str) -> pl.Series:
    """Numbers as Python writes them; null where there is none."""
    point, comma = (r"\.", ",") if decimal == "." else (",", r"\.")
    text = text.str.replace("^\u2212", "-")
    for group in (comma, SPACES):
        grouped = text.str.contains(rf"^[+-]?\d{{1,3}}({group}\d{{3}})+({point}\d*)?$").fill_null(False)
        if grouped.any():
            text = text.zip_with(~grouped, text.str.replace_all(group, ""))
    number = text.str.contains(rf"^[+-]?(\d+({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$").fill_null(False)
    logical = text.str.to_lowercase().replace_strict({"true": "1", "false": "0"}, default=None, return_dtype=pl.String)
    return text.str.replace(",", ".", literal=True).zip_with(number, logical)


def _check(path: Path, text: pl.Series, option: str, table: pl.DataFrame) -> None:
    """Whether it is clear what points and commas mean.

    Raises:
        BadInput: where it is not.
    """
    groups = text.str.contains(GROUPS).fill_null(False)
    commas = text.str.contains(COMMA).fill_null(False) & ~groups
    points = text.str.contains(POINTS).fill_null(False)
    where = f"{path}: {option}: expected numbers in {text.name!r}"
    if commas.any():
        raise BadInput(
            f"{where} with a decimal point, got {text[first(commas)]!r} in row {first(commas) + 1}; pass --decimal , "
            "if numbers have a decimal comma, or --decimal . if this is a mistake"
        )
    if groups.any() and not text.str.contains(SURE).any():
        raise BadInput(
            f"{where}, got {text[first(groups)]!r} in row {first(groups) + 1}, whose comma may be a decimal comma or "
            "stand between thousands; pass --decimal , or --decimal ."
        )
    if points.any():
        for other in table.iter_columns():
            if other.dtype != pl.String:
                continue
            found = other.str.strip_chars().str.contains(COMMA).fill_null(False)
            found &= ~other.str.strip_chars().str.contains(GROUPS).fill_null(False)
            if found.any():
                raise BadInput(
                    f"{where}, got {text[first(points)]!r} in row {first(points) + 1}, whose point may stand between "
                    f"thousands, as {other.name!r} has decimal commas: {other[first(found)]!r} in row "
                    f"{first(found) + 1}; pass --decimal , or --decimal ."
                )
