"""When the values of a series are: stamps as they are written, steps, seasons, time zones."""

import calendar
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from elman.data.time_index.clock import TimeStep
from elman.errors import BadInput
from elman.tasks.forecast.data import Series, ends_to_csv, read_ends, read_series
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.task import TASK

OPTIONS = ForecastOptions(time="t", target="y", season=4, horizon=3, context=12)
DRAW = np.random.default_rng(0)


def table(stamps: Any, values: Any = None) -> pl.DataFrame:
    stamps = list(map(str, stamps)) if not isinstance(stamps, pl.Series) else stamps
    return pl.DataFrame({"t": stamps, "y": np.arange(len(stamps)) if values is None else values})


def one(data: pl.DataFrame, **options: Any) -> Series:
    (found,) = read_series(data, OPTIONS.model_copy(update=options))
    return found


def following(found: Series, count: int = 1) -> list[str]:
    return [found.stamp(len(found.values) + i) for i in range(count)]


def settled(data: pl.DataFrame, **options: Any) -> tuple[ForecastOptions, str]:
    told: list[str] = []
    found, _ = TASK.resolve_options(data, ForecastOptions(time="t", target="y", **options), told.append)
    (line,) = told
    return found, line


def months(day: Callable[[int, int], Any], count: int = 26) -> list[Any]:
    return [day(2020 + i // 12, i % 12 + 1) for i in range(count)]


def last(year: int, month: int) -> date:
    return date(year, month, calendar.monthrange(year, month)[1])


def business(number: int, week: str = "1111100") -> Callable[[int, int], Any]:
    def day(year: int, month: int) -> Any:
        begin = np.datetime64(f"{year}-{month:02}") + np.timedelta64(int(number < 0), "M")
        return np.busday_offset(begin.astype("datetime64[D]"), number, roll="forward", weekmask=week)

    return day


def moved(days: list[date], at: int, by: int) -> list[date]:
    return [*days[:at], days[at] + timedelta(by), *days[at + 1 :]]


MONTHS = {
    "last day": (months(last), "2022-03-31"),
    "last day, one a day late": (moved(months(last), 7, 1), "2022-03-31"),
    "first day, one a day early": (moved(months(lambda y, m: date(y, m, 1)), 7, -1), "2022-03-01"),
    "the 30th, with Feb 28": (months(lambda y, m: min(date(y, m, 28) + timedelta(2), last(y, m))), "2022-03-30"),
    "last business day": (months(business(-1)), "2022-03-31"),
    "first business day": (months(business(0), 28), "2022-05-02"),
    "third Friday": (months(business(2, "Fri")), "2022-03-18"),
    "days without a rule": (months(lambda y, m: date(y, m, int(DRAW.integers(5, 24)))), "2022-03-"),
    "2020M01": (months(lambda y, m: f"{y}M{m:02}"), "2022-03-01"),
    "before 1970": ([last(1958 + i // 12, i % 12 + 1) for i in range(26)], "1960-03-31"),
}


@pytest.mark.parametrize("kind", MONTHS)
def test_months_go_on_by_the_rule_of_their_stamps(kind: str) -> None:
    stamps, then = MONTHS[kind]
    found = one(table(stamps))
    assert (str(found.grid.clock), found.grid.clock.season) == ("1mo", 12)
    assert following(found)[0].startswith(then)
    assert found.values.tolist() == list(range(len(stamps)))  # none was averaged, none is missing


@pytest.mark.parametrize("form", ["{}", "{:%Y-%m-%dT%H:%M:%SZ}"])
def test_months_that_begin_at_local_midnight(form: str) -> None:
    zone = ZoneInfo("UTC" if form.endswith("Z}") else "Europe/Berlin")
    stamps = [datetime(y, m, 1, tzinfo=ZoneInfo("Europe/Berlin")) for y, m in months(lambda y, m: (y, m))]
    found = one(table([form.format(stamp.astimezone(zone)) for stamp in stamps]))
    assert str(found.grid.clock) == "1mo"
    assert following(found, 2) == ["2022-03-01 00:00:00+01:00", "2022-04-01 00:00:00+02:00"]
    assert len(found.values) == len(stamps)


def test_months_survive_the_file_of_ends(tmp_path: Path) -> None:
    """However few steps are read."""
    options = OPTIONS.model_copy(update={"context": 2, "step": "1mo"})
    found = one(table(months(last)))
    (tmp_path / "ends.csv").write_text(ends_to_csv([found], options))
    (again,) = read_ends(tmp_path / "ends.csv", options)
    assert following(again, 3) == following(found, 3) == ["2022-03-31", "2022-04-30", "2022-05-31"]


def test_four_weeks_are_no_month() -> None:
    found = one(table([date(2020, 1, 3) + timedelta(28 * i) for i in range(20)]))
    assert (str(found.grid.clock), found.grid.clock.season) == ("28d", 13)


@pytest.mark.parametrize(
    ("stamps", "form", "then"),
    [
        ([20210226, 20210227, 20210228], "%Y%m%d", "2021-03-01"),
        ([202010, 202011, 202012], "%Y%m", "2021-01-01"),
        ([1990, 1991, 1992], "%Y", "1993-01-01"),
        (["01022021", "02022021", "03022021"], "%d%m%Y", "2021-02-04"),
        (["2021022822", "2021022823"], "%Y%m%d%H", "2021-03-01 00:00:00"),
        ([1614556800 - 7200, 1614556800 - 3600], "%s", "2021-03-01 00:00:00"),
        (["1614549600.5", "1614553200.5"], "%s", "2021-03-01 00:00:00.500000"),
        ([1614556800000 - 1000, 1614556800000 - 500], "ms", "2021-03-01 00:00:00"),
        (["2020-W52", "2020-W53"], "%G-W%V", "2021-01-04"),
        (["28.02.2021 23:59:59.25", "28.02.2021 23:59:59.75"], "%d.%m.%Y %H:%M:%S.%f", "2021-03-01 00:00:00.250000"),
    ],
)
@pytest.mark.parametrize("typed", [False, True])
def test_a_format_is_that_of_digits_too(stamps: list[Any], form: str, then: str, typed: bool) -> None:
    column = (
        pl.Series([float(stamp) if "." in str(stamp) else int(stamp) for stamp in stamps])
        if (typed and isinstance(stamps[0], int))
        else pl.Series(list(map(str, stamps)))
    )
    assert following(one(table(column), time_format=form)) == [then]


@pytest.mark.parametrize(
    ("stamps", "hint"),
    [
        ([20210226 + i for i in range(3)], "--time-format %Y%m%d"),
        ([202010, 202011, 202012], "--time-format %Y%m,"),
        ([2021022800 + i for i in range(24)], "--time-format %Y%m%d%H"),
        ([1614556800 + 3600 * i for i in range(9)], "--time-format %s"),
        ([1614556800000 + 3600 * i for i in range(9)], "--time-format ms"),
    ],
)
def test_digits_that_may_be_dates_are_refused(stamps: list[int], hint: str) -> None:
    with pytest.raises(BadInput, match=rf"--time: expected time stamps, got digits that look like .*{hint}"):
        one(table(pl.Series(stamps)))
    assert following(one(table(stamps), step=str(stamps[1] - stamps[0]))) == [str(2 * stamps[-1] - stamps[-2])]


@pytest.mark.parametrize(
    ("stamps", "hint"),
    [
        ([f"{date(2021, 2, 20) + timedelta(i):%d%m%Y}" for i in range(20)], "dates.*--time-format %d%m%Y"),
        ([f"{date(2021, 2, 20) + timedelta(i):%y%m%d}" for i in range(20)], "dates.*--time-format %y%m%d"),
        ([*range(20210201, 20210230), 20210301, 20210302], "dates.*--time-format %Y%m%d,"),  # one is none
        ([f"{1614556800 + 60 * i}.25" for i in range(9)], "times.*--time-format %s"),
    ],
)
def test_other_digits_that_may_be_dates_are_refused(stamps: list[Any], hint: str) -> None:
    with pytest.raises(BadInput, match=rf"--time: expected time stamps, got digits that look like {hint}"):
        one(table(stamps))


def test_digits_that_count_are_no_dates() -> None:
    for begin in (100_000, 200_001, 20_200_101):
        assert following(one(table(range(begin, begin + 200)))) == [str(begin + 200)]


@pytest.mark.parametrize(
    ("stamps", "step", "season", "then"),
    [
        ([f"{2000 + i // 4}Q{i % 4 + 1}" for i in range(8)], "3mo", 4, "2002-01-01"),
        ([f"{2000 + i // 4}-Q{i % 4 + 1}" for i in range(8)], "3mo", 4, "2002-01-01"),
        (["2020-06-30", "2020-09-30", "2020-12-31"], "3mo", 4, "2021-03-31"),
        (["2019-W51", "2019-W52", "2020-W01"], "7d", 52, "2020-01-06"),
        ([d for d in (date(2024, 1, 1) + timedelta(i) for i in range(19)) if d.weekday() < 5], "1b", 5, "2024-01-22"),
        ([date(2024, 1, 1) + timedelta(i) for i in range(19)], "1d", 7, "2024-01-20"),
        ([datetime(2024, 1, 1) + timedelta(minutes=5 * i) for i in range(9)], "5m", 288, "2024-01-01 00:45:00"),
        ([datetime(2024, 1, 1) + timedelta(minutes=10 * i) for i in range(9)], "10m", 144, "2024-01-01 01:30:00"),
        ([datetime(2024, 1, 1) + timedelta(minutes=i) for i in range(9)], "1m", 1440, "2024-01-01 00:09:00"),
        ([datetime(2024, 1, 1) + timedelta(hours=5 * i) for i in range(9)], "5h", 1, "2024-01-02 21:00:00"),
        (["2024-01-01 00:00:00 UTC", "2024-01-01 01:00:00 UTC"], "1h", 24, "2024-01-01 02:00:00Z"),
        (["2024-01-01 00:00:00+05:30", "2024-01-02 00:00:00+05:30"], "1d", 7, "2024-01-03 00:00:00+05:30"),
    ],
)
def test_steps_and_seasons(stamps: list[Any], step: str, season: int, then: str) -> None:
    found = one(table(stamps))
    assert (str(found.grid.clock), found.grid.clock.season) == (step, season)
    assert following(found) == [then]
    assert TimeStep.parse(step) == found.grid.clock


def test_business_days_skip_weekends() -> None:
    days = [d for d in (date(2024, 1, 1) + timedelta(i) for i in range(40)) if d.weekday() < 5]
    found = one(table(days[:20]), step="1b")
    assert following(found, 8) == list(map(str, days[20:28]))
    assert not np.isnan(found.values).any()


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Santiago", "Australia/Sydney", "Australia/Lord_Howe"])
@pytest.mark.parametrize("written", ["offset", "UTC", "frame", "option"])
def test_days_of_a_zone_are_its_days(name: str, written: str) -> None:
    """Over both changes of clocks, those behind the end too, and where clocks skip midnight."""
    days = [date(2023, 3, 1) + timedelta(i) for i in range(700)]
    local = pl.Series(days).cast(pl.Datetime("us"))
    zoned = local.dt.replace_time_zone(name, non_existent="null", ambiguous="earliest")
    late = (local + timedelta(hours=1)).dt.replace_time_zone(name, non_existent="null", ambiguous="earliest")
    zoned = zoned.fill_null(late)
    offsets = [stamp.isoformat() for stamp in zoned.to_list()]
    stamps: Any = {
        "offset": offsets,
        "UTC": [str(stamp) for stamp in zoned.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%SZ")],
        "frame": zoned,
        "option": days,
    }[written]
    options = {"timezone": name} if written == "option" else {}
    found = one(table(stamps[:400]), **options)
    assert str(found.grid.clock) == "1d"
    assert found.values.tolist() == list(range(400))
    assert [stamp.replace(" ", "T") for stamp in following(found, 300)] == offsets[400:]


def test_hours_of_a_zone_when_clocks_are_set_back() -> None:
    instants = pl.datetime_range(datetime(2024, 10, 26), datetime(2024, 10, 28), "1h", time_zone="UTC", eager=True)
    local = instants.dt.convert_time_zone("Europe/Berlin")
    naive = [str(stamp) for stamp in local.dt.replace_time_zone(None)]
    with pytest.raises(BadInput, match=r"2024-10-27 02:00:00 again in row 26.*--timezone"):
        one(table(naive))
    for found in (one(table(naive), timezone="Europe/Berlin"), one(table([s.isoformat() for s in local.to_list()]))):
        assert len(found.values) == len(naive)
        assert not np.isnan(found.values).any()
        assert following(found) == ["2024-10-28 02:00:00+01:00"]


def test_several_values_in_a_step_are_those_from_its_beginning_on(capsys: pytest.CaptureFixture[str]) -> None:
    hours = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(24 * 10)]
    found = one(table(hours, [10 * hour.day + hour.hour for hour in hours]), step="1d")
    assert found.values.tolist() == [10 * day + 11.5 for day in range(1, 11)]
    assert (found.stamp(0), following(found)) == ("2024-01-01", ["2024-01-11"])
    said = capsys.readouterr().err
    assert "240 values averaged to 10" in said
    assert "last step" not in said
    one(table(hours[:-8]), step="1d")
    assert "the last step, 2024-01-10, has 16 values, but others have 24" in capsys.readouterr().err
    days = [date(2024, 1, 1) + timedelta(i) for i in range(91)]
    found = one(table(days), step="1mo")
    assert found.values.tolist() == [15.0, 31 + 14.0, 60 + 15.0]
    assert following(found) == ["2024-04-01"]
    found = one(table(days), step="1w")  # from Monday on
    assert found.values.tolist() == [3.0 + 7 * i for i in range(13)]
    assert one(table(months(last, 24)), step="1q").values.tolist() == [1.0 + 3 * i for i in range(8)]
    assert one(table(range(100)), step="10").values.tolist() == [4.5 + 10 * i for i in range(10)]


def test_the_step_of_irregular_stamps_is_a_round_one_and_told() -> None:
    seconds = np.cumsum(DRAW.integers(240, 361, 2000))
    options, line = settled(table([datetime(2024, 1, 1) + timedelta(seconds=int(s)) for s in seconds]))
    assert (options.step, options.season) == ("5m", 288)
    assert "step 5m (the median distance of irregular stamps" in line
    near = [datetime(2024, 1, 1) + timedelta(seconds=int(300 * i + DRAW.integers(-20, 20))) for i in range(500)]
    found = one(table(near))
    assert found.values.tolist() == list(range(500))  # each to the nearest step
    assert following(found) == ["2024-01-02 17:40:00"]


@pytest.mark.parametrize(
    ("count", "options", "parts"),
    [
        (1000, {}, ["step 1h (the most common", "season 24 (a day)", "horizon 24 (one season)", "context 72 (3 sea"]),
        (100, {}, ["season 24", "horizon 5 (half of the longest possible horizon, 10 steps"]),
        (40, {}, ["season 1 (40 steps are fewer than 2 seasons of 24, a day)"]),
        (1000, {"horizon": 100}, ["horizon 100 (--horizon)", "context 200 (2 horizons)"]),
        (
            1000,
            {"step": "2h", "season": 6, "context": 9, "timezone": "UTC"},
            ["step 2h (--step)", "season 6 (--season)", "context 9 (--context)", "zone UTC (--timezone)"],
        ),
    ],
)
def test_what_is_settled_is_told(count: int, options: dict[str, Any], parts: list[str]) -> None:
    _, line = settled(table([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(count)]), **options)
    assert all(part in line for part in parts), line


def test_the_context_of_minutes_is_bounded() -> None:
    """It is two days, and not seven."""
    options, _ = settled(table([datetime(2024, 1, 1) + timedelta(minutes=i) for i in range(20_000)]))
    assert (options.season, options.horizon, options.context) == (1440, 1440, 2880)


def test_zones_that_are_none() -> None:
    with pytest.raises(BadInput, match=r"--timezone: expected a name like Europe/Berlin.*'Mars'"):
        one(table(months(last)), timezone="Mars")
    with pytest.raises(BadInput, match="--timezone: expected dates or times, got numbers"):
        one(table(range(9)), timezone="UTC")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("zone", "clock"),
    [("Europe/Berlin", "09:00:00"), ("America/New_York", "16:00:00"), ("Australia/Sydney", "09:30:00")],
)
def test_days_in_utc_are_those_of_a_zone_at_any_hour(zone: str, clock: str) -> None:
    days = [datetime.fromisoformat(f"{date(2021, 1, 1) + timedelta(i)} {clock}") for i in range(401)]
    utc = [
        day.replace(tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ") for day in days
    ]
    found = one(table(utc[:300]))
    assert len(found.values) == 300
    then = [datetime.fromisoformat(stamp) for stamp in following(found, 100)]  # clocks are changed in these
    assert then == [day.replace(tzinfo=ZoneInfo(zone)) for day in days[300:400]]


def test_month_ends_in_utc_are_those_of_a_zone() -> None:
    ends_of = [f"{last(2020 + i // 12, i % 12 + 1)} 23:59:59" for i in range(34)]
    utc = [
        datetime.fromisoformat(end).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(ZoneInfo("UTC"))
        for end in ends_of
    ]
    found = one(table([f"{stamp:%Y-%m-%dT%H:%M:%SZ}" for stamp in utc[:26]]))
    assert following(found, 2) == ["2022-03-31 23:59:59+02:00", "2022-04-30 23:59:59+02:00"]


def test_business_days_keep_their_time_of_day() -> None:
    days = [day for i in range(60) if (day := date(2020, 1, 1) + timedelta(i)).weekday() < 5]
    found = one(table([f"{day} 16:00" for day in days]))
    assert found.stamp(0) == "2020-01-01 16:00:00"
    assert following(found, 2) == ["2020-03-02 16:00:00", "2020-03-03 16:00:00"]


def test_stamps_that_are_not_those_of_steps_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    one(table([date(2016 + i // 24, i // 2 % 12 + 1, 1 + 14 * (i % 2)) for i in range(96)]))
    assert "of 96 time stamps do not fall on a step of 14d; the farthest, 20" in capsys.readouterr().err
    one(table(months(last)))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("stamp", "then"),
    [
        ("202001{:02}T063000Z", "2020-01-31 06:30:00Z"),
        ("202001{:02}T0630", "2020-01-31 06:30:00"),
        ("202001{:02}T063000+0200", "2020-01-31 06:30:00+02:00"),
        ("2020-01-{:02} 06:30:00,500", "2020-01-31 06:30:00.500000"),
    ],
)
def test_other_forms_of_iso_8601(stamp: str, then: str) -> None:
    assert following(one(table([stamp.format(i + 1) for i in range(30)]))) == [then]
