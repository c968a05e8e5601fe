"""Time steps: their length and their seasons."""

import re
from dataclasses import dataclass
from typing import Literal

from elman.data.time_index.zone import DAY, HOUR, MINUTE
from elman.errors import BadInput

SECOND = 1_000_000
UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
MONTHS = {"mo": 1, "q": 3, "y": 12}
MONTH = round(365.2425 / 12 * DAY)  # mean length
Cycle = Literal["day", "week", "year"]
CYCLES: dict[Cycle, int] = {"day": DAY, "week": 7 * DAY, "year": 12 * MONTH}
MAX_LENGTH = 1 << 60  # of a step: 36,000 years
WEEKS_PER_YEAR = 52
BUSINESS_DAYS_PER_WEEK = 5
SEASON_TOLERANCE = 0.02  # relative tolerance for a whole number of steps in a season


@dataclass(frozen=True)
class TimeStep:
    """The length of a time step.

    Args:
        unit: "us" for microseconds, "mo" for calendar months, "b" for business days (Monday to Friday), or "" for
            stamps that are numbers.
        size: length of a step in this unit.

    >>> TimeStep.parse("15m")
    TimeStep(unit='us', size=900000000)
    >>> str(TimeStep("us", 7200 * 10**6)), str(TimeStep("mo", 12))
    ('2h', '12mo')
    """

    unit: str
    size: int

    @classmethod
    def parse(cls, text: str) -> "TimeStep":
        """Parse a step such as "15m".

        Raises:
            BadInput: if the text is not a step.
        """
        match = re.fullmatch(rf"([1-9]\d{{0,17}})({'|'.join((*UNITS, *MONTHS))}|b|)", text)
        if not match:
            units = ", ".join((*UNITS, *MONTHS))
            raise BadInput(f"--step: expected a number and one of {units}, b (business days); got {text!r:.60}")
        count, unit = int(match[1]), match[2]
        if unit in MONTHS:
            step = cls("mo", count * MONTHS[unit])
        else:
            step = cls("us", count * UNITS[unit]) if unit in UNITS else cls(unit, count)
        if step.length > MAX_LENGTH:
            raise BadInput(f"--step: expected a step that fits into 64 bits of microseconds, got {text!r:.60}")
        return step

    def __str__(self) -> str:
        if self.unit != "us":
            return f"{self.size}{self.unit}"
        unit = max((unit for unit in UNITS if self.size % UNITS[unit] == 0 and unit != "w"), key=UNITS.__getitem__)
        return f"{self.size // UNITS[unit]}{unit}"

    @property
    def is_local(self) -> bool:
        """True if steps follow local time, in which days have 23 or 25 hours when clocks change."""
        return self.unit in ("mo", "b") or (self.unit == "us" and self.size % DAY == 0)

    @property
    def length(self) -> int:
        """Mean length of a step in microseconds, or its size if stamps are numbers."""
        return self.size * {"mo": MONTH, "b": 7 * DAY // BUSINESS_DAYS_PER_WEEK}.get(self.unit, 1)

    @property
    def season(self) -> int:
        """Number of steps in a season; see `seasonal`."""
        return self.seasonal[0]

    @property
    def seasonal(self) -> tuple[int, str]:
        """Number of steps in a season, and the name of the season.

        A season is a year for steps of a week or longer, a week for steps of days, a day for steps of a minute or
        longer, and an hour for shorter steps. The number is 1 if the season is not a whole number of steps, or if there
        is no season.
        """
        if not self.unit:
            return 1, "none, because time stamps are numbers"
        steps, name = self._cycle()
        season = round(steps)
        if season < 1 or abs(season - steps) > SEASON_TOLERANCE * steps:
            return 1, f"none, because {name} is not a whole number of steps"
        return season, name if season > 1 else f"none, because a step lasts {name}"

    @property
    def second_seasonal(self) -> tuple[int, str]:
        """Number of steps in a second season, and its name; 1 if there is none.

        It is a week where the first season is a day, and a year where that is a week.
        """
        season, name = self.seasonal
        if name == "a day":
            return 7 * season, "a week"
        return (round(12 * MONTH / self.length), "a year") if name == "a week" else (1, "none")

    def _cycle(self) -> tuple[float, str]:
        if self.unit == "mo":
            return (12 / self.size, "a year") if self.size <= 12 else (1, "a year or more")
        if self.unit == "b":
            return BUSINESS_DAYS_PER_WEEK / self.size, "a week"
        if self.size % (7 * DAY) == 0:
            return 7 * DAY * WEEKS_PER_YEAR / self.size, "a year"
        if self.size >= DAY:
            return 7 * DAY / self.size, "a week"
        return (DAY / self.size, "a day") if self.size >= MINUTE else (HOUR / self.size, "an hour")


def cycles(clock: TimeStep, span: int) -> list[Cycle]:
    """Return the calendar cycles that are longer than a step and occur at least twice in a span.

    Args:
        clock: the time step.
        span: length of the span in microseconds.
    """
    if not clock.unit:
        return []
    return [name for name, length in CYCLES.items() if clock.length < length and span >= 2 * length]
