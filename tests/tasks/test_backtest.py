"""Backtests: cutoffs, what forecasts may know, refits, scores as utilsforecast defines them, statistical baselines."""

import csv
import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from elman.baselines.forecast import naive_2
from elman.data.time_index.clock import TimeStep
from elman.errors import BadInput, MissingPackage
from elman.tasks import bootstrap, forecast
from elman.tasks.api import Trained
from elman.tasks.backtest_options import BacktestOptions
from elman.tasks.forecast.options import Sizes
from elman.tasks.forecast.scores import Observed, forecast_scores
from elman.tasks.forecast.windows import rolling_origins
from elman.tasks.registry import get_task
from tests.small import Command
from tests.tasks.test_forecast_parts import made, one

SIZES = Sizes(8, 0, 4, 16)
SMALL: dict[str, Any] = {"season": 8, "horizon": 4, "context": 16, "hidden": 6, "batch": 16, "lr": 0.02, "epochs": 1}
N = 160


def tides(count: int = N, seed: int = 0) -> pl.DataFrame:
    """Two series, of which the second begins later."""
    noise = np.random.default_rng(seed).normal(0, 0.1, count)
    stamps = [datetime(2024, 2, 20) + timedelta(hours=3 * i) for i in range(count)]
    levels = 10 + 3 * np.sin(np.arange(count) * np.pi / 4) + noise
    north = pl.DataFrame({"when": stamps, "level": levels, "of": ["north"] * count})
    return pl.concat([north, north.tail(count - 20).with_columns(of=pl.lit("south"), level=20 - pl.col("level"))])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tides") / "tides.csv"
    tides().write_csv(path, datetime_format="%Y-%m-%d %H:%M")
    return path


@pytest.fixture(scope="module")
def model(table: Path) -> Trained:
    return forecast.fit(table, table.parent / "run", time="when", target="level", series="of", **SMALL)


def medians(result: Any, cutoff: str | None = None) -> list[tuple[str, str, str, float, float]]:
    return [
        (row["model"], row["series"], row["time"], row["median"], row["high"])
        for row in result.forecasts
        if cutoff in (None, row["cutoff"])
    ]


def test_cutoffs_are_the_same_moment_in_all_series() -> None:
    long, short = one(STAMPS), one(STAMPS[10:50])
    cutoffs = rolling_origins([long, short], SIZES, 4, 5)
    assert [origins[long] for origins in cutoffs] == [40, 44, 48, 52, 56]
    assert [origins.get(short) for origins in cutoffs] == [30, 34, None, None, None], "which ends before the others"
    everything = rolling_origins([long], SIZES, 4, None)
    assert [origins[long] for origins in everything] == [48, 52, 56], "in the last 20 %"
    with pytest.raises(BadInput, match="--windows: expected at most 13 for this data"):
        rolling_origins([long], SIZES, 4, 100)


def test_cutoffs_of_numbers_are_counted_from_the_end_of_each_series() -> None:
    long, short = one(list(range(60))), one(list(range(30)))
    cutoffs = rolling_origins([long, short], SIZES, 6, 3)
    assert [[*origins.values()] for origins in cutoffs] == [[44, 14], [50, 20], [56, 26]]
    assert rolling_origins([long, short], SIZES, 2, None)[0] == {long: 48}, "20 % of 30 steps are fewer"


def test_a_gap_in_the_horizon_is_left_out_only_if_it_has_no_value() -> None:
    series = one(STAMPS, [*range(50), None, None, None, None, *range(6)])
    assert [origins[series] for origins in rolling_origins([series], SIZES, 2, None)] == [44, 46, 48, 52, 54, 56]


STAMPS: list[Any] = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(60)]


def test_scores_and_forecasts_of_all_models(model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MIN_UNITS", 3)
    result = model.backtest()
    assert result.scores.counted == "14 windows from 7 cutoffs"
    assert list(result.scores)[:3] == ["GRU 6", "naive", "drift"]
    assert list(result.scores["GRU 6"]) == ["mase", "smape", "scaled_pinball", "crps", "coverage", "owa"]
    assert result.scores["GRU 6"]["mase"] < result.scores["naive"]["mase"]
    assert result.scores.margins["GRU 6"]["mase"] > 0
    assert len(result.forecasts) == len(result.scores) * 14 * 4
    first = result.forecasts[0]
    assert list(first) == ["model", "series", "cutoff", "time", "actual", "median", "low", "high"]
    values = {(row["of"], str(row["when"])): row["level"] for row in tides().to_dicts()}
    for row in result.forecasts:
        assert row["actual"] == values[row["series"], row["time"]]
        assert row["cutoff"] < row["time"]
    sums = [abs(row["actual"] - row["median"]) for row in result.forecasts if row["model"] == "GRU 6"]
    units = {name: part["level"].diff(8).abs() for (name,), part in tides().group_by("of", maintain_order=True)}
    assert np.mean(sums) / result.scores["GRU 6"]["mase"] == pytest.approx(units["north"].mean(), rel=0.05)


def test_a_forecast_equals_that_from_data_which_end_at_its_cutoff(model: Trained) -> None:
    result, cut = model.backtest(windows=3), 148
    rows = model.predict(tides().filter(pl.col("when") < tides()["when"][cut]))
    cutoff = str(tides()["when"][cut - 1])
    ours = [row for row in medians(result, cutoff) if row[0] == "GRU 6"]
    assert ours == [("GRU 6", row["series"], row["time"], row["median"], row["high"]) for row in rows]


def changed(cutoff: int, times: float = 3.0) -> pl.DataFrame:
    """The tides, with other values after a cutoff."""
    moment = tides()["when"][cutoff]
    later = pl.col("when") >= moment
    return tides().with_columns(level=pl.when(later).then(times * pl.col("level") + 7).otherwise("level"))


def test_forecasts_do_not_know_what_follows(model: Trained) -> None:
    """Also of the intervals of baselines, whose unit is that of the series."""
    cut = N - 8
    before, after = (model.backtest(data, windows=4) for data in (tides(), changed(cut)))
    for origin in (N - 16, N - 12, N - 8):
        cutoff = str(tides()["when"][origin - 1])
        assert medians(before, cutoff) == medians(after, cutoff)
    assert before.scores != after.scores
    assert medians(before) != medians(after), "the last cutoff knows them"


def test_refits_do_not_know_what_follows(model: Trained) -> None:
    cut = N - 4
    weights = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    before, after = (model.backtest(data, windows=2, refit=True) for data in (tides(), changed(cut)))
    assert medians(before) == medians(after)
    assert medians(before) != medians(model.backtest(windows=2)), "they are other models"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.model.state_dict().items())


def test_what_the_model_has_seen_is_told(model: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    model.backtest(windows=7)
    assert capsys.readouterr().err == ""
    model.backtest(windows=10)
    assert (
        "6 of the 20 windows begin in the time that this model was trained or validated on" in capsys.readouterr().err
    )
    other = tides(seed=1)
    model.backtest(other, windows=10)
    assert capsys.readouterr().err == "", "other series"


def test_the_command(elman: Command, model: Trained, tmp_path: Path) -> None:
    run = model.run.path
    options = ("--windows", 3, "--stride", 2, "--horizon", 3, "--out", tmp_path / "out")
    completed = elman("backtest", run, *options, "--json")
    assert completed.code == 0, completed.err
    printed = json.loads(completed.out)
    result = model.backtest(windows=3, stride=2, horizon=3)
    assert printed["scores"] == result.scores
    assert (printed["scored"], printed["margins"]["GRU 6"]) == ("6 windows from 3 cutoffs", {})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"forecasts.csv", "backtest.png"}
    rows = list(csv.DictReader((tmp_path / "out" / "forecasts.csv").read_text().splitlines()))
    assert [float(row["median"]) for row in rows] == [row["median"] for row in result.forecasts]
    assert {row["cutoff"] for row in rows} == {str(tides()["when"][N - before]) for before in (4, 6, 8)}
    completed = elman("backtest", run, "--windows", 1, "--out", tmp_path / "out")
    assert (completed.code, "expected a new or empty folder, got a folder with files" in completed.err) == (2, True)
    completed = elman("backtest", run)
    assert (completed.code, "owa" in completed.out, "on 14 windows from 7 cutoffs" in completed.out) == (0, True, True)
    assert f"forecasts: {run / 'backtest' / 'forecasts.csv'}" in completed.err
    assert elman("backtest", run, "--windows", 1).code == 0, "and replaces the former"
    completed = elman("backtest", run, "--refit", "--windows", 2, "--out", tmp_path / "refits")
    assert "cutoff 1 of 2, 2024-03-09 21:00:00: training" in completed.err
    assert "cutoff 2 of 2, 2024-03-10 09:00:00: training, about 0:0" in completed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--horizon", 5], "--horizon: expected at most 4, the horizon of"),
        (["--windows", 99], "--windows: expected at most 38"),
        (["--refit", "--windows", 36], "--refit: cutoff 2024-02-"),
        (["--baselines", "Prophet"], "expected some of AutoETS, Theta, MSTL, SeasonalNaive, or all; got 'Prophet'"),
    ],
)
def test_what_a_backtest_refuses(
    elman: Command, model: Trained, tmp_path: Path, options: list[object], message: str
) -> None:
    completed = elman("backtest", model.run.path, *options, "--out", tmp_path / "out")
    assert (completed.code, message in completed.err.splitlines()[-1]) == (2, True), completed.err
    assert not (tmp_path / "out").exists()


def test_other_tasks_have_no_backtest(model: Trained) -> None:
    with pytest.raises(BadInput, match="backtest: expected a run of forecast, got one of image"):
        get_task("image").backtest(model._loaded, None, BacktestOptions(), Console())


def drawn(
    series: int = 3, windows: int = 2, horizon: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Quantiles, values and the number of the series of windows."""
    draw = np.random.default_rng(seed)
    y = draw.normal(10, 3, (series * windows, horizon))
    quantiles = np.sort(y[..., None] + draw.normal(0, 2, (*y.shape, 3)), axis=2)
    return quantiles, y, [i // windows for i in range(series * windows)]


def test_scores_are_those_of_utilsforecast() -> None:
    losses: Any = pytest.importorskip("utilsforecast.losses")
    levels, season, names = [0.1, 0.5, 0.9], 4, ["lo", "mid", "hi"]
    quantiles, y, numbers = drawn()
    past = np.random.default_rng(1).normal(10, 3, (3, 40))
    stamps, F = np.arange(40, 40 + y.shape[1]), y.shape[1]
    table = pl.DataFrame(
        {"unique_id": np.repeat(numbers, F), "ds": np.tile(stamps, len(y)), "y": y.ravel()}
        | {name: quantiles[..., i].ravel() for i, name in enumerate(names)}
    )
    train = pl.DataFrame({"unique_id": np.repeat(range(3), 40), "ds": np.tile(range(40), 3), "y": past.ravel()})
    units = [np.abs(past[i, season:] - past[i, :-season]).mean() for i in numbers]
    scores = forecast_scores(quantiles, levels, Observed.of(list(y), units, numbers))
    table = table.with_columns(pl.col("lo").alias("m-lo-80"), pl.col("hi").alias("m-hi-80"))

    def mean(result: Any, name: str) -> float:
        return float(np.mean(pl.DataFrame(result)[name].to_numpy()))

    spread = {"m": names}
    assert scores["mase"] == pytest.approx(mean(losses.mase(table, ["mid"], season, train), "mid"))
    assert scores["smape"] == pytest.approx(200 * mean(losses.smape(table, ["mid"]), "mid"))
    theirs = losses.scaled_mqloss(table, spread, np.array(levels), season, train)
    assert scores["scaled_pinball"] == pytest.approx(mean(theirs, "m"))
    assert scores["crps"] == pytest.approx(mean(losses.scaled_crps(table, spread, np.array(levels)), "m"))
    assert scores["coverage"] == pytest.approx(mean(losses.coverage(table, ["m"], 80), "m"))


def test_owa_is_one_of_naive_2_and_half_of_half_its_errors() -> None:
    _, y, numbers = drawn()
    naive = y + 1
    observed = Observed.of(list(y), [2.0] * len(y), numbers, naive)
    same = np.repeat(naive[..., None], 3, axis=2)
    assert forecast_scores(same, [0.1, 0.5, 0.9], observed)["owa"] == pytest.approx(1)
    half = forecast_scores((same + y[..., None]) / 2, [0.1, 0.5, 0.9], observed)["owa"]
    assert half == pytest.approx(0.5, rel=0.02)
    assert "owa" not in forecast_scores(same, [0.1, 0.5, 0.9], replace(observed, naive=None))


def test_gaps_are_not_scored() -> None:
    quantiles, y, numbers = drawn()
    with_gaps, wrong = y.copy(), quantiles.copy()
    with_gaps[:, 1], wrong[:, 1] = np.nan, 1e9
    kept = [0, 2, 3, 4]
    levels = [0.1, 0.5, 0.9]
    obtained = forecast_scores(wrong, levels, Observed.of(list(with_gaps), [1.5] * 6, numbers))
    expected = forecast_scores(quantiles[:, kept], levels, Observed.of(list(y[:, kept]), [1.5] * 6, numbers))
    assert obtained == pytest.approx(expected)


def test_naive_2_is_that_of_the_competition() -> None:
    """A classical decomposition by hand: of two steps, an odd season, values that are not positive."""
    wave = np.tile([8.0, 12.0], 10)
    assert naive_2(wave, 3, 2).tolist() == pytest.approx([8.0, 12.0, 8.0])
    odd = 5 + np.tile([0.0, 2.0, -2.0], 8)
    assert naive_2(odd, 4, 3).tolist() == pytest.approx([5.0, 7.0, 3.0, 5.0])
    assert naive_2(odd - 5, 4, 3).tolist() == pytest.approx([0.0, 2.0, -2.0, 0.0]), "additive"
    noise = np.random.default_rng(0).normal(10, 1, 40)
    assert naive_2(noise, 2, 4).tolist() == [noise[-1]] * 2, "no season"
    assert naive_2(np.r_[noise, np.nan], 2, 1).tolist() == [noise[-1]] * 2, "a gap at the end"


@pytest.mark.skipif(find_spec("statsforecast") is not None, reason="needs statsforecast to be missing")
def test_the_missing_package_is_named(model: Trained) -> None:
    with pytest.raises(MissingPackage, match=r"pip install 'elman\[statsforecast\]'"):
        model.backtest(windows=1, baselines="Theta")


@pytest.mark.slow
def test_statistical_baselines_are_rows_of_the_table(model: Trained) -> None:
    pytest.importorskip("statsforecast", exc_type=ImportError)
    result = model.backtest(windows=2, baselines=["AutoETS", "Theta", "MSTL", "SeasonalNaive"])
    assert list(result.scores)[-4:] == ["AutoETS", "Theta", "MSTL", "SeasonalNaive"]
    names = ("SeasonalNaive", "seasonal naive")
    theirs, ours = ([row["median"] for row in result.forecasts if row["model"] == name] for name in names)
    assert theirs == pytest.approx(ours)
    for row in result.forecasts:
        assert row["low"] <= row["median"] <= row["high"]
    assert all(result.scores[name]["mase"] < result.scores["naive"]["mase"] for name in ("AutoETS", "Theta", "MSTL"))


def test_a_part_of_a_series_has_what_was_known_then() -> None:
    values = np.arange(60.0)
    series = replace(
        made(60), values=values, covariates=values[:, None], future_covariates=np.arange(64.0)[:, None], learned="a"
    )
    part = series.before(40, 4)
    assert [len(part.values), len(part.covariates), len(part.future_covariates)] == [40, 40, 44]
    assert (part.stamp(40), part.grid.clock, part.learned) == (series.stamp(40), TimeStep.parse("1h"), None)
    assert part.unit(4) == 4


def test_nothing_is_written_through_a_link(elman: Command, model: Trained, tmp_path: Path) -> None:
    model.save(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(tmp_path / "run" / "backtest", ignore_errors=True)
    (tmp_path / "run" / "backtest").symlink_to(tmp_path / "elsewhere")
    completed = elman("backtest", tmp_path / "run")
    assert (completed.code, "expected a folder, got a symbolic link" in completed.err) == (2, True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_without_an_error_of_naive_2_there_is_no_owa() -> None:
    y, quantiles = [np.array([4.0])], np.array([[[1.0, 2.0, 3.0]]])
    names = [
        [*forecast_scores(quantiles, [0.1, 0.5, 0.9], Observed.of(y, [2.0], ["a"], np.array([[naive]])))]
        for naive in (3.0, 4.0 + 1e-15)
    ]
    assert names == [["mase", "smape", "scaled_pinball", "crps", "coverage", "owa"], names[0][:-1]]
