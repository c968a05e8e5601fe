"""Trials that are not trained: what they lose is said, so that a search takes milliseconds."""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage

from elman.io.metrics_csv import CsvTable
from elman.io.run_folder import CONFIG, new_run
from elman.report import trials as pictures
from elman.training.metrics import COLUMNS
from elman.tune import run, study
from elman.tune.trial import PrunedTrial

_connect = sqlite3.connect
Losses = Callable[[int, dict[str, Any]], Sequence[float | BaseException]]


def connect(*arguments: Any, **how: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = _connect(*arguments, **how)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


class FakeTrials:
    """Replaces the training of trials.

    Args:
        losses: of each validation of a trial, by its number and options; an exception is raised at its place.
        draws: whether the picture is drawn.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, losses: Losses, draws: bool = False) -> None:
        self.losses, self.digest = losses, "digest"
        self.begun: list[tuple[int, dict[str, Any], bool]] = []  # number, options, whether it was resumed
        monkeypatch.setattr(run, "train_trial", self.train)
        # A database that need not survive a power loss, and is of this version of Optuna.
        monkeypatch.setattr(study, "RDBStorage", partial(RDBStorage, skip_compatibility_check=True))
        monkeypatch.setattr(sqlite3, "connect", connect)
        if not draws:
            monkeypatch.setattr(pictures, "draw", lambda *_: None)

    def train(
        self, setup: Any, values: Any, folder: Path, report: Any, deadline: float, check_data: Any, is_shown: bool
    ) -> None:
        number = int(folder.name.removeprefix("trial-"))
        self.begun.append((number, dict(values), (folder / CONFIG).exists()))
        losses = self.losses(number, values)
        if losses and isinstance(losses[0], BaseException):
            raise losses[0]
        shutil.rmtree(folder, ignore_errors=True)
        config = {"task": setup.task, "data": {}, "model": {}, "options": {}, "training": {}}
        with new_run(folder, config) as trial:
            check_data(self.digest)
            trial.last.parent.mkdir()
            trial.last.touch()
            table = CsvTable(folder / "metrics.csv", COLUMNS)
            for epoch, loss in enumerate(losses, 1):
                if isinstance(loss, BaseException):
                    raise loss
                table.add({"step": epoch, "seconds": epoch / 2})
                table.add({"step": epoch, "val_loss": loss})
                if report(epoch, loss) and epoch < len(losses):
                    raise PrunedTrial
            trial.update(ended={"steps": len(losses), "seconds": len(losses) / 2, "limit": None})
