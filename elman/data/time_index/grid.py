"""Regular grids of time steps: where they start and how long the steps are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from elman.data.time_index.clock import SECOND, UNITS, TimeStep
from elman.data.time_index.zone import DAY, HOUR, Moments, Zone
from elman.errors import BadInput

EPOCH = np.datetime64("1970-01-01", "D")
EVERY, WORKING = "1111111", "1111100"  # weekdays from Monday, as masks of NumPy
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RANKS = ("first", "second", "third", "fourth")
MAX_SHARE_OF_STEP = 0.9  # if the median distance is below this share of a step, steps hold several stamps
MIN_REGULAR_SHARE = 0.5  # stamps are regular if this share of their distances is whole steps
ROUNDING_TOLERANCE = 0.05  # relative tolerance for a rounded distance
MIN_MONTH = 27 * DAY  # minimum median distance of monthly stamps
FORTNIGHT = 14 * DAY


@dataclass(frozen=True)
class Day:
    """A day of each month.

    Args:
        week: mask of the weekdays that are counted.
        number: index of the day among these: 0 is the first, -1 the last. In a shorter month, it is the last day.

    >>> str(Day(EVERY, -1)), str(Day(WORKING, -1)), str(Day("0000100", 2)), str(Day(EVERY, 14))
    ('the last day', 'the last business day', 'the third Friday', 'day 15')
    """

    week: str = EVERY
    number: int = 0

    def dates(self, months: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the dates in months; dates and months are counted from 1970."""
        begin = (months + (self.number < 0)).astype("datetime64[M]").astype("datetime64[D]")
        days = np.busday_offset(begin, self.number, roll="forward", weekmask=self.week)
        end = (months + 1).astype("datetime64[M]").astype("datetime64[D]") - np.timedelta64(1, "D")
        return np.asarray((np.minimum(days, end) - EPOCH).astype(np.int64))

    def __str__(self) -> str:
        kinds = {EVERY: "day", WORKING: "business day"}
        kind = kinds.get(self.week) or WEEKDAYS[self.week.index("1")]
        if self.number >= len(RANKS):
            return f"{kind} {self.number + 1}"
        rank = RANKS[self.number] if self.number >= 0 else "last"
        return f"the {rank} {kind}" if self.number >= -1 else f"{kind} {-self.number} from the end"


FIRST, NONE = Day(), Zone()


@dataclass(frozen=True)
class Grid:
    """A regular grid of time steps.

    Args:
        clock: length of the steps.
        start: the first step. For calendar months and business days, their number since 1970. Otherwise a moment, in
            local time if steps are whole days and in UTC if they are shorter, or a number.
        zone: time zone of the stamps.
        offset: for months and business days, microseconds from the start of the day to the stamp.
        day: day of the month of the stamps.
        whole: whether a step holds the stamps from its own stamp up to the next, as when there are several per step. If
            False, a step holds the stamps nearest to its own.
    """

    clock: TimeStep
    start: int
    zone: Zone = NONE
    offset: int = 0
    day: Day = FIRST
    whole: bool = False

    @classmethod
    def of(cls, clock: TimeStep, instants: Moments, zone: Zone) -> "Grid":
        """Find the grid of a series.

        Args:
            clock: length of the steps.
            instants: stamps, sorted.
            zone: time zone of the stamps.
        """
        moments = zone.local(instants) if clock.is_local else instants
        shortest = clock.size * DAY if clock.unit == "b" else clock.length
        whole = len(moments) > 1 and float(np.median(np.diff(moments))) < MAX_SHARE_OF_STEP * shortest
        if clock.unit == "mo":
            months = _months(moments)
            if whole:
                return cls(clock, int(months[0] // clock.size * clock.size), zone, whole=True)
            day, share = _day(moments)
            grid = cls(clock, 0, zone, _common(moments % DAY), day)
            if share < MIN_REGULAR_SHARE and len(np.unique(months)) == len(months):  # dates without a rule
                day = Day(EVERY, int(np.median(moments // DAY - _begins(months))))
                return replace(grid, start=int(months[0]), day=day, whole=True)
            return replace(grid, start=int(grid._nearest(moments[:1])[0]))
        if clock.unit == "b":
            return cls(clock, int(_business(moments[:1])[0]), zone, 0 if whole else _common(moments % DAY), whole=whole)
        phase = None if whole else _phase(moments, clock)
        if phase is None:  # steps begin as on a calendar or clock: weeks on Monday
            shift = 3 * DAY if clock.unit and clock.size % (7 * DAY) == 0 else 0
            local = int(zone.local(instants[:1])[0]) if clock.unit else int(moments[0])
            begin = (local + shift) // clock.size * clock.size - shift
            return cls(clock, int(moments[0]) - local + begin, zone, whole=True)
        return cls(clock, int((moments[0] - phase + clock.size // 2) // clock.size * clock.size + phase), zone)

    def ticks(self, instants: Moments) -> NDArray[np.int64]:
        """Return the step numbers of stamps."""
        size, half = self.clock.size, 0 if self.whole else self.clock.size // 2
        moments = self.zone.local(instants) if self.clock.is_local else instants
        if self.clock.unit == "mo":
            moments = _months(moments) if self.whole else self._nearest(moments)
        elif self.clock.unit == "b":
            moments = _business(moments)
        return np.asarray((moments - self.start + half) // size)

    def moments(self, ticks: NDArray[np.int64]) -> Moments:
        """Return the stamps of steps, in local time."""
        starts = self.start + ticks * self.clock.size
        if self.clock.unit == "mo":
            return self._stamps(starts)
        if self.clock.unit == "b":
            days = np.busday_offset(EPOCH, starts, roll="forward", weekmask=WORKING) - EPOCH
            return np.asarray(days.astype(np.int64) * DAY + self.offset)
        return np.asarray(starts) if self.clock.is_local or not self.clock.unit else self.zone.local(starts)

    def name(self, tick: int) -> str:
        """Format the stamp of a step for people and programs: ISO 8601, or a number."""
        at = np.array([tick])
        if not self.clock.unit:
            return str(int(self.moments(at)[0]))
        if not self.clock.is_local:
            return shown(self.start + tick * self.clock.size, self.zone)
        return shown(int(self.zone.instants(self.moments(at))[0]), self.zone, days=True)

    def _nearest(self, moments: Moments) -> NDArray[np.int64]:
        """Return the months whose stamps are nearest to these moments."""
        around = _months(moments) + np.array([[0], [-1], [1]])
        at = np.abs(np.stack([self._stamps(months) for months in around]) - moments).argmin(0)
        return np.asarray(around[at, np.arange(len(moments))])

    def _stamps(self, months: NDArray[np.int64]) -> Moments:
        return self.day.dates(months) * DAY + self.offset


def shown(instant: int, zone: Zone, days: bool = False) -> str:
    """Format a stamp in its time zone.

    Args:
        instant: the stamp, in UTC.
        zone: its time zone.
        days: whether to format a stamp at midnight as a date.
    """
    local = int(zone.local(np.array([instant]))[0])
    if days and not zone.name and local % DAY == 0:
        return str(_date(np.array(local // DAY)))
    stamp = np.datetime64(local // SECOND, "s") if local % SECOND == 0 else np.datetime64(local, "us")
    return str(stamp).replace("T", " ") + zone.suffix(local - instant)


def clock_by(series: Sequence[Moments], zone: Zone | None) -> tuple[TimeStep, str]:
    """Find the time step of series.

    Args:
        series: stamps of each series, sorted.
        zone: time zone of the stamps; None if stamps are numbers.

    Returns:
        The step, and a description of how it was found.

    Raises:
        BadInput: if no series has two stamps.

    >>> hours = np.array([0, 1, 2, 3, 5, 6]) * HOUR
    >>> clock_by([hours], Zone())
    (TimeStep(unit='us', size=3600000000), 'the most common distance between stamps')
    """
    long = [moments for moments in series if len(moments) > 1]
    if not long:
        raise BadInput(
            "--step: expected a series with at least two time stamps to infer it from, got none; pass --step"
        )
    if zone is not None:
        local = [zone.local(moments) for moments in long]
        if all(_is_monthly(moments) for moments in local):
            days = {str(day) if share >= MIN_REGULAR_SHARE else "" for day, share in map(_day, local)}
            on = f", on {day} of each" if len(days) == 1 and (day := days.pop()) else ""
            return TimeStep("mo", _step([_months_near(moments) for moments in local])[0]), f"calendar months{on}"
        if float(np.median(np.concatenate([np.diff(moments) for moments in local]))) > DAY - 2 * HOUR:
            long = local
    size, description = _step(long, None if zone is None else UNITS)
    clock = TimeStep("" if zone is None else "us", size)
    if clock == TimeStep("us", DAY) and _is_working(local):
        return TimeStep("b", 1), "business days, as no stamp is on a Saturday or Sunday"
    return clock, description


def _step(series: Sequence[NDArray[np.int64]], units: dict[str, int] | None = None) -> tuple[int, str]:
    """Find the step of stamps, and describe how it was found.

    It is the most common distance if many distances are multiples of it. Otherwise it is the median distance, rounded
    to the largest unit that keeps it nearly unchanged.
    """
    distances = np.concatenate([np.diff(moments) for moments in series])
    steps, counts = np.unique(distances, return_counts=True)
    common = int(steps[counts.argmax()])
    if (distances % common == 0).mean() >= MIN_REGULAR_SHARE:
        return common, "the most common distance between stamps"
    median = float(np.median(distances))
    round_ = [(round(median / unit) or 1) * unit for unit in sorted((units or {}).values(), reverse=True)]
    step = next((size for size in round_ if abs(size - median) <= ROUNDING_TOLERANCE * median), round(median))
    low, high = (_rounded(np.quantile(distances, q), units) for q in (0.1, 0.9))
    return step, f"the median distance of irregular stamps, most of them {low} to {high} apart"


def _rounded(distance: float, units: dict[str, int] | None) -> str:
    unit = max((size for size in (units or {}).values() if size * 10 <= distance), default=1)
    return str(TimeStep("us" if units else "", round(distance / unit) * unit))


def _is_monthly(moments: Moments) -> bool:
    """Return whether stamps, in local time, are those of one or several calendar months: on a fixed day, or near it."""
    distances = np.diff(moments)
    if float(np.median(distances)) < MIN_MONTH:
        return False
    day, share = _day(moments)
    if share == 1 and day.week == EVERY:
        return True
    _, counts = np.unique(distances, return_counts=True)
    if ((distances % distances.min() == 0).all() and counts.max() > 1) or len(distances) == 1:
        return False  # for example, stamps every four weeks
    return len(np.unique(_months_near(moments))) == len(moments)


def _months_near(moments: Moments) -> NDArray[np.int64]:
    """Return the months of stamps, in local time."""
    return Grid.of(TimeStep("mo", 1), moments, Zone()).ticks(moments)


def _day(moments: Moments) -> tuple[Day, float]:
    """Return the most common day of the month of stamps, and the share of stamps on this day."""
    dates, months = moments // DAY, _months(moments)
    shares = {day: float((day.dates(months) == dates).mean()) for day in _days(dates, months)}
    day = max(shares, key=shares.__getitem__)
    return day, shares[day]


def _days(dates: NDArray[np.int64], months: NDArray[np.int64]) -> Iterator[Day]:
    """Iterate over candidates for the day of the month; of equally good ones, the more likely first."""
    begins, ends = _begins(months), _begins(months + 1)
    yield Day(EVERY, -1)
    yield Day(EVERY, _common(dates - begins))
    yield Day(EVERY, _common(dates - ends))
    weekday = _common((dates + 3) % 7)
    for week in (WORKING, "".join(str(int(day == weekday)) for day in range(7))):
        is_counted = np.is_busday(_date(dates), weekmask=week)
        if is_counted.any():
            first, at, last = (_date(days[is_counted]) for days in (begins, dates, ends))
            number = _common(np.busday_count(first, at, weekmask=week))
            if number < len(RANKS):  # not every month has a fifth Friday
                yield Day(week, number)
            yield Day(week, -_common(np.busday_count(at, last, weekmask=week)))


def _is_working(series: Sequence[Moments]) -> bool:
    """Return whether the series span two weeks and no stamp, in local time, is on a weekend."""
    dates = np.concatenate([moments // DAY for moments in series])
    long = any(np.ptp(moments) >= FORTNIGHT for moments in series)
    return long and bool(np.is_busday(_date(dates), weekmask=WORKING).all())


def _phase(moments: Moments, clock: TimeStep) -> int | None:
    """Return the most common or mean offset of stamps from whole steps; None if the offsets differ too much."""
    phases, counts = np.unique(moments % clock.size, return_counts=True)
    if counts.max() >= MIN_REGULAR_SHARE * len(moments):
        return int(phases[counts.argmax()])
    if len(moments) == len(phases) == 2 or not clock.unit:
        return int(moments[0] % clock.size)
    mean = np.exp(2j * np.pi * (moments % clock.size) / clock.size).mean()
    if abs(mean) < MIN_REGULAR_SHARE:
        return None
    phase = np.angle(mean) / (2 * np.pi) * clock.size
    spread = np.sqrt(-2 * np.log(abs(mean))) / (2 * np.pi) * clock.size  # circular standard deviation
    units = [clock.size, *sorted((unit for unit in UNITS.values() if unit < clock.size), reverse=True)]
    rounded = next((whole for unit in units if abs((whole := round(phase / unit) * unit) - phase) <= spread), phase)
    return int(rounded % clock.size)


def _common(values: NDArray[np.int64]) -> int:
    """Return the most common value."""
    distinct, counts = np.unique(values, return_counts=True)
    return int(distinct[counts.argmax()])


def _months(moments: Moments) -> NDArray[np.int64]:
    """Return the number of months since 1970."""
    return np.asarray(moments.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64))


def _date(days: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """Return the dates of days counted from 1970."""
    return np.asarray(days.astype("datetime64[D]"))


def _begins(months: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first days of months, counted from 1970."""
    return np.asarray(months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64))


def _business(moments: Moments) -> NDArray[np.int64]:
    """Return the number of business days since 1970; a weekend counts as the business day before."""
    dates = _date(moments // DAY)
    days = np.busday_offset(dates, 0, roll="backward", weekmask=WORKING)
    return np.asarray(np.busday_count(EPOCH, days, weekmask=WORKING))
