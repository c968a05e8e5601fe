"""The even steps of a series: where they stand, how long they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from elman.data.time_index.clock import SECOND, UNITS, TimeStep
from elman.data.time_index.zone import DAY, HOUR, Moments, Zone
from elman.errors import BadInput

EPOCH = np.datetime64("1970-01-01", "D")
EVERY, WORKING = "1111111", "1111100"  # days of a week, from Monday
NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RANKS = ("first", "second", "third", "fourth")
FINER = 0.9  # of a step: stamps nearer to each other are several to a step
REGULAR = 0.5  # of distances between stamps: so many are whole steps where stamps are regular
NEAR = 0.05  # of a distance, by which a round one may differ
LEAST = 27 * DAY  # between stamps of months
FORTNIGHT = 14 * DAY


@dataclass(frozen=True)
class Day:
    """A day of each month.

    Args:
        week: which days of a week are counted.
        number: of the day among these: 0 the first, -1 the last. The 31st is the last day of shorter months.

    >>> str(Day(EVERY, -1)), str(Day(WORKING, -1)), str(Day("0000100", 2)), str(Day(EVERY, 14))
    ('the last day', 'the last business day', 'the third Friday', 'day 15')
    """

    week: str = EVERY
    number: int = 0

    def dates(self, months: NDArray[np.int64]) -> NDArray[np.int64]:
        """The days, since 1970, in months since 1970."""
        begin = (months + (self.number < 0)).astype("datetime64[M]").astype("datetime64[D]")
        found = np.busday_offset(begin, self.number, roll="forward", weekmask=self.week)
        end = (months + 1).astype("datetime64[M]").astype("datetime64[D]") - 1
        return np.asarray((np.minimum(found, end) - EPOCH).astype(np.int64))

    def __str__(self) -> str:
        kinds = {EVERY: "day", WORKING: "business day"}
        kind = kinds.get(self.week) or NAMES[self.week.index("1")]
        if self.number >= len(RANKS):
            return f"{kind} {self.number + 1}"
        rank = RANKS[self.number] if self.number >= 0 else "last"
        return f"the {rank} {kind}" if self.number >= -1 else f"{kind} {-self.number} from the end"


FIRST, NONE = Day(), Zone()


@dataclass(frozen=True)
class Grid:
    """The even steps of a series.

    Args:
        clock: how long they are.
        start: the first one: of calendar months and business days, how many since 1970; else a moment, in local time
            if steps are whole days, in UTC if they are shorter; or a number.
        zone: of the stamps.
        offset: of months and business days, microseconds from the beginning of the day to the stamp.
        day: of a month.
        whole: whether a step has the stamps from its own to the next, as where these are several to a step; else the
            stamps that are nearest to it.
    """

    clock: TimeStep
    start: int
    zone: Zone = NONE
    offset: int = 0
    day: Day = FIRST
    whole: bool = False

    @classmethod
    def of(cls, clock: TimeStep, instants: Moments, zone: Zone) -> "Grid":
        """Where the steps of a series stand that has these stamps, in order."""
        moments = zone.local(instants) if clock.local else instants
        shortest = clock.size * DAY if clock.unit == "b" else clock.length  # of a step
        whole = len(moments) > 1 and float(np.median(np.diff(moments))) < FINER * shortest
        if clock.unit == "mo":
            months = _months(moments)
            if whole:
                return cls(clock, int(months[0] // clock.size * clock.size), zone, whole=True)
            day, share = _day(moments)
            grid = cls(clock, 0, zone, _common(moments % DAY), day)
            if share < REGULAR and len(np.unique(months)) == len(months):  # dates that follow no rule
                day = Day(EVERY, int(np.median(moments // DAY - _begins(months))))
                return replace(grid, start=int(months[0]), day=day, whole=True)
            return replace(grid, start=int(grid._nearest(moments[:1])[0]))
        if clock.unit == "b":
            return cls(clock, int(_business(moments[:1])[0]), zone, 0 if whole else _common(moments % DAY), whole=whole)
        phase = None if whole else _phase(moments, clock)
        if phase is None:  # steps begin where those of a calendar or a clock do: weeks on Monday
            shift = 3 * DAY if clock.unit and clock.size % (7 * DAY) == 0 else 0
            local = int(zone.local(instants[:1])[0]) if clock.unit else int(moments[0])
            begin = (local + shift) // clock.size * clock.size - shift
            return cls(clock, int(moments[0]) - local + begin, zone, whole=True)
        return cls(clock, int((moments[0] - phase + clock.size // 2) // clock.size * clock.size + phase), zone)

    def ticks(self, instants: Moments) -> NDArray[np.int64]:
        """The numbers of the steps of stamps."""
        size, half = self.clock.size, 0 if self.whole else self.clock.size // 2
        moments = self.zone.local(instants) if self.clock.local else instants
        if self.clock.unit == "mo":
            moments = _months(moments) if self.whole else self._nearest(moments)
        elif self.clock.unit == "b":
            moments = _business(moments)
        return np.asarray((moments - self.start + half) // size)

    def moments(self, ticks: NDArray[np.int64]) -> Moments:
        """The stamps of steps, in local time."""
        found = self.start + ticks * self.clock.size
        if self.clock.unit == "mo":
            return self._stamps(found)
        if self.clock.unit == "b":
            days = np.busday_offset(EPOCH, found, roll="forward", weekmask=WORKING) - EPOCH
            return np.asarray(days.astype(np.int64) * DAY + self.offset)
        return np.asarray(found) if self.clock.local or not self.clock.unit else self.zone.local(found)

    def name(self, tick: int) -> str:
        """A stamp for people and programs: ISO 8601, or a number."""
        at = np.array([tick])
        if not self.clock.unit:
            return str(int(self.moments(at)[0]))
        if not self.clock.local:
            return shown(self.start + tick * self.clock.size, self.zone)
        return shown(int(self.zone.instants(self.moments(at))[0]), self.zone, days=True)

    def _nearest(self, moments: Moments) -> NDArray[np.int64]:
        """The months to whose stamps these are nearest."""
        around = _months(moments) + np.array([[0], [-1], [1]])
        at = np.abs(np.stack([self._stamps(months) for months in around]) - moments).argmin(0)
        return np.asarray(around[at, np.arange(len(moments))])

    def _stamps(self, months: NDArray[np.int64]) -> Moments:
        return self.day.dates(months) * DAY + self.offset


def shown(instant: int, zone: Zone, days: bool = False) -> str:
    """A stamp in its zone.

    Args:
        instant: in UTC.
        zone: of the stamp.
        days: whether a stamp at midnight is a date.
    """
    local = int(zone.local(np.array([instant]))[0])
    if days and not zone.name and local % DAY == 0:
        return str(EPOCH + local // DAY)
    stamp = np.datetime64(local // SECOND, "s") if local % SECOND == 0 else np.datetime64(local, "us")
    return str(stamp).replace("T", " ") + zone.suffix(local - instant)


def clock_by(series: Sequence[Moments], zone: Zone | None) -> tuple[TimeStep, str]:
    """The clock by which series have their stamps, and how it was found.

    Args:
        series: the stamps of each, in order.
        zone: of these; None of stamps that are numbers.

    Raises:
        BadInput: where no series has two stamps.

    >>> hours = np.array([0, 1, 2, 3, 5, 6]) * HOUR
    >>> clock_by([hours], Zone())
    (TimeStep(unit='us', size=3600000000), 'the most common distance between stamps')
    """
    long = [moments for moments in series if len(moments) > 1]
    if not long:
        raise BadInput("--step: expected a series with at least two stamps to find it by, got none; name it")
    if zone is not None:
        local = [zone.local(moments) for moments in long]
        if all(_is_monthly(moments) for moments in local):
            days = {str(day) if share >= REGULAR else "" for day, share in map(_day, local)}
            on = f", on {day} of each" if len(days) == 1 and (day := days.pop()) else ""
            return TimeStep("mo", _step([_months_near(moments) for moments in local])[0]), f"calendar months{on}"
        if float(np.median(np.concatenate([np.diff(moments) for moments in local]))) > DAY - 2 * HOUR:
            long = local
    size, how = _step(long, None if zone is None else UNITS)
    clock = TimeStep("" if zone is None else "us", size)
    if clock == TimeStep("us", DAY) and _is_working(local):
        return TimeStep("b", 1), "business days, as no stamp is on a Saturday or Sunday"
    return clock, how


def _step(series: Sequence[NDArray[np.int64]], units: dict[str, int] | None = None) -> tuple[int, str]:
    """The step of stamps: their most common distance, if many distances are whole numbers of it; else the median one,
    as a round number of the largest unit that makes it one.
    """
    distances = np.concatenate([np.diff(moments) for moments in series])
    steps, counts = np.unique(distances, return_counts=True)
    common = int(steps[counts.argmax()])
    if (distances % common == 0).mean() >= REGULAR:
        return common, "the most common distance between stamps"
    median = float(np.median(distances))
    round_ = [(round(median / unit) or 1) * unit for unit in sorted((units or {}).values(), reverse=True)]
    found = next((size for size in round_ if abs(size - median) <= NEAR * median), round(median))
    low, high = (_rounded(np.quantile(distances, q), units) for q in (0.1, 0.9))
    return found, f"the median distance of irregular stamps, most of them {low} to {high} apart"


def _rounded(distance: float, units: dict[str, int] | None) -> str:
    unit = max((size for size in (units or {}).values() if size * 10 <= distance), default=1)
    return str(TimeStep("us" if units else "", round(distance / unit) * unit))


def _is_monthly(moments: Moments) -> bool:
    """Whether stamps, in local time, are those of calendar months or of several: on one day of these, or near it."""
    distances = np.diff(moments)
    if float(np.median(distances)) < LEAST:
        return False
    day, share = _day(moments)
    if share == 1 and day.week == EVERY:
        return True
    _, counts = np.unique(distances, return_counts=True)
    if ((distances % distances.min() == 0).all() and counts.max() > 1) or len(distances) == 1:
        return False  # as every four weeks
    return len(np.unique(_months_near(moments))) == len(moments)


def _months_near(moments: Moments) -> NDArray[np.int64]:
    """The months of stamps, in local time."""
    return Grid.of(TimeStep("mo", 1), moments, Zone()).ticks(moments)


def _day(moments: Moments) -> tuple[Day, float]:
    """The day of a month that most stamps have, and the share of these."""
    dates, months = moments // DAY, _months(moments)
    shares = {day: float((day.dates(months) == dates).mean()) for day in _days(dates, months)}
    day = max(shares, key=shares.__getitem__)
    return day, shares[day]


def _days(dates: NDArray[np.int64], months: NDArray[np.int64]) -> Iterator[Day]:
    """What may be the day of a month; of those that fit alike, the likelier first."""
    begins, ends = _begins(months), _begins(months + 1)
    yield Day(EVERY, -1)
    yield Day(EVERY, _common(dates - begins))
    yield Day(EVERY, _common(dates - ends))
    weekday = _common((dates + 3) % 7)
    for week in (WORKING, "".join(str(int(day == weekday)) for day in range(7))):
        own = np.is_busday(EPOCH + dates, weekmask=week)
        if own.any():
            first, at, last = (EPOCH + days[own] for days in (begins, dates, ends))
            number = _common(np.busday_count(first, at, weekmask=week))
            if number < len(RANKS):  # not every month has a fifth Friday
                yield Day(week, number)
            yield Day(week, -_common(np.busday_count(at, last, weekmask=week)))


def _is_working(series: Sequence[Moments]) -> bool:
    """Whether no stamp of two weeks or longer, in local time, is on a weekend."""
    dates = np.concatenate([moments // DAY for moments in series])
    long = any(np.ptp(moments) >= FORTNIGHT for moments in series)
    return long and bool(np.is_busday(EPOCH + dates, weekmask=WORKING).all())


def _phase(moments: Moments, clock: TimeStep) -> int | None:
    """Where between whole steps stamps are, most of them or on average; None where they are anywhere."""
    phases, counts = np.unique(moments % clock.size, return_counts=True)
    if counts.max() >= REGULAR * len(moments):
        return int(phases[counts.argmax()])
    if len(moments) == len(phases) == 2 or not clock.unit:
        return int(moments[0] % clock.size)
    mean = np.exp(2j * np.pi * (moments % clock.size) / clock.size).mean()
    if abs(mean) < REGULAR:
        return None
    phase = np.angle(mean) / (2 * np.pi) * clock.size
    spread = np.sqrt(-2 * np.log(abs(mean))) / (2 * np.pi) * clock.size  # of angles: their circular deviation
    units = [clock.size, *sorted((unit for unit in UNITS.values() if unit < clock.size), reverse=True)]
    found = next((whole for unit in units if abs((whole := round(phase / unit) * unit) - phase) <= spread), phase)
    return int(found % clock.size)


def _common(values: NDArray[np.int64]) -> int:
    """The most common of values."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _months(moments: Moments) -> NDArray[np.int64]:
    """Months since 1970."""
    return np.asarray(moments.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64))


def _begins(months: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first days of months, since 1970."""
    return np.asarray(months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))


def _business(moments: Moments) -> NDArray[np.int64]:
    """Business days since 1970; of a weekend, the one before."""
    dates = EPOCH + moments // DAY
    days = np.busday_offset(dates, 0, roll="backward", weekmask=WORKING)
    return np.asarray(np.busday_count(EPOCH, days, weekmask=WORKING))
