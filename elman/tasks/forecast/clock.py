"""Stamps, and the even steps between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput

Moments = NDArray[np.int64]  # microseconds since 1970; of stamps that are whole numbers, these

SECOND = 1_000_000
DAY = 86_400 * SECOND
UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": DAY, "w": 7 * DAY}
CYCLES = {"day": DAY, "week": 7 * DAY, "year": round(365.2425 * DAY)}
SEASONS = ((7 * DAY, 52), (DAY, 7))  # of steps that are so long; shorter ones: below


@dataclass(frozen=True)
class Clock:
    """Steps of the same length.

    Args:
        unit: "us", microseconds; "mo", months, which are of different lengths; or "", of stamps that are numbers.
        size: how many of these a step is long.

    >>> Clock.parse("15m")
    Clock(unit='us', size=900000000)
    >>> str(Clock("us", 7200 * 10**6)), str(Clock("mo", 12))
    ('2h', '12mo')
    """

    unit: str
    size: int

    @classmethod
    def parse(cls, text: str) -> "Clock":
        """The clock of such a word.

        Raises:
            BadInput: for another one.
        """
        found = re.fullmatch(r"([1-9]\d*)(us|ms|s|m|h|d|w|mo|y|)", text)
        if not found:
            raise BadInput(f"--step: expected a number and one of {', '.join(UNITS)}, mo, y; got {text!r}")
        count, unit = int(found[1]), found[2]
        if unit in ("mo", "y"):
            return cls("mo", count * (12 if unit == "y" else 1))
        return cls("us", count * UNITS[unit]) if unit else cls("", count)

    def __str__(self) -> str:
        if self.unit != "us":
            return f"{self.size}{self.unit}"
        unit = max((unit for unit in UNITS if self.size % UNITS[unit] == 0 and unit != "w"), key=UNITS.__getitem__)
        return f"{self.size // UNITS[unit]}{unit}"

    @property
    def season(self) -> int:
        """Steps of what comes again: of a year, a week, a day or an hour."""
        if self.unit == "mo":
            return max(12 // self.size, 1)
        if self.unit != "us":
            return 1
        for length, season in SEASONS:
            if self.size >= length:
                return season if self.size == length else 1
        return max((DAY if self.size >= UNITS["m"] * 15 else UNITS["h"]) // self.size, 1)

    def begin(self, moments: Moments) -> "Grid":
        """Where the steps of a series stand that has these stamps, in order."""
        if self.unit == "mo":
            offsets = (_offsets(moments, end) for end in (0, 1))
            same = [(int(found[0]), end) for end, found in enumerate(offsets) if (found == found[0]).all()]
            offset, end = same[0] if same else (0, 0)
            return Grid(self, int(_months(moments[:1])[0]) + end, offset)
        phases, counts = np.unique(moments % self.size, return_counts=True)
        phase = int(phases[counts.argmax()]) if counts.max() > 1 else int(moments[0] % self.size)
        half = self.size // 2
        return Grid(self, int((moments[0] - phase + half) // self.size * self.size + phase), 0)


@dataclass(frozen=True)
class Grid:
    """The even steps of a series.

    Args:
        clock: how long they are.
        start: the first one: a moment; of months, how many since 1970.
        offset: microseconds from the beginning of a month to the stamp.
    """

    clock: Clock
    start: int
    offset: int

    def ticks(self, moments: Moments) -> NDArray[np.int64]:
        """The numbers of the steps that are nearest; of months, of those around."""
        size = self.clock.size
        if self.clock.unit == "mo":
            return np.asarray((_months(moments - self.offset) - self.start) // size)
        return np.asarray((moments - self.start + size // 2) // size)

    def moments(self, ticks: NDArray[np.int64]) -> Moments:
        """The stamps of steps."""
        found = self.start + ticks * self.clock.size
        return _begins(found) + self.offset if self.clock.unit == "mo" else np.asarray(found)

    def name(self, tick: int, zone: str = "") -> str:
        """A stamp for people and programs: ISO 8601, or a number."""
        moment = int(self.moments(np.array([tick]))[0])
        if not self.clock.unit:
            return str(moment)
        days = self.clock.unit == "mo" or self.clock.size % DAY == 0
        if days and moment % DAY == 0 and not zone:
            return str(np.datetime64(moment // DAY, "D"))
        whole = moment % SECOND == 0
        stamp = np.datetime64(moment // SECOND, "s") if whole else np.datetime64(moment, "us")
        return str(stamp).replace("T", " ") + zone


def most_common(series: Sequence[Moments], dated: bool) -> Clock:
    """The clock whose step is most often that from one stamp to the next.

    Args:
        series: the stamps of each, in order.
        dated: whether they are moments, or else numbers.

    Raises:
        BadInput: where no series has two stamps.

    >>> hours = np.array([0, 1, 2, 3, 5, 6]) * UNITS["h"]
    >>> str(most_common([hours], True))
    '1h'
    """
    long = [moments for moments in series if len(moments) > 1]
    if not long:
        raise BadInput("--step: expected a series with at least two stamps to find it by, got none; name it")
    unit = "us" if dated else ""
    if dated and all(any((f == f[0]).all() for f in (_offsets(m, 0), _offsets(m, 1))) for m in long):
        unit, long = "mo", [_months(moments) for moments in long]
    steps, counts = np.unique(np.concatenate([np.diff(moments) for moments in long]), return_counts=True)
    return Clock(unit, int(steps[counts.argmax()]))


def cycles(clock: Clock, span: int) -> list[str]:
    """The cycles of the calendar that are longer than a step, and that so many microseconds show at least twice."""
    if not clock.unit:
        return []
    step = clock.size * (30 * DAY if clock.unit == "mo" else 1)
    return [name for name, length in CYCLES.items() if step < length and span >= 2 * length]


def phases(moments: Moments, names: Sequence[str]) -> NDArray[np.float32]:
    """Where in these cycles moments are: sines and cosines (N, 2 * cycles)."""
    turns = [2 * np.pi * (moments % CYCLES[name]) / CYCLES[name] for name in names]
    found = [turn(angle) for angle in turns for turn in (np.sin, np.cos)]
    return np.stack(found, 1).astype(np.float32) if found else np.zeros((len(moments), 0), np.float32)


def _months(moments: Moments) -> Any:
    """Months since 1970."""
    return moments.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _begins(months: Any) -> Moments:
    return np.asarray(months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64))


def _offsets(moments: Moments, end: int) -> Moments:
    """From the beginning of the month, or back from that of the next."""
    return moments - _begins(_months(moments) + end)
