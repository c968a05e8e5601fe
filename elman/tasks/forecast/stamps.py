"""Stamps as they are written, read as moments."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from elman.data.time_index.zone import HOUR, MINUTE, Moments, Zone
from elman.errors import BadInput
from elman.tasks.forecast.options import ForecastOptions

UNREADABLE = np.iinfo(np.int64).min  # in the place of a stamp
EPOCHS = {"%s": 1_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}  # formats that count from 1970, in microseconds
YEARS = (1900, 2100)  # of digits that may be dates
DIGITS = {  # formats of digits alone, and how many they have
    "%Y%m%d%H%M%S": 14, "%Y%m%d%H%M": 12, "%Y%m%d%H": 10, "%Y%m%d": 8, "%d%m%Y": 8, "%m%d%Y": 8, "%Y%j": 7, "%Y%m": 6,
    "%y%m%d": 6, "%d%m%y": 6,
}  # fmt: skip
MOST = 0.9  # of digits: so many look like dates or times where these are meant
COUNTS = {"%s": (9, 10), "ms": (12, 13), "us": (15, 16), "ns": (18, 19)}  # digits of moments since 1973
HOURS = (" %H:%M:%S%.f", " %H:%M:%S", " %H:%M", "")
FORMATS = [f"{day}{hour}" for day in ("%Y-%m-%d", "%Y/%m/%d") for hour in HOURS]
WEEK = "%G-W%V-%u"
PLAIN = r"^\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d(\.\d+)?)?)?$"
WRITTEN = {  # ways to write a stamp, and the same as one of `FORMATS`
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
COMPLETE = (  # directives, those that strptime wants with them, and what is added if there are none
    (("%H", "%I", "%k", "%l"), ("%M",), ":00", ":%M"),
    (("%V", "%W", "%U"), ("%u", "%w", "%a", "%A"), " 1", " %u"),
    (("%Y", "%y"), ("%m", "%b", "%B", "%h", "%j", "%V", "%W", "%U"), " 01", " %m"),
    (("%m", "%b", "%B", "%h"), ("%d", "%e", "%j"), " 01", " %d"),
)
WHOLE = ("%c", "%D", "%F", "%R", "%T", "%v", "%x", "%X", "%+", "%r")  # directives that are several in one


class Stamps(NamedTuple):
    """The stamps of a table.

    moments: instants in UTC; local times where stamps have no zone; or numbers. `UNREADABLE` in the place of others.
    offsets: from UTC, of each, where they have these.
    zone: where the column has one.
    dated: whether they are moments, and not numbers.
    """

    moments: Moments
    offsets: Moments | None
    zone: Zone | None
    dated: bool

    @property
    def zoned(self) -> bool:
        """Whether moments are instants."""
        return self.offsets is not None or self.zone is not None


def stamps_of(path: Path, column: pl.Series, options: ForecastOptions) -> Stamps:
    """The stamps in a column.

    Raises:
        BadInput: for a column of something else; for digits that may be dates; where some stamps have an offset from
            UTC and some have none.
    """
    kind = column.dtype
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        name = getattr(kind, "time_zone", None)
        naive = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if name else column
        return Stamps(_filled(naive.cast(pl.Datetime("us"))), None, Zone.parse(name) if name else None, True)
    if not kind.is_numeric() and kind not in (pl.String, pl.Null):
        raise BadInput(f"{path}: --time: expected stamps in {column.name!r}, got {kind}")
    text = column.cast(pl.String).str.strip_chars()
    numbers = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    if options.time_format is not None:
        return _formatted(text, options.time_format)
    if options.step is None or not options.step.isdigit():
        _check_numbers(path, text)
    if kind.is_numeric() or numbers.count() * 2 > text.count():
        return Stamps(_filled(numbers), None, None, False)
    if not text.str.contains(PLAIN).all():
        for written, form in WRITTEN.items():
            text = text.str.replace(written, form)
    timed = text.str.contains(r"\d\d:\d\d").fill_null(False)
    offsets = timed & text.str.contains(OFFSET).fill_null(False)
    others = timed & ~offsets
    if offsets.any() and others.any():
        a, b = (int(mask.arg_true()[0]) for mask in (offsets, others))
        raise BadInput(
            f"{path}: --time: expected an offset from UTC in all stamps or in none, got one in row {a + 1}, "
            f"{column[a]!r}, and none in row {b + 1}, {column[b]!r}"
        )
    return _parsed(text, [*FORMATS, WEEK], bool(offsets.any()))


def _formatted(text: pl.Series, form: str) -> Stamps:
    """Stamps of a format of strptime, or that count from 1970."""
    if form in EPOCHS:
        whole = text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False) * EPOCHS[form]
        parts = (text.cast(pl.Float64, strict=False) * EPOCHS[form]).round().cast(pl.Int64, strict=False)
        return Stamps(_filled(whole.zip_with(whole.is_not_null(), parts)), None, None, True)
    if form == "ns":
        return Stamps(_filled(text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False) // 1000), None, None, True)
    form = form.replace(".%f", "%.f")  # as Python writes parts of seconds
    if "." not in form and text.str.contains(r"^\d+(\.0+)?$").all():  # digits that a program has written as numbers
        text = text.str.replace(r"\.0+$", "")
    if not any(one in form for one in WHOLE):
        for directives, wanted, more, directive in COMPLETE:
            if any(one in form for one in directives) and not any(one in form for one in wanted):
                text, form = text + more, form + directive
    return _parsed(text, [form], "%z" in form)


def _parsed(text: pl.Series, forms: list[str], zoned: bool) -> Stamps:
    """Stamps of the first of these formats that they have.

    Args:
        text: the stamps.
        forms: of strptime.
        zoned: whether they have offsets from UTC.
    """
    found = pl.Series([None] * len(text), dtype=pl.Int64)
    for form in forms:
        if found.null_count() > text.null_count():
            full = f"{form}%z" if zoned and "%z" not in form else form
            made = text.str.to_datetime(full, time_unit="us", strict=False)
            naive = made.dt.replace_time_zone(None) if zoned else made
            found = found.zip_with(found.is_not_null(), naive.to_physical())
    if not zoned:
        return Stamps(_filled(found), None, None, True)
    sign, hours, minutes = (text.str.extract(OFFSET, i) for i in (1, 2, 3))
    sizes = hours.cast(pl.Int64) * HOUR + minutes.cast(pl.Int64) * MINUTE
    offsets = sizes.zip_with((sign != "-").fill_null(True), -sizes)
    return Stamps(_filled(found), offsets.fill_null(0).to_numpy(), None, True)


def _check_numbers(path: Path, text: pl.Series) -> None:
    """Whether digits are numbers, and do not look like dates, or like moments that are counted from 1970.

    Raises:
        BadInput: if they do.
    """
    digits = text.str.extract(r"^(\d+)(\.\d*)?$").drop_nulls()
    if not len(digits) or len(digits) < MOST * text.count():
        return
    found = next((form for form, length in DIGITS.items() if _share_dated(digits, form, length) >= MOST), None)
    lengths = digits.str.len_chars()
    found = found or next(
        (form for form, (a, b) in COUNTS.items() if float(lengths.is_between(a, b).sum()) >= MOST * len(lengths)), None
    )
    if found:
        raise BadInput(
            f"{path}: --time: expected stamps, got digits that look like {'dates' if len(found) > 2 else 'times'}, "
            f"{digits[0]} in row 1; pass --time-format {found}, or --step 1 if they are numbers"
        )


def _share_dated(digits: pl.Series, form: str, length: int) -> float:
    """The share of texts that are dates of a format of digits."""
    fits = digits.filter(digits.str.len_chars() == length)
    if len(fits) < MOST * len(digits):
        return 0
    moments = _formatted(fits, form).moments
    moments = moments[moments != UNREADABLE]
    years = 1970 + moments.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)
    return float(((years >= YEARS[0]) & (years <= YEARS[1])).sum() / len(digits))


def _filled(found: pl.Series) -> Moments:
    return found.to_physical().cast(pl.Int64).fill_null(UNREADABLE).to_numpy().copy()


def first(mask: pl.Series) -> int:
    """The first place where something is."""
    return int(mask.arg_true()[0])
