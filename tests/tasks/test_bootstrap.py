"""Margins of scores are those of statistics, and those of large test parts too."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from elman import tasks
from elman.report import facts
from elman.tasks import bootstrap
from elman.tasks.bootstrap import margins
from tests.small import Command


@pytest.fixture(autouse=True)
def many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)


@pytest.mark.parametrize("count", [50, 5000])  # below and above `MAX_DRAWN`
def test_of_a_mean(count: int) -> None:
    x = np.random.default_rng(1).normal(size=count)
    margin = margins(lambda indices: {"mean": float(x[indices].mean())}, range(count))
    assert margin["mean"] == pytest.approx(1.96 * x.std() / math.sqrt(count), rel=0.15)


def test_units_are_drawn_whole() -> None:
    """Ten copies of each number are no more than one of it."""
    x = np.random.default_rng(1).normal(size=50)
    copies, units = np.repeat(x, 10), np.repeat(np.arange(50), 10).tolist()
    margin = margins(lambda indices: {"mean": float(copies[indices].mean())}, units)
    assert margin["mean"] == pytest.approx(1.96 * x.std() / math.sqrt(50), rel=0.15)


def test_few_units_and_metrics_that_are_none() -> None:
    assert margins(lambda indices: {"mean": 1.0}, range(9)) == {}
    assert margins(lambda indices: {"a": float("nan"), "b": 2.0}, range(10)) == {"b": 0.0}


def test_no_error_at_all() -> None:
    """A rate of errors of 3 / n leaves n examples without one in a twentieth of all cases."""
    margin = margins(lambda indices: {"accuracy": 1.0, "error_rate": 0.0}, range(200))
    assert margin == {"accuracy": 3 / 200, "error_rate": 3 / 200}
    assert pytest.approx(0.05, abs=0.002) == (1 - 3 / 200) ** 200


def test_intervals_contain_the_truth() -> None:
    """19 of 20 do: here at least 85 of 100."""
    draw = np.random.default_rng(2)
    hits = 0
    for _ in range(100):
        x = draw.random(100) < 0.8
        margin = margins(lambda indices, x=x: {"share": float(x[indices].mean())}, range(100))["share"]  # type: ignore[misc]
        hits += abs(x.mean() - 0.8) <= margin
    assert 85 <= hits <= 100


def test_a_run_has_margins_and_what_was_scored(elman: Command, tmp_path: Path) -> None:
    labels = np.arange(400) % 8
    bars = np.eye(8)[labels][:, None].repeat(4, 1) + np.random.default_rng(0).random((400, 4, 8))
    run = tasks.image.fit((bars / 2, labels), tmp_path / "run", hidden=4, epochs=1, batch=32)
    (title, *baselines), scores = run.scores, run.scores
    assert scores.counted == "40 images"
    assert scores.margins.keys() == scores.keys()
    assert scores.margins[title].keys() == scores[title].keys()
    accuracy = scores[title]["accuracy"]
    assert scores.margins[title]["accuracy"] == pytest.approx(1.96 * math.sqrt(accuracy * (1 - accuracy) / 40), rel=0.2)
    output = elman("info", run.run.path).out
    assert "on 40 images; ± is the 95 % confidence interval" in output
    assert f"±{scores.margins[title]['accuracy']:#.2g}".replace("0.", ".") in output
    assert elman("report", run.run.path).code == 0
    assert "On 40 images; ± is the 95 % confidence interval." in (run.run.path / "report.html").read_text()
    assert baselines


def test_texts_are_drawn_in_blocks(elman: Command, file: Path, trained: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text(file.read_text() * 8)
    result = json.loads(elman("evaluate", trained, long, "--json").out)
    assert result["scored"] == "35,999 tokens"
    title = next(iter(result["scores"]))
    score, margin = result["scores"][title], result["margins"][title]
    assert 0 < margin["nats_per_token"] < 0.1 * score["nats_per_token"]
    ratio = margin["bits_per_character"] / margin["nats_per_token"]
    assert ratio == pytest.approx(1 / math.log(2), rel=1e-3)
    assert facts.scores(tasks.load(trained).run).counted == "449 tokens"
