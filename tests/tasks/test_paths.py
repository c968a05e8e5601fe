"""Sampled paths: distributed as the forecast at each step, and related from step to step as its errors were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from elman.errors import BadInput
from elman.tasks import forecast
from elman.tasks.api import Trained
from elman.tasks.forecast.model import ForecastBatch, ForecastNetwork
from elman.tasks.forecast.paths import PathCodec, fit_templates, normal_scores, values_at
from elman.tasks.registry import get_task
from tests.small import Command

LEVELS, F = [0.1, 0.5, 0.9], 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    levels = 10 + 3 * np.sin(np.arange(160) * np.pi / 4) + np.random.default_rng(0).normal(0, 0.2, 160)
    options: dict[str, Any] = {"season": 8, "horizon": 4, "context": 16, "hidden": 6, "batch": 16, "epochs": 2}
    return forecast.fit(levels, tmp_path_factory.mktemp("tide") / "run", **options)


class Fixed(ForecastNetwork):
    """Predicts the same quantiles for every window."""

    def __init__(self, quantiles: torch.Tensor) -> None:
        super().__init__(8, F, hidden=2)
        self.register_buffer("fixed", quantiles)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        fixed: torch.Tensor = self.fixed  # type: ignore[assignment]
        return fixed.expand(steps.shape[1], -1, -1)


def batch_of(errors: np.ndarray, known: np.ndarray | None = None) -> ForecastBatch:
    """Windows with these values in their horizon, standardized to mean 0 and standard deviation 1."""
    y = torch.from_numpy(errors).float()
    ones, weight = torch.ones(len(y), 1), torch.ones_like(y) if known is None else torch.from_numpy(known).float()
    scaling = (np.ones((len(y), 1)), np.zeros((len(y), 1)), np.ones((len(y), 1)))
    return ForecastBatch(torch.zeros(5 + F, len(y), 8), y, weight, 0 * ones, ones, scaling)


def random_errors(count: int, correlation: float) -> np.ndarray:
    """Errors of which each goes on from the step before."""
    noise = np.random.default_rng(0).normal(size=(count, F))
    errors = noise.copy()
    for f in range(1, F):
        errors[:, f] = correlation * errors[:, f - 1] + np.sqrt(1 - correlation**2) * noise[:, f]
    return errors


def test_scores_and_values_are_inverse() -> None:
    quantiles = np.sort(np.random.default_rng(0).normal(size=(F, 3)), axis=1)
    scores = np.random.default_rng(1).normal(0, 2, (50, F))
    values = values_at(scores, quantiles, LEVELS)
    assert normal_scores(values, np.broadcast_to(quantiles, (50, F, 3)), LEVELS) == pytest.approx(scores)
    at_levels = values_at(np.array([[-1.2815515655] * F, [0.0] * F, [1.2815515655] * F]), quantiles, LEVELS)
    assert at_levels == pytest.approx(quantiles.T)
    assert (values_at(scores, quantiles[:, :1], [0.5]) == quantiles[:, 0]).all(), "a median alone has no spread"


@pytest.mark.parametrize("correlation", [0.9, 0.0])
@pytest.mark.parametrize("samples", [5, 4000])
def test_paths_have_the_quantiles_of_the_forecast_and_the_correlation_of_errors(
    correlation: float, samples: int
) -> None:
    """Also few paths, of which each is as correlated as many are."""
    quantiles = torch.tensor([[-1.0, 0.0, 2.0]]) * torch.arange(1, F + 1).unsqueeze(1) + torch.arange(F).unsqueeze(1)
    errors, network = random_errors(500, correlation), Fixed(quantiles)
    ranks = fit_templates(network, [batch_of(errors)]).numpy().astype(float)
    codec = PathCodec(_Plain(), ranks, samples, seed=0)  # type: ignore[arg-type]
    windows = batch_of(errors[: 1 if samples > 1000 else 400])
    paths = np.stack(codec.predict(network, windows)).reshape(-1, F)
    assert pytest.approx(quantiles.numpy(), abs=0.6) == np.quantile(paths, LEVELS, axis=0).T
    for lag in (1, 2):
        kept = spearmanr(paths[:, 0], paths[:, lag]).statistic
        assert kept == pytest.approx(spearmanr(errors[:, 0], errors[:, lag]).statistic, abs=0.06)


class _Plain:
    levels, is_log = LEVELS, False


def test_gaps_have_the_scores_around_them() -> None:
    errors = random_errors(20, 0.5)
    known = np.ones_like(errors)
    known[3, 2:4] = known[4] = 0
    network = Fixed(torch.tensor([[-1.0, 0.0, 1.0]]).expand(F, 3))
    ranks = fit_templates(network, [batch_of(errors, known)])
    assert ranks.shape == (19, F), "a window without values is left out"
    assert all(sorted(column) == list(range(19)) for column in ranks.T.tolist())


def test_predict_with_samples(elman: Command, model: Trained) -> None:
    rows, quantiles = model.predict(samples=400, seed=1), model.predict()
    assert list(rows[0]) == ["series", "sample", "time", "value"]
    assert [row["time"] for row in rows[:4]] == ["160", "161", "162", "163"]
    assert {row["sample"] for row in rows} == set(range(1, 401))
    values = np.array([row["value"] for row in rows]).reshape(400, 4)
    for step, row in enumerate(quantiles):
        low, median, high = np.quantile(values[:, step], LEVELS)
        spread = row["high"] - row["low"]
        assert (low, median, high) == pytest.approx((row["low"], row["median"], row["high"]), abs=0.15 * spread)
    assert model.predict(samples=400, seed=1) == rows
    assert model.predict(samples=400) != rows
    said = elman("predict", model.run.path, "--samples", 2, "--seed", 1, "--format", "csv")
    assert said.out.splitlines()[0] == "series,sample,time,value"
    assert len(said.out.splitlines()) == 1 + 2 * 4


def test_what_sampling_refuses(elman: Command, model: Trained, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--samples: expected a run of forecast, got one of image"):
        get_task("image").sampling(model._loaded, 3, None)
    with pytest.raises(ValueError, match="predict: samples: expected an integer of at least 1, got 0"):
        model.predict(samples=0)
    model.save(tmp_path / "run")
    path = tmp_path / "run" / "paths.safetensors"
    path.unlink()
    said = elman("predict", tmp_path / "run", "--samples", 2)
    assert (said.code, f"{path}: expected the errors of the validation part" in said.err) == (2, True)


@pytest.mark.parametrize("ranks", [np.zeros((3, 4)), np.zeros((4,)), np.tile(np.arange(3.0), (4, 1)).T[:, :3]])
def test_damaged_ranks_are_refused(elman: Command, model: Trained, tmp_path: Path, ranks: np.ndarray) -> None:
    model.save(tmp_path / "run")
    Trained(type(model.run)(tmp_path / "run", model.run.config)).run.save_tensors(
        "paths", {"ranks": torch.from_numpy(np.ascontiguousarray(ranks))}
    )
    said = elman("predict", tmp_path / "run", "--samples", 2)
    assert (said.code, "paths.safetensors: expected the errors of `elman train forecast`" in said.err) == (2, True)
