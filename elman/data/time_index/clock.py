"""Steps: how long they are, and how many of them make a season."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elman.data.time_index.zone import DAY, HOUR, MINUTE, Moments
from elman.errors import BadInput

SECOND = 1_000_000
UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
MONTHS = {"mo": 1, "q": 3, "y": 12}
MONTH = round(365.2425 / 12 * DAY)  # on average
CYCLES = {"day": DAY, "week": 7 * DAY, "year": 12 * MONTH}
WEEKS = 52  # of a year
BUSINESS = 5  # days of a week
WHOLE = 0.02  # of a season in steps, by which it may miss a whole number


@dataclass(frozen=True)
class TimeStep:
    """Steps of the same length.

    Args:
        unit: "us", microseconds; "mo", calendar months; "b", business days, Monday to Friday; or "", of stamps that are
            numbers.
        size: how many of these a step is long.

    >>> TimeStep.parse("15m")
    TimeStep(unit='us', size=900000000)
    >>> str(TimeStep("us", 7200 * 10**6)), str(TimeStep("mo", 12))
    ('2h', '12mo')
    """

    unit: str
    size: int

    @classmethod
    def parse(cls, text: str) -> "TimeStep":
        """The clock of such a word.

        Raises:
            BadInput: for another one.
        """
        found = re.fullmatch(rf"([1-9]\d*)({'|'.join((*UNITS, *MONTHS))}|b|)", text)
        if not found:
            raise BadInput(
                f"--step: expected a number and one of {', '.join((*UNITS, *MONTHS))}, b (business days); got {text!r}"
            )
        count, unit = int(found[1]), found[2]
        if unit in MONTHS:
            return cls("mo", count * MONTHS[unit])
        return cls("us", count * UNITS[unit]) if unit in UNITS else cls(unit, count)

    def __str__(self) -> str:
        if self.unit != "us":
            return f"{self.size}{self.unit}"
        unit = max((unit for unit in UNITS if self.size % UNITS[unit] == 0 and unit != "w"), key=UNITS.__getitem__)
        return f"{self.size // UNITS[unit]}{unit}"

    @property
    def local(self) -> bool:
        """Whether steps are of the calendar: of days that are 23 or 25 hours long where clocks are changed."""
        return self.unit in ("mo", "b") or (self.unit == "us" and self.size % DAY == 0)

    @property
    def length(self) -> int:
        """Microseconds of a step, on average; of numbers, what it is."""
        return self.size * {"mo": MONTH, "b": 7 * DAY // BUSINESS}.get(self.unit, 1)

    @property
    def season(self) -> int:
        """Steps of a season: see `seasonal`."""
        return self.seasonal[0]

    @property
    def seasonal(self) -> tuple[int, str]:
        """Steps of a season, and what that is: a year of steps of a week or longer, a week of days, a day of steps from
        a minute up, an hour of shorter ones; 1 where it is no whole number of steps, or nothing comes again.
        """
        if not self.unit:
            return 1, "none, as stamps are numbers"
        steps, name = self._cycle()
        season = round(steps)
        if season < 1 or abs(season - steps) > WHOLE * steps:
            return 1, f"none, as {name} is no whole number of steps"
        return season, name if season > 1 else f"none, as a step is {name} long"

    def _cycle(self) -> tuple[float, str]:
        if self.unit == "mo":
            return (12 / self.size, "a year") if self.size <= 12 else (1, "a year or more")
        if self.unit == "b":
            return BUSINESS / self.size, "a week"
        if self.size % (7 * DAY) == 0:
            return 7 * DAY * WEEKS / self.size, "a year"
        if self.size >= DAY:
            return 7 * DAY / self.size, "a week"
        return (DAY / self.size, "a day") if self.size >= MINUTE else (HOUR / self.size, "an hour")


def cycles(clock: TimeStep, span: int) -> list[str]:
    """The cycles of the calendar that are longer than a step, and that so many microseconds show at least twice."""
    if not clock.unit:
        return []
    return [name for name, length in CYCLES.items() if clock.length < length and span >= 2 * length]


def phases(moments: Moments, names: Sequence[str]) -> NDArray[np.float32]:
    """Where in these cycles moments are: sines and cosines (N, 2 * cycles)."""
    turns = [2 * np.pi * (moments % CYCLES[name]) / CYCLES[name] for name in names]
    found = [turn(angle) for angle in turns for turn in (np.sin, np.cos)]
    return np.stack(found, 1).astype(np.float32) if found else np.zeros((len(moments), 0), np.float32)
