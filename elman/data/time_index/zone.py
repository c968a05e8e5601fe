"""Time zones: conversion between instants in UTC and local time."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.errors import BadInput

Moments = NDArray[np.int64]  # microseconds since 1970, or the stamps themselves if they are whole numbers

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
REGIONS = ("Europe", "America", "Asia", "Australia", "Pacific", "Africa")  # regions of preferred zone names, in order
WELL_KNOWN = (  # well-known zone names, which are preferred
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney",
)  # fmt: skip
NUM_PROBES = 200  # number of instants compared before all are compared
WEEKS_AHEAD = 104  # zones are compared for this number of weeks after the last instant


@dataclass(frozen=True)
class Zone:
    """A time zone.

    Args:
        name: name in the IANA database ("Europe/Berlin"), offset from UTC ("+05:30"), or "UTC". "" means stamps without
            a zone, for which local time and instants are the same.

    >>> Zone("Europe/Berlin").local(np.array([0, 200 * DAY])) - np.array([0, 200 * DAY]) == HOUR
    array([ True,  True])
    >>> Zone("-03:30").suffix(-3 * HOUR - 30 * MINUTE), Zone("UTC").suffix(0)
    ('-03:30', 'Z')
    """

    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Zone":
        """Parse a zone name or an offset.

        Raises:
            BadInput: if there is no such zone.
        """
        name = "UTC" if text.upper() in ("Z", "UTC", "GMT") else text
        offset = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", name)
        if offset:
            return cls(f"{offset[1]}{offset[2]}:{offset[3]}")
        try:
            pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(name)
        except (pl.exceptions.PolarsError, ValueError):
            raise BadInput(
                f"--timezone: expected a name like Europe/Berlin, UTC, or an offset like +05:30; got {text!r:.60}"
            ) from None
        return cls(name)

    @property
    def _fixed(self) -> int | None:
        """The offset in microseconds if it is constant, otherwise None."""
        if self.name in ("", "UTC"):
            return 0
        if self.name[0] not in "+-":
            return None
        return int(f"{self.name[0]}1") * (int(self.name[1:3]) * HOUR + int(self.name[4:6]) * MINUTE)

    @property
    def has_rules(self) -> bool:
        """True if the offset from UTC changes."""
        return self._fixed is None

    def local(self, instants: Moments) -> Moments:
        """Convert instants to local time."""
        if self._fixed is not None:
            return instants + self._fixed
        zoned = pl.Series(instants).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(self.name)
        return _microseconds(zoned.dt.replace_time_zone(None))

    def instants(self, local: Moments, later: Any = None) -> Moments:
        """Convert local time to instants. A time that clocks skip is taken as one hour later, as clocks then show it.

        Args:
            local: local times.
            later: for times that occur twice, whether the second one is meant; None means the first.
        """
        if self._fixed is not None:
            return np.asarray(local - self._fixed)
        ambiguous = "earliest" if later is None else pl.Series(np.where(later, "latest", "earliest"))
        converted = self._instants(local, ambiguous)
        skipped = converted.is_null().to_numpy()
        instants = _microseconds(converted.fill_null(strategy="zero"))
        if skipped.any():  # use the offset before the skipped time; Samoa skipped a whole day
            instants[skipped] = _microseconds(self._instants(local[skipped] - 30 * HOUR, "earliest")) + 30 * HOUR
        return instants

    def _instants(self, local: Moments, ambiguous: Any) -> pl.Series:
        table = pl.DataFrame({"local": pl.Series(local).cast(pl.Datetime("us"))})
        choice = pl.lit(ambiguous) if isinstance(ambiguous, str) else ambiguous
        zoned = pl.col("local").dt.replace_time_zone(self.name, ambiguous=choice, non_existent="null")
        return table.select(zoned.dt.convert_time_zone("UTC")).to_series()

    def suffix(self, offset: int) -> str:
        """Return the suffix of a stamp in this zone: Z, or an offset in microseconds formatted as +05:30."""
        if self.name in ("", "UTC"):
            return "Z" if self.name else ""
        hours, minutes = divmod(abs(offset) // MINUTE, 60)
        return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"


def zone_of(instants: Moments, offsets: Moments) -> Zone:
    """Find the time zone in which instants have these offsets from UTC.

    If the offsets change, it is the IANA zone with the same changes; of several that differ after the last instant, the
    one that most names agree with. If there is none, it is UTC.

    Args:
        instants: instants, in any order.
        offsets: offset of each instant, in microseconds.

    >>> days = np.arange(18_993, 19_500) * DAY                              # 2022 and some of 2023
    >>> instants = Zone("Australia/Sydney").instants(days)
    >>> zone = zone_of(instants, days - instants)
    >>> bool((zone.local(instants) == days).all())
    True
    """
    if len(np.unique(offsets)) < 2:
        name = Zone("+").suffix(int(offsets.sum() // max(len(offsets), 1)))
        return Zone("UTC" if name == "+00:00" else name)
    order = np.argsort(instants, kind="stable")
    instants, offsets = instants[order], offsets[order]
    local = instants + offsets
    changes = np.flatnonzero(np.diff(offsets))
    probes = np.linspace(0, len(instants) - 1, NUM_PROBES).astype(int)
    indices = np.unique(np.concatenate((changes[:NUM_PROBES], changes[:NUM_PROBES] + 1, probes)))
    ahead = instants[-1] + np.arange(1, WEEKS_AHEAD) * 7 * DAY
    names_by_future = defaultdict[bytes, list[str]](list)
    for name in available_timezones():
        if _fits(name, instants[indices], local[indices]):
            names_by_future[Zone(name).local(ahead).tobytes()].append(name)
    for names in sorted(names_by_future.values(), key=lambda names: (-len(names), min(names))):
        zone = Zone(min(names, key=_preference))
        if _fits(zone.name, instants, local):
            return zone
    return Zone("UTC")


def zone_of_day(instants: Moments) -> Zone:
    """Find the time zone with clock changes in which all these instants are at the same time of day.

    Of several such zones, one is preferred in which that time is midnight or the minute before, then one that most
    names agree with. If there is none, the result is UTC.

    Args:
        instants: instants, in any order.

    >>> closes = Zone("America/New_York").instants(np.arange(18_993, 19_300) * DAY + 16 * HOUR)
    >>> np.unique(zone_of_day(closes).local(closes) % DAY) // HOUR
    array([16])
    """
    instants = np.unique(instants)
    ahead = instants[-1] + np.arange(1, WEEKS_AHEAD) * 7 * DAY
    probes = np.unique(np.linspace(0, len(instants) - 1, NUM_PROBES).astype(int))
    names_by_future = defaultdict[tuple[bool, bytes], list[str]](list)
    for name in available_timezones():
        zone = Zone(name)
        try:
            if not zone.has_rules or any(
                len(np.unique(zone.local(at) % DAY)) > 1 for at in (instants[probes], instants)
            ):
                continue
        except pl.exceptions.PolarsError:  # a zone that polars does not know
            continue
        before_midnight = -int(zone.local(instants[:1])[0]) % DAY
        names_by_future[before_midnight <= MINUTE, zone.local(ahead).tobytes()].append(name)
    if not names_by_future:
        return Zone("UTC")
    _, names = max(names_by_future.items(), key=lambda item: (item[0][0], len(item[1]), min(item[1])))
    return Zone(min(names, key=_preference))


def _fits(name: str, instants: Moments, local: Moments) -> bool:
    """Return whether instants have these local times in a zone, and skipped local times these instants."""
    try:
        differ = np.flatnonzero(Zone(name).local(instants) != local)
        return len(differ) < len(local) and bool((Zone(name).instants(local[differ]) == instants[differ]).all())
    except pl.exceptions.PolarsError:  # a zone that polars does not know
        return False


def _preference(name: str) -> tuple[bool, int, bool, str]:
    """Return the sort key of a zone name: well-known names first, names kept for old programs (Australia/ACT) last."""
    region, _, place = name.partition("/")
    return name not in WELL_KNOWN, (REGIONS.index(region) if region in REGIONS else len(REGIONS)), place.isupper(), name


def _microseconds(series: pl.Series) -> Moments:
    return series.to_physical().to_numpy().copy()
