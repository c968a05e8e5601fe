"""elman train forecast, end to end, on tides that the tests make."""

import csv
import io
import json
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from elman.tasks.forecast import fit
from elman.training.callbacks import CheckpointCallback
from tests.small import Command, files

NAMES = ["--time", "when", "--target", "level"]
SMALL = ["--season", 8, "--horizon", 4, "--context", 16, "--hidden", 6, "--batch", 16, "--lr", 0.02]
OPTIONS = [*NAMES, *SMALL, "--epochs", 2]
N = 160


def tide(count: int = N, begin: str = "2024-02-20 00:00:00", seed: int = 0) -> pl.DataFrame:
    """Every three hours, so that a season of 8 is a day."""
    first, noise = datetime.fromisoformat(begin), np.random.default_rng(seed).normal(0, 0.1, count)
    stamps = [str(first + timedelta(hours=3 * i)) for i in range(count)]
    return pl.DataFrame({"when": stamps, "level": 10 + 3 * np.sin(np.arange(count) * np.pi / 4) + noise})


def written(path: Path, table: pl.DataFrame) -> Path:
    table.write_csv(path)
    return path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tides") / "tide.csv", tide())


@pytest.fixture(scope="module")
def trained(table: Path) -> Path:
    """A finished run, not to be changed."""
    from elman.cli import run

    path = table.parent / "run"
    assert run(["train", "forecast", str(table), *map(str, OPTIONS), "--flow-every", "5", "--out", str(path)]) == 0
    return path


def test_a_run_has_all_that_there_is_to_know(elman: Command, trained: Path) -> None:
    scores = json.loads((trained / "config.json").read_text())["scores"]
    assert list(scores) == ["GRU 6", "naive", "drift", "seasonal naive", "seasonal x growth"]
    assert scores["GRU 6"]["mase"] < scores["naive"]["mase"]
    assert all(set(row) == {"mase", "smape", "scaled_pinball", "crps", "coverage"} for row in scores.values())
    pictures = {"forecast.png", "windows.png", "curves.png", "flow.png"}
    assert pictures | {"ends.csv", "split.csv", "codec.json"} <= files(trained)
    said = elman("info", trained)
    assert "season 8" in said.out
    assert "step 3h" in said.out


def test_evaluate_and_the_training_agree_on_the_same_windows(elman: Command, trained: Path, tmp_path: Path) -> None:
    """The test part in a file of its own, with the context before it."""
    parts = [row["part"] for row in rows((trained / "split.csv").read_text())]
    first = N - 4 + 1 - parts.count("test")
    short = trained.parent / "test.csv"
    said = elman("evaluate", trained, written(short, tide()[first - 16 :]))
    assert said.code == 0
    scores = json.loads((trained / "config.json").read_text())["scores"]
    found = {line.split("  ")[1].strip(): line.split()[-5:] for line in said.out.splitlines() if "naive" in line}
    assert found.keys() == {"naive", "seasonal naive"}
    assert abs(float(found["naive"][0]) - scores["naive"]["mase"]) < 0.05  # some more windows, with short contexts


def test_predict_goes_on_behind_the_end(elman: Command, trained: Path, table: Path, tmp_path: Path) -> None:
    own = elman("predict", trained, "--format", "csv")
    assert own.code == 0
    found = rows(own.out)
    assert [row["time"] for row in found] == [f"2024-03-11 {hour}:00:00" for hour in ("00", "03", "06", "09")]
    assert all(row["series"] == "level" for row in found)
    assert all(float(row["low"]) <= float(row["median"]) <= float(row["high"]) for row in found)
    assert elman("predict", trained, table, "--format", "csv").out == own.out
    later = elman("predict", trained, written(tmp_path / "later.csv", tide(40, "2025-12-31 12:00:00")))
    assert "2026-01-05 12:00:00" in later.out


@pytest.mark.slow
def test_flow_report_and_draw(elman: Command, trained: Path, tmp_path: Path) -> None:
    assert "gradient of" in elman("flow", trained, "--out", tmp_path / "flow").out
    assert elman("report", trained, "--out", tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text()
    assert "level from 2024-03-0" in page
    assert "next step" in page
    assert elman("draw", trained, "--out", tmp_path / "net.svg").code == 0


@pytest.mark.slow
def test_ctrl_c_and_resuming_change_nothing(
    elman: Command, trained: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = CheckpointCallback.on_train_batch_end

    def stopping(self: CheckpointCallback, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 5:
            signal.raise_signal(signal.SIGINT)
        original(self, trainer, *rest)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointCallback, "on_train_batch_end", stopping)
        assert elman("train", "forecast", table, *OPTIONS, "--flow-every", 5, "--out", run).code == 130
    assert elman("train", "forecast", "--resume", run).code == 0
    assert (run / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_several_series_with_covariates_layers_truncation_and_files_of_their_own(
    elman: Command, tmp_path: Path
) -> None:
    both = pl.concat(
        [tide(120, seed=i).with_columns(name=pl.lit(name), wind=pl.col("level") * i) for i, name in enumerate("ab")]
    )
    paths = [written(tmp_path / f"{i}.csv", both[:: 1 + i] if i == 0 else both) for i in range(3)]
    both.write_parquet(tmp_path / "both.parquet")
    more = ["--series", "name", "--covariates", "wind", "--cell", "lstm", "--layers", 2, "--bptt", 6]
    apart = ["--validation", paths[1], "--test", paths[2]]
    said = elman("train", "forecast", tmp_path / "both.parquet", *OPTIONS, *more, *apart, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    counts = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert counts["train"] == counts["validation"] == counts["test"] == 2 * (120 - 8 - 4 + 1)
    found = rows(elman("predict", tmp_path / "run", "--format", "csv").out)
    assert [row["series"] for row in found] == ["a"] * 4 + ["b"] * 4


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    options: dict[str, Any] = {"season": 8, "horizon": 4, "context": 16, "hidden": 4, "epochs": 1, "seed": 1}
    named = options | {"time": "when", "target": "level"}
    frame = fit(tide(), out=tmp_path / "frame", **named)
    assert frame.predict() == frame.predict(tide())
    assert frame.predict(tide())[0]["time"] == "2024-03-11 00:00:00"
    assert frame.predict(pd.DataFrame(tide().to_dict(as_series=False))) == frame.predict()
    assert frame.evaluate(tide(100)).keys() == frame.scores.keys()
    values = tide()["level"].to_numpy()
    two = fit(torch.from_numpy(np.column_stack((values, values))), out=tmp_path / "two", **options)
    assert two.scores["naive"]["smape"] == pytest.approx(frame.scores["naive"]["smape"])
    assert [row["series"] for row in two.predict()] == ["0"] * 4 + ["1"] * 4
    assert [row["time"] for row in two.predict()[:4]] == ["160", "161", "162", "163"]
    with pytest.raises(ValueError, match="horizon: expected an integer of at least 1, got 0"):
        fit(values, horizon=0)


def line(stamp: str, value: object) -> pl.DataFrame:
    return pl.DataFrame({"when": [stamp], "level": [str(value)]})


def with_line(stamp: str, value: object) -> pl.DataFrame:
    table = tide().with_columns(level=pl.col("level").cast(pl.String))
    return pl.concat([table[:50], line(stamp, value), table[50:]])


@pytest.mark.parametrize(
    ("table", "options", "parts"),
    [
        (tide(), ["--time", "hour"], ["--time", "when, level", "'hour'"]),
        (tide(), ["--target", "depth"], ["--target", "when, level", "'depth'"]),
        (tide(), ["--series", "name"], ["--series", "when, level", "'name'"]),
        (tide(), ["--covariates", "wind,rain"], ["--covariates", "when, level", "'wind'"]),
        (tide(), ["--covariates", "level"], ["--covariates", "'level'"]),
        (tide(), ["--horizon", 0], ["--horizon", "of at least 1", "'0'"]),
        (tide(), ["--step", "soon"], ["--step", "'soon'"]),
        (tide(), ["--step", "7"], ["--step", "dates or times", "'7'"]),
        (tide(), ["--step", "1m"], ["level", "--step", "160"]),
        (tide(), ["--time-format", "%d.%m.%Y"], ["%d.%m.%Y", "'2024-02-20 00:00:00'", "row 1"]),
        (with_line("2023-02-20 03:00:00", 1e300), [], ["--target", "up to 1e+150", "1e+300", "row 51"]),
        (
            with_line("2023-02-20 03:00:00+01:00", 1),
            [],
            ["--time", "in all time stamps or in none", "row 51", "row 1,"],
        ),
        (tide()[:0], [], ["expected at least one row"]),
        (tide(5), [], ["level", "expected at least 6 steps", "got 5"]),
        (tide(20), [], ["--horizon 4", "validation", "20 steps"]),
        (with_line("someday", 1.0), [], ["--time", "'someday'", "row 51", "--skip-bad"]),
        (with_line("2024-02-20 03:00:00", 1.0), [], ["2024-02-20 03:00:00", "row 51", "--skip-bad"]),
        (with_line("2023-02-20 03:00:00", "high"), [], ["--target", "'high'", "row 51"]),
        (with_line("2023-02-20 03:00:00", "inf"), [], ["--target", "inf", "row 51"]),
        (tide().with_columns(level=pl.lit(None)), [], ["expected numbers in level, got none"]),
    ],
)
def test_bad_input_is_one_line(
    elman: Command, tmp_path: Path, table: pl.DataFrame, options: list[object], parts: list[str]
) -> None:
    said = elman(
        "train", "forecast", written(tmp_path / "table.csv", table), *OPTIONS, *options, "--out", tmp_path / "run"
    )
    assert said.code == 2
    *_, last = said.err.splitlines()
    assert all(part in last for part in parts), last
    assert not (tmp_path / "run").exists()


def test_without_data_and_with_files_that_are_none(elman: Command, tmp_path: Path) -> None:
    said = elman("train", "forecast", *OPTIONS)
    assert (said.code, "expected DATA" in said.err) == (2, True)
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    said = elman("train", "forecast", tmp_path / "a.parquet", *OPTIONS)
    assert (said.code, "a.parquet" in said.err) == (2, True)
    (tmp_path / "latin.csv").write_bytes(b"when,level\nm\xe4rz,1\n")
    said = elman("train", "forecast", tmp_path / "latin.csv", *OPTIONS)
    assert (said.code, "--encoding" in said.err) == (2, True)


def test_predicting_what_is_too_short_or_of_another_step(elman: Command, trained: Path, tmp_path: Path) -> None:
    said = elman("predict", trained, written(tmp_path / "short.csv", tide(1)))
    assert (said.code, "expected at least 2 steps" in said.err) == (2, True)
    said = elman("predict", trained, written(tmp_path / "days.csv", tide(160)[::8]))
    assert (said.code, "expected about one value in 3h" in said.err) == (2, True)
