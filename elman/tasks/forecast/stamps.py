"""Parsing of time stamps."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from elman.data.time_index.zone import HOUR, MINUTE, Moments, Zone
from elman.errors import BadInput
from elman.tasks.forecast.options import ForecastOptions

UNREADABLE = np.iinfo(np.int64).min  # marks stamps that cannot be parsed
EPOCH_UNITS = {"%s": 1_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}  # units of time since 1970, in microseconds
YEAR_RANGE = (1900, 2100)  # in which digits are taken for dates
DIGITS = {  # formats of digits alone, and their number of digits
    "%Y%m%d%H%M%S": 14, "%Y%m%d%H%M": 12, "%Y%m%d%H": 10, "%Y%m%d": 8, "%d%m%Y": 8, "%m%d%Y": 8, "%Y%j": 7, "%Y%m": 6,
    "%y%m%d": 6, "%d%m%y": 6,
}  # fmt: skip
MIN_SHARE = 0.9  # of numbers that look like dates or times, above which a column is ambiguous
EPOCH_DIGITS = {"%s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}  # digits of times since 1973
TIMES = (" %H:%M:%S%.f", " %H:%M:%S", " %H:%M", "")
FORMATS = [f"{day}{hour}" for day in ("%Y-%m-%d", "%Y/%m/%d") for hour in TIMES]
WEEK = "%G-W%V-%u"
PLAIN = r"^\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d(\.\d+)?)?)?$"
REWRITES = {  # regular expressions, and replacements that match one of `FORMATS`
    r"^(\d{4})[- ]?[Mm]?(\d\d?)$": "${1}-${2}-01",
    **{rf"^(\d{{4}})[-/ ]?[Qq]{i + 1}$": f"${{1}}-{3 * i + 1:02}-01" for i in range(4)},
    **{rf"^[Qq]{i + 1}[-/ ]?(\d{{4}})$": f"${{1}}-{3 * i + 1:02}-01" for i in range(4)},
    r"^(\d{4})[- ]?[Ww](\d\d?)$": "${1}-W${2}-1",
    r"^(\d{4})[Ww](\d\d)([1-7])$": "${1}-W${2}-${3}",
    r"^(\d{4})(\d\d)(\d\d)[Tt ](\d\d):?(\d\d):?(\d\d)": "${1}-${2}-${3} ${4}:${5}:${6}",
    r"^(\d{4})(\d\d)(\d\d)[Tt ](\d\d):?(\d\d)($|[Zz+-])": "${1}-${2}-${3} ${4}:${5}${6}",
    r"(:\d\d),(\d+)": "${1}.${2}",
    r"(\d)[Tt](\d)": "${1} ${2}",
    r"\s?(Z|z|UTC|GMT)$": "+00:00",
    r"\s([+-]\d\d:?\d\d)$": "${1}",
    r"(\d\d:\d\d\S*[+-]\d\d)$": "${1}:00",
}
OFFSET = r"\d\d.*([+-])(\d\d):?(\d\d)$"
COMPLETIONS = (  # directives, directives that strptime needs beside them, text and format to append without these
    (("%H", "%I", "%k", "%l"), ("%M",), ":00", ":%M"),
    (("%V", "%W", "%U"), ("%u", "%w", "%a", "%A"), " 1", " %u"),
    (("%Y", "%y"), ("%m", "%b", "%B", "%h", "%j", "%V", "%W", "%U"), " 01", " %m"),
    (("%m", "%b", "%B", "%h"), ("%d", "%e", "%j"), " 01", " %d"),
)
COMPOSITE = ("%c", "%D", "%F", "%R", "%T", "%v", "%x", "%X", "%+", "%r")  # directives that stand for several others


class Stamps(NamedTuple):
    """The time stamps of a table.

    moments: instants in UTC; local times if stamps have no zone; or numbers. Unparsable stamps are `UNREADABLE`.
    offsets: the offset from UTC of each stamp; None if stamps have none.
    zone: the time zone of the column; None if it has none.
    dated: whether stamps are times, not numbers.
    """

    moments: Moments
    offsets: Moments | None
    zone: Zone | None
    dated: bool

    @property
    def zoned(self) -> bool:
        """True if the time stamps are instants in UTC."""
        return self.offsets is not None or self.zone is not None


def parse_stamps(path: Path, column: pl.Series, options: ForecastOptions) -> Stamps:
    """Parse a column of time stamps.

    Raises:
        BadInput: for a column of another type; for digits that may be dates; if only some stamps have a UTC offset.
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        name = getattr(kind, "time_zone", None)
        naive = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if name else column
        return Stamps(_to_moments(naive.cast(pl.Datetime("us"))), None, Zone.parse(name) if name else None, True)
    if not kind.is_numeric() and kind not in (pl.String, pl.Null):
        raise BadInput(f"{path}: --time: expected time stamps in {column.name!r:.100}, got {kind}")
    text = column.cast(pl.String).str.strip_chars()
    numbers = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    if options.time_format is not None:
        return _parse_format(text, options.time_format)
    if options.step is None or not options.step.isdigit():
        _check_numbers(path, text)
    if kind.is_numeric() or numbers.count() * 2 > text.count():
        return Stamps(_to_moments(numbers), None, None, False)
    if not text.str.contains(PLAIN).all():
        for pattern, replacement in REWRITES.items():
            text = text.str.replace(pattern, replacement)
    timed = text.str.contains(r"\d\d:\d\d").fill_null(False)
    offsets = timed & text.str.contains(OFFSET).fill_null(False)
    naive_times = timed & ~offsets
    if offsets.any() and naive_times.any():
        a, b = (int(mask.arg_true()[0]) for mask in (offsets, naive_times))
        raise BadInput(
            f"{path}: --time: expected an offset from UTC in all time stamps or in none, got one in row {a + 1}, "
            f"{column[a]!r:.100}, and none in row {b + 1}, {column[b]!r:.100}"
        )
    return _parse_formats(text, [*FORMATS, WEEK], bool(offsets.any()))


def _parse_format(text: pl.Series, form: str) -> Stamps:
    """Parse stamps in a strptime format or as time since 1970."""
    if form in EPOCH_UNITS:
        whole = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False) * EPOCH_UNITS[form]
        parts = (text.cast(pl.Float64, strict=False) * EPOCH_UNITS[form]).round().cast(pl.Int64, strict=False)
        return Stamps(_to_moments(whole.zip_with(whole.is_not_null(), parts)), None, None, True)
    if form == "ns":
        return Stamps(
            _to_moments(text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False) // 1000), None, None, True
        )
    form = form.replace(".%f", "%.f")  # Python's directive for fractions of seconds
    if "." not in form and text.str.contains(r"^\d+(\.0+)?$").all():  # written as floating-point numbers
        text = text.str.replace(r"\.0+$", "")
    if not any(composite in form for composite in COMPOSITE):
        for directives, required, text_suffix, format_suffix in COMPLETIONS:
            if any(d in form for d in directives) and not any(d in form for d in required):
                text, form = text + text_suffix, form + format_suffix
    return _parse_formats(text, [form], "%z" in form)


def _parse_formats(text: pl.Series, forms: list[str], zoned: bool) -> Stamps:
    """Parse each stamp in the first format that matches.

    Args:
        text: the stamps.
        forms: strptime formats.
        zoned: whether stamps have offsets from UTC.
    """
    moments = pl.Series([None] * len(text), dtype=pl.Int64)
    for form in forms:
        if moments.null_count() > text.null_count():
            full = f"{form}%z" if zoned and "%z" not in form else form
            times = text.str.to_datetime(full, time_unit="us", strict=False)
            naive = times.dt.replace_time_zone(None) if zoned else times
            moments = moments.zip_with(moments.is_not_null(), naive.to_physical())
    if not zoned:
        return Stamps(_to_moments(moments), None, None, True)
    sign, hours, minutes = (text.str.extract(OFFSET, i) for i in (1, 2, 3))
    sizes = hours.cast(pl.Int64) * HOUR + minutes.cast(pl.Int64) * MINUTE
    offsets = sizes.zip_with((sign != "-").fill_null(True), -sizes)
    return Stamps(_to_moments(moments), offsets.fill_null(0).to_numpy(), None, True)


def _check_numbers(path: Path, text: pl.Series) -> None:
    """Check that numbers do not look like dates or like times since 1970.

    Raises:
        BadInput: if they do.
    """
    digits = text.str.extract(r"^(\d+)(\.\d*)?$").drop_nulls()
    if not len(digits) or len(digits) < MIN_SHARE * text.count():
        return
    likely = next((form for form, length in DIGITS.items() if _share_dated(digits, form, length) >= MIN_SHARE), None)
    lengths = digits.str.len_chars()
    likely = likely or next(
        (
            form
            for form, (a, b) in EPOCH_DIGITS.items()
            if float(lengths.is_between(a, b).sum()) >= MIN_SHARE * len(lengths)
        ),
        None,
    )
    if likely:
        raise BadInput(
            f"{path}: --time: expected time stamps, got digits that look like "
            f"{'dates' if len(likely) > 2 else 'times'}, "
            f"{digits[0]} in row 1; pass --time-format {likely}, or --step 1 if they are numbers"
        )


def _share_dated(digits: pl.Series, form: str, length: int) -> float:
    """Return the share of texts that are dates in a format of digits."""
    fits = digits.filter(digits.str.len_chars() == length)
    if len(fits) < MIN_SHARE * len(digits):
        return 0
    moments = _parse_format(fits, form).moments
    moments = moments[moments != UNREADABLE]
    years = 1970 + moments.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
    return float(((years >= YEAR_RANGE[0]) & (years <= YEAR_RANGE[1])).sum() / len(digits))


def _to_moments(times: pl.Series) -> Moments:
    return times.to_physical().cast(pl.Int64).fill_null(UNREADABLE).to_numpy().copy()


def first_index(mask: pl.Series) -> int:
    """Return the index of the first True."""
    return int(mask.arg_true()[0])
