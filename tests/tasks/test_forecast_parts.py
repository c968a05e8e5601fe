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
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from elman.baselines import forecast as baselines
from elman.data.examples import Example
from elman.data.time_index.clock import TimeStep
from elman.errors import BadInput
from elman.tasks.forecast.data import Series, Window, read_series, scale
from elman.tasks.forecast.model import QUANTILES, ForecastNetwork
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.task import TASK
from elman.tasks.forecast.windows import ForecastCodec, find_windows, split_windows, thin_windows, window_at
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
    found = [w for s in (early, late) for w in find_windows(s, SIZES)]
    numbers = split_windows(found, ["validation", "test"])
    times = {
        name: np.array([w.series.grid.moments(np.array([w.origin, w.origin + 2])) for w in (found[i] for i in at)])
        for name, at in numbers.items()
    }
    assert times["train"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()
    known = np.sort(np.concatenate([s.grid.moments(np.arange(len(s.values))) for s in (early, late)]))
    assert (known < times["test"].min()).mean() == pytest.approx(0.8, abs=0.02)
    assert (known < times["validation"].min()).mean() == pytest.approx(0.7, abs=0.02)
    codec = ForecastCodec.fit_windows([found[i] for i in numbers["train"]], SIZES)
    changed = early.values.copy()
    changed[early.grid.moments(np.arange(80)) >= times["validation"].min()] = 1e6
    other = replace(early, values=changed, covariates=changed[:, None] ** 2)
    again = [replace_series(w, other) if w.series is early else w for w in found]
    assert ForecastCodec.fit_windows([again[i] for i in numbers["train"]], SIZES) == codec


def replace_series(window: Window, other: Series) -> Window:
    return Window(other, window.begin, window.origin, window.horizon)


def test_the_network_reads_nothing_of_the_future() -> None:
    past = made(gaps=0.2)
    rows = table([past.stamp(i) for i in range(60)], past.values.tolist(), wind=np.arange(60.0))
    options = OPTIONS.model_copy(update={"covariates": "wind"})
    (whole,) = read_series(rows, options)
    codec = ForecastCodec.fit_windows(find_windows(whole, SIZES), SIZES)
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
    found = find_windows(hole, SIZES)
    assert all(np.isfinite(w.context).any() and np.isfinite(w.future).any() for w in found)
    assert {w.origin for w in found} == {o for o in range(4, 38) if o <= 9 or o >= 31}  # of 12 steps, one is known


def test_windows_side_by_side_are_those_one_by_one() -> None:
    """Also where they are of different lengths."""
    codec = ForecastCodec.fit_windows(find_windows(made(), SIZES), SIZES)
    model = ForecastNetwork(codec.inputs, 3, hidden=5)
    torch.nn.init.normal_(model.output.weight)
    some = [window_at(made(), origin, SIZES) for origin in (20, 5, 9)]
    batch = codec.batch(some)
    assert batch.lengths is not None
    together = model(batch.steps, batch.lengths)
    for i, window in enumerate(some):
        alone = codec.batch([window])
        assert alone.lengths is None
        close(together[i], model(alone.steps)[0], "outputs")


def test_many_windows_are_thinned_at_all_places_in_the_season(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_windows(made(200), SIZES)
    monkeypatch.setattr("elman.tasks.forecast.windows.MAX_WINDOWS", 55)
    some = thin_windows(found, 4)
    assert len(some) <= 55
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
    found = find_windows(s, SIZES)
    codec = ForecastCodec.fit_windows(found[:30], SIZES)
    learned = s.values[: found[29].origin + 3]
    unit = np.nanmean(np.abs(learned[4:] - learned[:-4]))
    some = found[30:]
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


def test_the_loss_of_the_training_is_the_score() -> None:
    """Summed over what is known alone, in units of the series."""
    found = find_windows(made(gaps=0.2), SIZES)
    codec = ForecastCodec.fit_windows(found, SIZES)
    model = ForecastNetwork(codec.inputs, 3, hidden=5).eval()
    torch.nn.init.normal_(model.output.weight)
    batch = codec.batch(found)
    with torch.no_grad():
        loss, count, _ = model.loss(batch)
        said = codec.predict(model, batch)
    assert count == sum(np.isfinite(w.future).sum() for w in found)
    assert float(loss / count) == pytest.approx(TASK.metrics(codec, said, found)["scaled_pinball"], rel=1e-5)


def test_a_new_network_begins_with_the_last_value() -> None:
    found = find_windows(made(), SIZES)
    codec = ForecastCodec.fit_windows(found, SIZES)
    with torch.no_grad():
        said = codec.predict(ForecastNetwork(codec.inputs, 3).eval(), codec.batch(found))
    np.testing.assert_allclose(
        np.stack(said)[:, :, 1],
        np.stack([baselines.naive(window.context, window.horizon, 4) for window in found]),
        rtol=1e-6,
    )


def test_intervals_of_baselines_hold_as_much_as_they_should() -> None:
    found = [Example(window, window) for window in find_windows(made(400), SIZES)]
    codec = ForecastCodec.fit_windows([example.input for example in found], SIZES)
    for rule in TASK.fit_baselines(codec, found, OPTIONS, 0):
        got = TASK.metrics(codec, rule.predict(found), [example.target for example in found])
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
