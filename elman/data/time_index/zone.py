"""Time zones: instants in UTC, and what clocks show in a zone at these."""

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from zoneinfo import available_timezones

import numpy as np
import polars as pl
from numpy.typing import NDArray

from elman.errors import BadInput

Moments = NDArray[np.int64]  # microseconds since 1970; of stamps that are whole numbers, these

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
REGIONS = ("Europe", "America", "Asia", "Australia", "Pacific", "Africa")  # in the order in which zones are looked for
LARGE = (  # zones by whose names most people know them
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney",
)  # fmt: skip
PROBES = 200  # instants by which zones are told apart before all are compared
AHEAD = 104  # weeks after the last instant over which zones are compared


@dataclass(frozen=True)
class Zone:
    """A time zone.

    Args:
        name: in the IANA database ("Europe/Berlin"), an offset from UTC ("+05:30"), or "UTC"; "" of stamps that have
            no zone, whose instants are what they show.

    >>> Zone("Europe/Berlin").local(np.array([0, 200 * DAY])) - np.array([0, 200 * DAY]) == HOUR
    array([ True,  True])
    >>> Zone("-03:30").suffix(-3 * HOUR - 30 * MINUTE), Zone("UTC").suffix(0)
    ('-03:30', 'Z')
    """

    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "Zone":
        """The zone of a name or an offset.

        Raises:
            BadInput: if there is none.
        """
        name = "UTC" if text.upper() in ("Z", "UTC", "GMT") else text
        offset = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", name)
        if offset:
            return cls(f"{offset[1]}{offset[2]}:{offset[3]}")
        try:
            pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(name)
        except (pl.exceptions.PolarsError, ValueError):
            raise BadInput(
                f"--timezone: expected a name like Europe/Berlin, UTC, or an offset like +05:30; got {text!r}"
            ) from None
        return cls(name)

    @property
    def _fixed(self) -> int | None:
        """The offset, where it is always the same."""
        if self.name in ("", "UTC"):
            return 0
        if self.name[0] not in "+-":
            return None
        return int(f"{self.name[0]}1") * (int(self.name[1:3]) * HOUR + int(self.name[4:6]) * MINUTE)

    @property
    def rules(self) -> bool:
        """Whether it is more than an offset from UTC."""
        return self._fixed is None

    def local(self, instants: Moments) -> Moments:
        """What clocks show at instants."""
        if self._fixed is not None:
            return instants + self._fixed
        found = pl.Series(instants).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(self.name)
        return _microseconds(found.dt.replace_time_zone(None))

    def instants(self, local: Moments, later: Any = None) -> Moments:
        """When clocks show this. A time that clocks skip is taken an hour later, as they are then.

        Args:
            local: what they show.
            later: where it is shown twice, whether the second is meant; None: the first.
        """
        if self._fixed is not None:
            return np.asarray(local - self._fixed)
        which = "earliest" if later is None else pl.Series(np.where(later, "latest", "earliest"))
        found = self._instants(local, which)
        skipped = found.is_null().to_numpy()
        instants = _microseconds(found.fill_null(strategy="zero"))
        if skipped.any():  # by the offset before; Samoa has skipped a whole day
            instants[skipped] = _microseconds(self._instants(local[skipped] - 30 * HOUR, "earliest")) + 30 * HOUR
        return instants

    def _instants(self, local: Moments, which: Any) -> pl.Series:
        table = pl.DataFrame({"local": pl.Series(local).cast(pl.Datetime("us"))})
        there = pl.lit(which) if isinstance(which, str) else which
        zoned = pl.col("local").dt.replace_time_zone(self.name, ambiguous=there, non_existent="null")
        return table.select(zoned.dt.convert_time_zone("UTC")).to_series()

    def suffix(self, offset: int) -> str:
        """What stands behind a stamp of this zone: Z, or an offset in microseconds as +05:30."""
        if self.name in ("", "UTC"):
            return "Z" if self.name else ""
        hours, minutes = divmod(abs(offset) // MINUTE, 60)
        return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"


def zone_of(instants: Moments, offsets: Moments) -> Zone:
    """The zone in which these instants have these offsets from UTC.

    Offsets that change as they do in zones of the IANA database are those of one of these: of most of them, where they
    differ after the last instant. Others leave UTC.

    Args:
        instants: in any order.
        offsets: of each, in microseconds.

    >>> days = np.arange(18_993, 19_500) * DAY                              # 2022 and some of 2023
    >>> instants = Zone("Australia/Sydney").instants(days)
    >>> found = zone_of(instants, days - instants)
    >>> bool((found.local(instants) == days).all())
    True
    """
    if len(np.unique(offsets)) < 2:
        name = Zone("+").suffix(int(offsets.sum() // max(len(offsets), 1)))
        return Zone("UTC" if name == "+00:00" else name)
    order = np.argsort(instants, kind="stable")
    instants, offsets = instants[order], offsets[order]
    local = instants + offsets
    changes = np.flatnonzero(np.diff(offsets))
    some = np.linspace(0, len(instants) - 1, PROBES).astype(int)
    at = np.unique(np.concatenate((changes[:PROBES], changes[:PROBES] + 1, some)))
    ahead = instants[-1] + np.arange(1, AHEAD) * 7 * DAY
    alike = defaultdict[bytes, list[str]](list)
    for name in available_timezones():
        if _fits(name, instants[at], local[at]):
            alike[Zone(name).local(ahead).tobytes()].append(name)
    for names in sorted(alike.values(), key=lambda names: (-len(names), min(names))):
        zone = Zone(min(names, key=_place))
        if _fits(zone.name, instants, local):
            return zone
    return Zone("UTC")


def zone_of_day(instants: Moments) -> Zone:
    """The zone in which clocks show the same time of the day at all of these instants, of those that change clocks.

    Of several such zones it is one in which that is midnight or a minute before; else one of those that most names
    stand for. UTC where there is none.

    Args:
        instants: in any order.

    >>> closes = Zone("America/New_York").instants(np.arange(18_993, 19_300) * DAY + 16 * HOUR)
    >>> np.unique(zone_of_day(closes).local(closes) % DAY) // HOUR
    array([16])
    """
    instants = np.unique(instants)
    ahead = instants[-1] + np.arange(1, AHEAD) * 7 * DAY
    some = np.unique(np.linspace(0, len(instants) - 1, PROBES).astype(int))
    alike = defaultdict[tuple[bool, bytes], list[str]](list)
    for name in available_timezones():
        zone = Zone(name)
        try:
            if not zone.rules or any(len(np.unique(zone.local(at) % DAY)) > 1 for at in (instants[some], instants)):
                continue
        except pl.exceptions.PolarsError:  # a zone that polars does not know
            continue
        before_midnight = -int(zone.local(instants[:1])[0]) % DAY
        alike[before_midnight <= MINUTE, zone.local(ahead).tobytes()].append(name)
    if not alike:
        return Zone("UTC")
    _, names = max(alike.items(), key=lambda one: (one[0][0], len(one[1]), min(one[1])))
    return Zone(min(names, key=_place))


def _fits(name: str, instants: Moments, local: Moments) -> bool:
    """Whether clocks in a zone show this at these instants; where they skip it, whether these are the instants."""
    try:
        others = np.flatnonzero(Zone(name).local(instants) != local)
        return len(others) < len(local) and bool((Zone(name).instants(local[others]) == instants[others]).all())
    except pl.exceptions.PolarsError:  # a zone that polars does not know
        return False


def _place(name: str) -> tuple[bool, int, bool, str]:
    """The order of names of one zone: well-known ones first; not those that are kept for old programs, as
    Australia/ACT.
    """
    region, _, place = name.partition("/")
    return name not in LARGE, (REGIONS.index(region) if region in REGIONS else len(REGIONS)), place.isupper(), name


def _microseconds(series: pl.Series) -> Moments:
    return series.to_physical().to_numpy().copy()
