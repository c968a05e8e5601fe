"""What a forecast is made of: steps, windows, the split by time, baselines, measures."""

import calendar
import json
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from elman.baselines import forecast as baselines
from elman.data.examples import Example
from elman.data.time_index.clock import TimeStep
from elman.errors import BadInput
from elman.tasks.forecast import fit
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Series, Window, ends_to_csv, read_series, scale
from elman.tasks.forecast.encoding import Scaling
from elman.tasks.forecast.holidays import calendar as calendar_of
from elman.tasks.forecast.model import QUANTILES, ForecastNetwork
from elman.tasks.forecast.options import ForecastOptions, Sizes
from elman.tasks.forecast.seasons import found_lags, found_seasons
from elman.tasks.forecast.task import TASK
from elman.tasks.forecast.windows import find_windows, split_windows, training_values, window_at
from tests.tolerances import close

OPTIONS = ForecastOptions(time="t", target="y", season=4, horizon=3, context=12)
SIZES = OPTIONS.sizes


def table(stamps: list[Any], values: list[Any] | None = None, **more: Any) -> pl.DataFrame:
    found = list(range(len(stamps))) if values is None else values
    return pl.DataFrame({"t": stamps, "y": found} | more, strict=False)


def one(stamps: list[Any], values: list[Any] | None = None, **options: Any) -> Series:
    (found,) = read_series(table(stamps, values), OPTIONS.model_copy(update=options))
    return found


def made(count: int = 60, seed: int = 0, gaps: float = 0.0) -> Series:
    draw = np.random.default_rng(seed)
    values = 5 + np.sin(np.arange(count) * np.pi / 2) + draw.normal(0, 0.3, count)
    values[draw.random(count) < gaps] = np.nan
    values[[0, -1]] = 5.0
    (found,) = read_series(
        table([datetime(2024, 1, 1) + timedelta(hours=i) for i in range(count)], list(values)), OPTIONS
    )
    return found


def months(count: int, last_day: bool, every: int = 1) -> list[date]:
    found = []
    for i in range(0, count * every, every):
        year, month = 2020 + i // 12, i % 12 + 1
        found.append(date(year, month, calendar.monthrange(year, month)[1] if last_day else 1))
    return found


@pytest.mark.parametrize(
    ("stamps", "step", "season", "following"),
    [
        (["2024-02-28", "2024-02-29", "2024-03-01"], "1d", 7, "2024-03-02"),
        (["2024-01-01", "2024-01-08", "2024-01-15"], "7d", 52, "2024-01-22"),
        (["2024-12-31 22:00", "2024-12-31 23:00"], "1h", 24, "2025-01-01 00:00:00"),
        (["2024-01-01T00:00:00", "2024-01-01T00:15:00"], "15m", 96, "2024-01-01 00:30:00"),
        (["2024-01-01T00:00:00.5", "2024-01-01T00:00:01.0"], "500ms", 7200, "2024-01-01 00:00:01.500000"),
        (["2024-01-01T01:00:00+01:00", "2024-01-01T01:00:00Z"], "1h", 24, "2024-01-01 02:00:00Z"),
        (["2024-11", "2024-12"], "1mo", 12, "2025-01-01"),
        (months(5, False), "1mo", 12, "2020-06-01"),
        (months(13, True), "1mo", 12, "2021-02-28"),
        (months(4, True, every=3), "3mo", 4, "2021-01-31"),
        ([date(year, 7, 1) for year in range(2000, 2009)], "12mo", 1, "2009-07-01"),
        ([1990, 1991, 1992], "1", 1, "1993"),
        ([0, 10, 20, 40], "10", 1, "50"),
    ],
)
def test_steps_are_found_and_go_on(stamps: list[Any], step: str, season: int, following: str) -> None:
    found = one(stamps)
    assert str(found.grid.clock) == step
    assert found.grid.clock.season == season
    assert TimeStep.parse(step) == found.grid.clock
    assert found.stamp(len(found.values)) == following


def test_stamps_of_another_form() -> None:
    assert one(["28.02.2024", "29.02.2024"], time_format="%d.%m.%Y").stamp(2) == "2024-03-01"


def test_irregular_stamps_go_to_the_nearest_step_and_gaps_stay_gaps() -> None:
    minutes = [0, 60, 119, 121, 180, 300, 365]
    found = one([datetime(2024, 1, 1) + timedelta(minutes=m) for m in minutes], [1, 2, 3, 5, 6, None, 8], step="1h")
    assert found.stamp(0) == "2024-01-01 00:00:00"
    np.testing.assert_array_equal(found.values, [1, 2, 4, 6, np.nan, np.nan, 8])


def test_what_is_missing_at_the_ends_is_no_part_of_a_series() -> None:
    found = one([1, 2, 3, 4, 5], [None, 1, "NaN", 3, ""])
    np.testing.assert_array_equal(found.values, [1, np.nan, 3])
    assert (found.stamp(0), found.stamp(3)) == ("2", "5")


def test_rows_are_sorted_and_series_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table([3, 1, 2, 1, 2], [3, 1, 2, 10, 20], name=["a", "a", "a", "b", "b"])
    a, b = read_series(rows, OPTIONS.model_copy(update={"series": "name"}))
    assert (a.name, a.values.tolist()) == ("a", [1, 2, 3])
    assert (b.name, b.values.tolist()) == ("b", [10, 20])
    assert "not in time order" in capsys.readouterr().err


def test_what_cannot_be_used_can_be_left_out_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(["2024-01-01", "someday", "2024-01-02", "2024-01-02", "2024-01-03"], ["1", "9", "2", "9", "high"])
    (found,) = read_series(rows, OPTIONS.model_copy(update={"skip_bad": True}))
    assert found.values.tolist() == [1, 2]
    said = capsys.readouterr().err
    assert said.count("skipped") == 2
    assert len(re.findall(r" 1 (?:row|unreadable value) ", said)) == 3


def test_the_split_is_by_time_and_nothing_leaks() -> None:
    """Over series that begin at different times: what is learned from ends before what is validated on begins."""
    early, late = (replace(s, covariates=s.values[:, None] ** 2) for s in (made(80), made(50, seed=1)))
    late = replace(late, name="late", grid=replace(late.grid, start=late.grid.start + 40 * late.grid.clock.size))
    windows = find_windows([early, late], SIZES)
    numbers = split_windows(windows, ["validation", "test"])
    times = {
        name: np.array([w.series.moments(w.origin, w.origin + 3) for w in (windows[i] for i in at)])
        for name, at in numbers.items()
    }
    assert times["train"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()
    known = np.sort(np.concatenate([s.grid.moments(np.arange(len(s.values))) for s in (early, late)]))
    assert (known < times["test"].min()).mean() == pytest.approx(0.8, abs=0.02)
    assert (known < times["validation"].min()).mean() == pytest.approx(0.7, abs=0.02)
    codec = ForecastCodec.fit_windows([windows[i] for i in numbers["train"]], OPTIONS)
    changed = early.values.copy()
    changed[early.grid.moments(np.arange(80)) >= times["validation"].min()] = 1e6
    other = replace(early, values=changed, covariates=changed[:, None] ** 2)
    again = [replace_series(w, other) if w.series is early else w for w in windows]
    assert ForecastCodec.fit_windows([again[i] for i in numbers["train"]], OPTIONS) == codec


def replace_series(window: Window, other: Series) -> Window:
    return Window(other, window.begin, window.origin, window.horizon)


def test_the_network_reads_nothing_of_the_future() -> None:
    past = made(gaps=0.2)
    rows = table([past.stamp(i) for i in range(60)], past.values.tolist(), wind=np.arange(60.0))
    options = OPTIONS.model_copy(update={"covariates": "wind"})
    (whole,) = read_series(rows, options)
    codec = ForecastCodec.fit_windows(find_windows([whole], SIZES), options)
    at = 30
    blind = replace(whole, values=np.where(np.arange(60) < at, whole.values, 77.0))
    blind = replace(blind, covariates=np.where(np.arange(60)[:, None] < at, whole.covariates, 77.0))
    one, other = (codec.batch([window_at(s, at, SIZES)]) for s in (whole, blind))
    assert torch.equal(one.steps, other.steps)
    assert not torch.equal(one.future, other.future)
    assert one.steps.isfinite().all()
    wind = (np.arange(at - 12, at) - np.arange(60).mean()) / np.arange(60).std()
    np.testing.assert_allclose(one.steps[:, 0, -1], [*wind, 0, 0, 0], rtol=1e-6)


def test_windows_need_something_known_on_both_sides() -> None:
    hole = made(40)
    hole.values[10:30] = np.nan
    windows = find_windows([hole], SIZES)
    assert all(np.isfinite(w.past[-12:]).any() and np.isfinite(w.future).any() for w in windows)
    assert {w.origin for w in windows} == {o for o in range(4, 38) if o <= 9 or o >= 31}  # of 12 steps, one is known


def network(codec: ForecastCodec) -> ForecastNetwork:
    model = ForecastNetwork(codec.encoder.size, 3, codec.regression, codec.is_log, hidden=5).eval()
    torch.nn.init.normal_(model.output.weight, std=0.1)
    return model


def test_windows_side_by_side_are_those_one_by_one() -> None:
    """Also where their pasts are of different lengths."""
    codec = ForecastCodec.fit_windows(find_windows([made()], SIZES), OPTIONS)
    model, some = network(codec), [window_at(made(), origin, SIZES) for origin in (40, 5, 9)]
    together = model(codec.batch(some).steps)
    for i, window in enumerate(some):
        close(together[i], model(codec.batch([window]).steps)[0], "outputs")


def test_many_windows_are_thinned_at_all_places_in_the_season(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [made(120), made(90, seed=1)]
    every = find_windows(both, SIZES)
    monkeypatch.setattr("elman.tasks.forecast.windows.MAX_WINDOWS", 55)
    some = find_windows(both, SIZES)
    assert [(w.series.name, w.origin) for w in some] == [(w.series.name, w.origin) for w in every[::5]]
    assert {w.origin % 4 for w in some} == {0, 1, 2, 3}


def test_a_series_that_only_repeats_itself_has_a_unit() -> None:
    """Its seasons differ by roundings alone."""
    tide = np.sin(np.arange(200) * np.pi / 6)
    assert scale(tide, 12) == pytest.approx(np.abs(np.diff(tide)).mean())
    assert scale(np.full(9, 3.0), 4) == 3
    assert scale(np.zeros(9), 4) == 1
    assert scale(np.array([2.0]), 4) == 2


def test_baselines_by_hand() -> None:
    values = np.array([2.0, 4.0, 2.0, 4.0, 3.0, np.nan, 3.0, 6.0])
    assert baselines.naive(values, 3, 4).tolist() == [6, 6, 6]
    np.testing.assert_allclose(baselines.drift(values, 3, 4), 6 + np.array([1, 2, 3]) * 4 / 7)
    assert baselines.seasonal_naive(values, 3, 4).tolist() == [3, 4, 3]
    np.testing.assert_allclose(baselines.seasonal_growth(values, 3, 4), np.array([3, 4, 3]) * 16 / 12)
    assert baselines.seasonal_naive(values, 6, 4).tolist() == [3, 4, 3, 6, 3, 4]


def test_measures_beside_those_of_scikit_learn() -> None:
    """MASE is the mean absolute error over that of the seasonal naive forecast in training."""
    s = made(gaps=0.1)
    windows = find_windows([s], SIZES)
    codec = ForecastCodec.fit_windows(windows[:30], OPTIONS)
    learned = s.values[: windows[29].origin + 3]
    unit = np.nanmean(np.abs(learned[4:] - learned[:-4]))
    some = windows[30:]
    said = [np.sort(np.random.default_rng(i).normal(5, 1, (3, 3))) for i in range(len(some))]
    y, q = np.stack([w.future for w in some]), np.stack(said)
    known = ~np.isnan(y)
    y, q = y[known], q[known]
    got = TASK.metrics(codec, said, some)
    assert got["mase"] == pytest.approx(mean_absolute_error(y, q[:, 1]) / unit)
    losses = [mean_pinball_loss(y, q[:, i], alpha=alpha) for i, alpha in enumerate(QUANTILES)]
    assert got["scaled_pinball"] == pytest.approx(np.mean(losses) / unit)
    assert got["coverage"] == pytest.approx(np.mean([lo <= v <= hi for v, (lo, _, hi) in zip(y, q, strict=True)]))
    assert got["smape"] == pytest.approx(np.mean(200 * abs(y - q[:, 1]) / (abs(y) + abs(q[:, 1]))))


@pytest.mark.parametrize("form", ["log", "linear"])
def test_the_loss_of_the_validation_is_the_score(form: Any) -> None:
    """Summed over what is known alone, in units of the series."""
    windows = find_windows([made(gaps=0.2)], SIZES)
    codec = ForecastCodec.fit_windows(windows, OPTIONS.model_copy(update={"scale": form}))
    model = network(codec)
    batch = codec.batch(windows)
    with torch.no_grad():
        loss, count, _ = model.loss(batch)
        said = codec.predict(model, batch)
    assert count == sum(np.isfinite(w.future).sum() for w in windows)
    assert float(loss / count) == pytest.approx(TASK.metrics(codec, said, windows)["scaled_pinball"], rel=1e-5)


@pytest.mark.parametrize("form", ["log", "linear"])
def test_a_new_network_begins_with_a_regression(form: Any) -> None:
    """On the last value and the seasons before: nearer than each of them alone."""
    windows = find_windows([made(300)], SIZES)
    codec = ForecastCodec.fit_windows(windows, OPTIONS.model_copy(update={"scale": form}))
    model = ForecastNetwork(codec.encoder.size, 3, codec.regression, codec.is_log).eval()
    with torch.no_grad():
        forecasts = np.stack(codec.predict(model, codec.batch(windows)))[:, :, 1]
    futures = np.stack([window.future for window in windows])
    rules = baselines.naive, baselines.seasonal_naive
    errors = [np.abs(np.stack([rule(w.past, 3, 4) for w in windows]) - futures).mean() for rule in rules]
    assert np.abs(forecasts - futures).mean() < 0.9 * min(errors)


def test_values_are_relative_to_what_the_next_ones_are_near() -> None:
    walk = np.random.default_rng(0).normal(size=300).cumsum()
    season = 5 + 3 * np.sin(np.arange(300) * np.pi / 2) + 0.1 * walk
    for values, center in ((walk, "last value"), (season, "last season")):
        windows = find_windows([one(list(range(300)), list(values))], SIZES)
        assert ForecastCodec.fit_windows(windows, OPTIONS).center == center


def test_intervals_of_baselines_hold_as_much_as_they_should() -> None:
    windows = [Example(window, window) for window in find_windows([made(400)], SIZES)]
    codec = ForecastCodec.fit_windows([example.input for example in windows], OPTIONS)
    for rule in TASK.fit_baselines(codec, windows, OPTIONS, 0):
        got = TASK.metrics(codec, rule.predict(windows), [example.target for example in windows])
        assert got["coverage"] == pytest.approx(0.8, abs=0.02)


JSON_OPTIONS = ForecastOptions(time="t", target="y", horizon=2, season=2)


def lined(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps({"t": i, "y": y}) + "\n" for i, y in enumerate(values)))
    return path


@pytest.mark.parametrize(
    "values", [[1] * 150 + [200.5] * 2, [None] * 150 + [7, 8.5], [float("nan"), 1, 2]], ids=["later", "null", "nan"]
)
def test_types_are_those_of_all_lines(tmp_path: Path, values: list[Any]) -> None:
    (found,) = read_series([lined(tmp_path / "s.jsonl", values)], JSON_OPTIONS)
    known = [value for value in values if value is not None and value == value]
    assert found.values.tolist() == known


def test_the_line_that_is_wrong_is_told(tmp_path: Path) -> None:
    path = lined(tmp_path / "s.jsonl", [1] * 150)
    path.write_text(f'{path.read_text()}{{"t": 150, "y": 1\n')
    with pytest.raises(BadInput, match=r"s\.jsonl: line 151: expected a table"):
        read_series([path], JSON_OPTIONS)
    path = tmp_path / "s.csv"
    path.write_text("t,y\n1,2\n2,3\n3,4,5\n")
    with pytest.raises(BadInput, match=r"s\.csv: line 4: expected 2 columns, got 3"):
        read_series([path], JSON_OPTIONS)
    path.write_text("t,y,y\n1,2,3\n")
    with pytest.raises(BadInput, match="--target: expected one column named 'y', got several"):
        read_series([path], JSON_OPTIONS)


def test_numbers_alone_are_no_table() -> None:
    with pytest.raises(BadInput, match=r"expected a table with the columns 't' and 'y' .*, got only numbers"):
        read_series([1.0, 2.0, 3.0], JSON_OPTIONS)


@pytest.mark.parametrize("stamps", ["hours", "numbers"])
def test_seasons_are_those_of_the_training_part(stamps: str) -> None:
    hours = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(300)]
    whole = one(hours if stamps == "hours" else list(range(300)), list(range(300)))
    ends = {(): 300, ("test",): 240, ("validation", "test"): 210}
    for names, end in ends.items():
        assert training_values([whole], 1, names)[0].tolist() == list(range(end))
    assert len(training_values([whole], 90, ["test"])[0]) == (240 if stamps == "hours" else 210)
    short = one(hours[-3:] if stamps == "hours" else [0, 1, 2], [1.0, 2.0, 3.0])
    assert [len(values) for values in training_values([whole, short], 6, ["test"])] == (
        [242, 0] if stamps == "hours" else [240, 0]
    )


def test_seasons_are_those_of_the_calendar_or_of_the_values() -> None:
    noise, day, week = np.random.default_rng(0), np.tile([1, 2, 6, 3], 140), np.repeat([9, 9, 9, 9, 9, 3, 1], 4)
    values = day[:500] * np.tile(week, 20)[:500] + noise.normal(0, 0.5, 500)
    assert [steps for steps, _ in found_seasons([values], TimeStep.parse("6h"))] == [4, 28]
    assert [steps for steps, _ in found_seasons([day[:500]], TimeStep.parse("6h"))] == [4]
    assert [steps for steps, _ in found_seasons([values], TimeStep.parse("1"))] == [4, 28]
    walks = [noise.normal(size=90).cumsum() for _ in range(5)]
    assert found_seasons(walks, TimeStep.parse("1")) == [(1, "none, because time stamps are numbers")]
    assert found_lags([np.full(50, 3.0), np.array([1.0])]) == []
    weeks, rare = np.tile(week[::4], 12) + noise.normal(0, 1, 84), np.tile(noise.normal(size=50), 10)
    assert found_lags([weeks, weeks, weeks, rare]) == [7]  # though that of the longest series is clearer


def test_parts_of_series_without_dates_are_counted_from_the_end_of_each() -> None:
    """Series of different lengths, of which the shorter would else be in the training part alone."""
    both = [one(list(range(count)), list(range(count))) for count in (100, 20)]
    windows = find_windows(both, SIZES)
    numbers = split_windows(windows, ["validation", "test"])
    ends = {name: {windows[i].origin + 3 - len(windows[i].series.values) for i in at} for name, at in numbers.items()}
    assert max(ends["test"]) == 0
    assert (
        {windows[i].series for i in numbers["test"]} == {windows[i].series for i in numbers["validation"]} == set(both)
    )
    of_short = [windows[i].origin for i in numbers["test"] if windows[i].series is both[1]]
    assert of_short == [16, 17]  # a fifth of 20 steps
    assert [windows[i].origin for i in numbers["validation"] if windows[i].series is both[1]] == [
        13
    ]  # at least a horizon


def test_features_are_values_of_seasons_before() -> None:
    """By hand: on a linear scale, with a second season whose level has changed."""
    options = OPTIONS.model_copy(update={"second_season": 8, "context": 4, "scale": "linear"})
    values = np.random.default_rng(0).normal(5, 1, 40)
    (window,) = [w for w in find_windows([one(list(range(40)), list(values))], options.sizes) if w.origin == 35]
    codec = replace(ForecastCodec.fit_windows([window], options), center="last season")
    batch = codec.batch([window])
    floor, center, spread = (float(part[0, 0]) for part in batch.scaling)
    z = (values - center) / spread
    past = values[35 - 28 : 35]
    assert (floor, center, spread) == pytest.approx((0.01 * past.mean(), past[-4:].mean(), past.std()))
    rows = batch.steps[:, 0].numpy()
    assert rows[:, 0] == pytest.approx([*z[31:35], 0, 0, 0])
    assert rows[:, 1].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert rows[:, 2] == pytest.approx(np.full(7, z[34]), abs=1e-6)
    assert rows[:, 3] == pytest.approx([*z[27:31], *z[31:34]])
    means = [[z[i - 4 * k] for k in range(1, 8) if i - 4 * k >= 7] for i in range(31, 38)]
    assert rows[:, 4] == pytest.approx([np.mean(row) for row in means], abs=1e-6)
    change = z[31:35].mean() - z[23:27].mean()
    assert rows[:, 5] == pytest.approx([*z[23:27], *z[27:30] + change], abs=1e-6)
    assert rows[:, 6] == pytest.approx(z[23:30])
    means = [[z[i - 8 * k] for k in (1, 2, 3) if i - 8 * k >= 7] for i in range(31, 38)]
    assert rows[:, 7] == pytest.approx([np.mean(row) for row in means], abs=1e-6)
    unit = np.abs(past[4:] - past[:-4]).mean()
    assert rows[:, 8] == pytest.approx(np.full(7, np.log(spread / unit)), abs=1e-6)


def test_features_of_gaps_are_the_values_that_fill_them() -> None:
    values = made(40, gaps=0.3).values
    options = OPTIONS.model_copy(update={"scale": "linear"})
    windows = find_windows([one(list(range(40)), list(values))], options.sizes)
    codec = ForecastCodec.fit_windows(windows, options)
    window = next(w for w in windows if w.origin == 33)
    batch = codec.batch([window])
    _, center, spread = (float(part[0, 0]) for part in batch.scaling)
    last, known = baselines.fill_gaps(window.past, 4)[-12:], ~np.isnan(window.past[-12:])
    assert batch.steps[:12, 0, 0].numpy() * spread + center == pytest.approx(last, rel=1e-5)
    assert batch.steps[:12, 0, 1].bool().tolist() == known.tolist()


def test_a_scale_is_logarithmic_where_values_vary_with_their_level() -> None:
    noise, level = np.random.default_rng(0).normal(size=300), np.exp(np.sin(np.arange(300) / 20))
    multiplied, added = level * np.exp(0.1 * noise), 2 + level + 0.1 * noise
    for values, is_log in ((multiplied, True), (added, False), (multiplied - multiplied.mean(), False)):
        windows = find_windows([one(list(range(300)), list(values))], SIZES)
        assert ForecastCodec.fit_windows(windows, OPTIONS).is_log is is_log
    codec = ForecastCodec.fit_windows(windows, OPTIONS.model_copy(update={"scale": "log"}))
    scaling = Scaling(*map(torch.from_numpy, codec.batch(windows[-1:]).scaling))
    values = torch.tensor([[-3.0, 0.0, 1e-9, 2.0, 1e9]], dtype=torch.float64)
    close(scaling.restore(scaling.standardize(values, True), True), values, "outputs")


def test_covariates_that_are_known_in_advance_or_describe_a_series(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(
        [*range(30), *range(30)], [*map(float, range(27)), None, None, None, *map(float, range(30))],
        name=["a"] * 30 + ["b"] * 30, sun=[*range(60)], kind=["inn"] * 30 + ["bar"] * 30, rooms=["4"] * 30 + ["8"] * 30,
    )  # fmt: skip
    options = OPTIONS.model_copy(
        update={"series": "name", "future_covariates": "sun", "static_covariates": "kind,rooms", "scale": "linear"}
    )
    both = read_series(rows, options)
    assert [len(s.values) for s in both] == [27, 30]
    assert both[0].future_covariates[:, 0].tolist() == list(range(30))
    codec = ForecastCodec.fit_windows(find_windows(both, options.sizes), options)
    assert codec.static == [["bar", "inn"], (6.0, 2.0)]
    batch = codec.batch([TASK.parse_input(both[0], options).input])
    suns = (np.arange(15, 30) - codec.future_means[0]) / codec.future_spreads[0]
    assert batch.steps[:, 0, -4].numpy() == pytest.approx(suns)
    assert batch.steps[7, 0, -3:].tolist() == [0, 1, -1]
    with pytest.raises(
        BadInput, match="'sun' for 3 steps after the last value, up to 32, got 0; add rows without a tar"
    ):
        TASK.parse_input(both[1], options)
    stored = ends_to_csv(both, options.model_copy(update={"series": "name"}))
    assert stored.splitlines()[0] == "series,time,target,future 0,static 0,static 1"
    wrong = rows.with_columns(kind=pl.col("sun").cast(pl.String))
    with pytest.raises(
        BadInput, match="--static-covariates: expected one value of 'kind' in all rows of a series, got"
    ):
        read_series(wrong, options)
    with pytest.raises(
        BadInput, match="--future-covariates: expected columns without another use, got 'y', which is o"
    ):
        read_series(rows, options.model_copy(update={"future_covariates": "y"}))
    with pytest.raises(BadInput, match="--future-covariates: expected names of columns: new-line character seen"):
        read_series(rows, options.model_copy(update={"future_covariates": "sun\rwind"}))


def test_holidays_are_known_in_advance() -> None:
    days = one([date(2023, 12, 1) + timedelta(days=i) for i in range(60)], list(range(60)))
    options = OPTIONS.model_copy(update={"holidays": "DE", "context": 12})
    codec = ForecastCodec.fit_windows(find_windows([days], options.sizes), options)
    batch = codec.batch([window_at(days, 30, options.sizes)])  # from December 31
    assert batch.steps[:, 0, -1].tolist() == [0] * 6 + [1, 1] + [0] * 5 + [1, 0]  # 25th, 26th and January 1
    with pytest.raises(BadInput, match="--holidays: expected a country, as DE, US or US-CA, got 'XX'"):
        calendar_of("XX")
    with pytest.raises(BadInput, match="--holidays: expected a part of DE, got 'DE-XX'"):
        calendar_of("DE-XX")


def test_a_second_season_has_a_baseline() -> None:
    options = OPTIONS.model_copy(update={"second_season": 8})
    windows = [Example(window, window) for window in find_windows([made(60)], options.sizes)]
    codec = ForecastCodec.fit_windows([example.input for example in windows], options)
    rule = TASK.fit_baselines(codec, windows, options, 0)[-1]
    assert rule.title == "seasonal naive (8)"
    first, last = (rule.predict([windows[i]])[0][:, 1] for i in (0, -1))
    assert last.tolist() == windows[-1].input.past[-8:-5].tolist()
    assert first.tolist() == windows[0].input.past[-4:-1].tolist()  # the past is one season


def test_calibrated_intervals_hold_their_share() -> None:
    """Of what they were calibrated on; a few values calibrate nothing."""
    windows = find_windows([made(400)], SIZES)
    codec = ForecastCodec.fit_windows(windows, OPTIONS.model_copy(update={"quantiles": "0.1,0.25,0.9"}))
    model = ForecastNetwork(codec.encoder.size, 3, codec.regression, codec.is_log, codec.levels, hidden=5).eval()
    before = model.state_dict()["output.weight"].clone()
    model.calibrate([codec.batch(windows[:200]), codec.batch(windows[200:])])
    with torch.no_grad():
        quantiles = np.stack(codec.predict(model, codec.batch(windows)))
    below = (np.stack([window.future for window in windows])[..., None] <= quantiles).mean((0, 1))
    assert below[[0, -1]] == pytest.approx([0.1, 0.9], abs=0.002)
    assert (np.diff(quantiles) >= 0).all()
    assert model.calibration[0] == model.calibration[1] != model.calibration[2] == 1
    assert torch.equal(model.output.weight, before)
    model.calibrate([codec.batch(windows[:30])])
    assert model.calibration.tolist() == [1, 1, 1, 1]


def test_quantiles_of_ones_own() -> None:
    options = OPTIONS.model_copy(update={"quantiles": "0.05,0.25,0.95"})
    windows = [Example(window, window) for window in find_windows([made(200)], SIZES)]
    codec = ForecastCodec.fit_windows([example.input for example in windows], options)
    assert codec.levels == [0.05, 0.25, 0.5, 0.95]
    model = ForecastNetwork(**codec.model_args(options))
    with torch.no_grad():
        [forecast] = codec.predict(model, codec.batch([windows[0].input]))
    row, *_ = codec.to_rows(1, "", windows[0], forecast)
    assert list(row) == ["series", "time", "median", "low", "high", "0.25"]
    assert row["low"] <= row["0.25"] <= row["median"] <= row["high"]
    for rule in TASK.fit_baselines(codec, windows, options, 0):
        forecasts = np.stack(rule.predict(windows))
        assert forecasts.shape == (len(windows), 3, 4)
        assert (np.diff(forecasts) >= 0).all()
    for wrong in ("", "0.1,x", "1.5", "0,0.5"):
        with pytest.raises(ValidationError, match="expected"):
            ForecastOptions(quantiles=wrong)
    assert ForecastOptions(quantiles=[0.2, 0.8]).quantiles == "0.2,0.8"  # type: ignore[arg-type]


def test_the_ends_of_all_series_are_kept_also_of_those_without_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of many short series, of whose windows only every n-th is used."""
    monkeypatch.setattr("elman.tasks.forecast.windows.MAX_WINDOWS", 7)
    draw = np.random.default_rng(0)
    lengths = [40, 12, 12, 12]
    table = pl.concat(
        pl.DataFrame({"t": range(n), "y": draw.normal(5, 1, n), "of": [f"s{i}"] * n}) for i, n in enumerate(lengths)
    )
    options: dict[str, Any] = {"season": 4, "horizon": 3, "context": 8, "hidden": 4, "epochs": 1}
    model = fit(table, tmp_path / "run", time="t", target="y", series="of", **options)
    assert "s3" not in (tmp_path / "run" / "split.csv").read_text()
    assert {row["series"] for row in model.predict()} == {"s0", "s1", "s2", "s3"}


def test_series_shorter_than_a_season(tmp_path: Path) -> None:
    lengths = {"long": 90, "season": 13, "half": 9, "shortest": 5}
    table = pl.concat(
        pl.DataFrame({"t": range(n), "y": [float(t % 8) for t in range(n)], "of": [name] * n})
        for name, n in lengths.items()
    )
    options: dict[str, Any] = {"season": 8, "horizon": 3, "context": 16, "hidden": 4, "epochs": 1}
    windows = find_windows(read_series(table, OPTIONS.model_copy(update={"series": "of"})), Sizes(8, 0, 3, 16))
    first = {name: min(w.origin for w in windows if w.series.name == name) for name in lengths}
    assert first == {"long": 8, "season": 8, "half": 2, "shortest": 2}
    model = fit(table, tmp_path / "run", time="t", target="y", series="of", **options)
    assert {row["series"] for row in model.predict()} == set(lengths)
    assert [row["median"] > 0 for row in model.predict({"t": [0, 1], "y": [5.0, 6.0], "of": ["new"] * 2})] == [True] * 3


def test_one_note_for_all_series_that_are_too_short(capsys: pytest.CaptureFixture[str]) -> None:
    table = pl.DataFrame({"t": [*range(40), 0, 1, 0, 1, 2], "y": range(45), "of": ["a"] * 40 + ["b"] * 2 + ["c"] * 3})
    named = OPTIONS.model_copy(update={"series": "of"})
    series = read_series(table, named)
    with pytest.raises(BadInput, match=r"'b', and 1 other: expected at least 5 steps .* --skip-bad to skip them"):
        TASK.read(series, named)
    examples = TASK.read(series, named.model_copy(update={"skip_bad": True}))
    assert {example.input.series.name for example in examples} == {"a"}
    assert capsys.readouterr().err.count("skipped") == 1
