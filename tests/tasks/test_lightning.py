"""`fit` with arguments, callbacks and loggers of Lightning."""

import csv
import json
from collections import defaultdict
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, callbacks
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from elman.tasks import image, text
from elman.training import progress as progress_bar
from elman.training.checkpoints import progress
from tests.small import files
from tests.tasks.test_image import bars

FIT = "elman.tasks.image.fit"


class Remote(Logger):
    """As those of W&B and MLflow: it gets numbers by step."""

    name, version = "remote", "1"

    def __init__(self) -> None:
        super().__init__()
        self.rows = defaultdict[int, dict[str, float]](dict)
        self.config: dict[str, Any] = {}
        self.status = ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows[step] |= metrics

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.config = dict(params)

    def finalize(self, status: str) -> None:
        self.status = status


def test_a_logger_gets_what_metrics_csv_has(tmp_path: Path) -> None:
    logger = Remote()
    found = image.fit(bars(), tmp_path / "run", epochs=2, batch=8, hidden=4, flow_every=5, logger=logger)
    written = defaultdict[int, dict[str, float]](dict)
    for row in csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()):
        written[int(row["step"])] |= {name: float(row[name]) for name in row if name != "step" and row[name]}
    logged = {
        step: {name: float(f"{value:g}") for name, value in row.items() if "/" not in name}
        for step, row in logger.rows.items()
    }
    assert logged == written
    assert {step for step, row in logger.rows.items() if any(name.startswith("flow/") for name in row)} == {1, 6, 11}
    assert logger.config["training"]["epochs"] == 2
    assert logger.config["model"] == found.run.config["model"]
    assert logger.status == "success"
    assert "tensorboard" not in files(tmp_path / "run")
    assert "Remote" not in (tmp_path / "run" / "config.json").read_text()


def test_loggers_of_lightning(tmp_path: Path) -> None:
    loggers = [TensorBoardLogger(tmp_path / "board"), CSVLogger(tmp_path / "table")]
    image.fit(bars(), tmp_path / "run", epochs=1, batch=8, hidden=4, logger=loggers, callbacks=LearningRateMonitor())
    (table,) = (tmp_path / "table").rglob("metrics.csv")
    losses = [row["val_loss"] for row in csv.DictReader(table.read_text().splitlines()) if row["val_loss"]]
    assert len(losses) == 1
    assert list((tmp_path / "board").rglob("events*"))


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not installed, and not wanted."""
    monkeypatch.setattr("elman.training.trainer.find_spec", lambda name: None if name == "tensorboard" else util)
    image.fit(bars(), tmp_path / "run", epochs=1, batch=8, hidden=4)
    image.fit(bars(), tmp_path / "other", epochs=1, batch=8, hidden=4, logger=False)
    assert files(tmp_path / "run") == files(tmp_path / "other")
    assert not {"tensorboard"} & files(tmp_path / "run")


class Stop(Callback):
    """Ends the training; its state is an object, which no checkpoint can hold that is loaded safely."""

    def __init__(self, step: int) -> None:
        self.step, self.rates = step, list[float]()

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        trainer.should_stop = trainer.global_step == self.step

    def state_dict(self) -> dict[str, Any]:
        return {"object": self}


def test_a_callback_may_end_the_training(tmp_path: Path) -> None:
    """Then it has not reached its limit, and its checkpoints have nothing of the callback."""
    stop = Stop(4)
    found = image.fit(bars(), tmp_path / "run", batch=8, hidden=4, callbacks=stop)
    assert len(stop.rates) == found.run.config["ended"]["steps"] == 4
    assert found.run.config["ended"]["limit"] is None
    checkpoint = torch.load(found.run.last, weights_only=True)
    assert set(checkpoint["callbacks"]) == {"Clock", "Keeper"}


def test_early_stopping_of_lightning(tmp_path: Path) -> None:
    stop = EarlyStopping("val_loss", min_delta=10, patience=2)
    found = image.fit(bars(), tmp_path / "run", epochs=9, batch=8, hidden=4, callbacks=[stop])
    assert found.run.config["ended"]["steps"] == 3 * 6
    assert progress(found.run.last).has_ended
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["training"]["epochs"] == 9


def test_arguments_of_the_trainer(tmp_path: Path) -> None:
    seen = list[Any]()

    class Look(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            seen.extend([trainer.precision, trainer.log_every_n_steps])

    options: dict[str, Any] = {"epochs": 1, "batch": 8, "hidden": 4, "precision": "bf16"}
    found = image.fit(bars(), tmp_path / "run", **options, trainer={"log_every_n_steps": 7}, callbacks=Look())
    assert seen == ["bf16-mixed", 7]
    assert np.isfinite(found.predict_proba(bars(4)[0])).all()


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "length": ({"trainer": {"max_epochs": 3}}, ValueError, "trainer: expected no max_epochs, got 3; pass epochs or"),
    "strategy": (
        {"trainer": {"strategy": "ddp"}},
        ValueError,
        "no strategy, got 'ddp'; pass devices and nodes",
    ),
    "devices": ({"trainer": {"devices": 2}}, ValueError, "expected no devices, got 2; pass devices to fit itself"),
    "GPU": ({"trainer": {"accelerator": "gpu"}}, ValueError, "no accelerator, got 'gpu'; pass accelerator to fit"),
    "precision": ({"trainer": {"precision": "bf16-mixed"}}, ValueError, "got 'bf16-mixed'; pass precision to fit"),
    "unknown": ({"trainer": {"precison": 1}}, TypeError, "trainer: precison: expected one of .* mean precision"),
    "no dict": ({"trainer": 3}, TypeError, "trainer: expected a dict of arguments of Trainer, got 3"),
    "checkpoint": ({"callbacks": [ModelCheckpoint()]}, ValueError, "expected none that save .* got ModelCheckpoint"),
    "no callback": ({"callbacks": print}, TypeError, "callbacks: expected Callback objects .* got builtins.builtin_"),
    "no logger": ({"logger": "wandb"}, TypeError, "logger: expected Logger objects of lightning.pytorch, got b.*str"),
    "an option": ({"loger": None}, TypeError, "loger: expected one of .*; did you mean logger"),
}


@pytest.mark.parametrize(("given", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_break_a_run_is_refused(
    tmp_path: Path, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{FIT}: .*{message}"):
        image.fit(bars(), tmp_path / "run", epochs=1, **given)
    assert not files(tmp_path)


def test_loggers_get_the_scores(tmp_path: Path) -> None:
    remote, table = Remote(), CSVLogger(tmp_path / "table")
    found = image.fit(bars(), tmp_path / "run", epochs=2, batch=8, hidden=4, logger=[remote, table])
    scores = {f"test/{name}": value for name, value in found.scores[str(found.model.title)].items()}
    steps = found.run.config["ended"]["steps"]
    assert scores.items() <= remote.rows[steps].items()
    (path,) = (tmp_path / "table").rglob("metrics.csv")
    last = list(csv.DictReader(path.read_text().splitlines()))[-1]
    assert {name: float(last[name]) for name in scores} == pytest.approx(scores)


def test_tensorboard_gets_the_scores(tmp_path: Path, file: Path) -> None:
    """Of a language model, which has no test part, those on its validation part."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = [
        image.fit(bars(), tmp_path / "image", epochs=1, batch=8, hidden=4),
        text.fit(file, tmp_path / "text", epochs=1, batch=4, bptt=10, hidden=4, embed=4),
    ]
    for one in found:
        board = loader.EventAccumulator(str(one.run.path / "tensorboard"))
        board.Reload()
        scores = {name: board.Scalars(name)[-1].value for name in board.Tags()["scalars"] if name.startswith("test/")}
        assert scores == pytest.approx({f"test/{k}": v for k, v in next(iter(one.scores.values())).items()})
        assert board.Scalars("val_loss")  # nothing is hidden


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("given", "bars_shown"),
    [
        ({}, ["elman"]),
        ({"trainer": {"enable_progress_bar": True}}, ["lightning"]),
        ({"trainer": {"enable_progress_bar": False}}, []),
        ({"callbacks": TQDMProgressBar()}, ["lightning"]),
    ],
)
def test_one_progress_bar_at_most(tmp_path: Path, given: dict[str, Any], bars_shown: list[str]) -> None:
    shown = list[str]()

    class Look(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            kinds = {progress_bar.ProgressBar: "elman", callbacks.ProgressBar: "lightning"}
            shown.extend(name for one in trainer.callbacks for kind, name in kinds.items() if isinstance(one, kind))

    more = [given["callbacks"]] if "callbacks" in given else []
    image.fit(bars(), tmp_path / "run", **{"epochs": 1, "batch": 8, "hidden": 4, **given, "callbacks": [*more, Look()]})
    assert shown == bars_shown
