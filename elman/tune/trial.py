"""Trains one trial of a search: an ordinary run, which can be pruned."""

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from elman.errors import BadInput
from elman.io.run_folder import CONFIG, open_run
from elman.report import tables
from elman.tasks import run as runs
from elman.tasks.registry import get_task, options_of
from elman.training.callbacks import CheckpointCallback
from elman.training.lightning_arguments import LightningArguments
from elman.tune.space import options_of_trial

Report = Callable[[int, float], bool]


class PrunedTrial(Exception):
    """A trial was stopped because others are better."""


class OutOfTime(Exception):
    """The time of the search is over; the trial can be continued from its last checkpoint."""


@dataclass(frozen=True)
class TrialSetup:
    """What all trials of a search have in common.

    Attributes:
        task: the name of the task.
        data: files, or Python objects.
        fixed: options by name.
    """

    task: str
    data: Any
    fixed: Mapping[str, Any]


class TrialCallback(Callback):
    """Report validation losses, and stop the training when the trial is pruned or the time is over.

    Losses are reported when the next step begins, and not at the validation itself: by then its checkpoint is saved.

    Args:
        folder: the folder of the run.
        report: takes the epoch and the validation loss; returns whether the trial is to be pruned.
        deadline: when the time is over, by time.monotonic.
        check_data: takes the digest of the data before the first step.
    """

    def __init__(self, folder: Path, report: Report, deadline: float, check_data: Callable[[str | None], None]) -> None:
        self._folder, self._report, self._deadline, self._check_data = folder, report, deadline, check_data
        self._validated: tuple[int, float] | None = None  # epoch and loss that are to be reported

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._check_data(open_run(self._folder).config["data"].get("sha256"))

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        epoch = math.ceil(trainer.global_step / (trainer.val_check_batch or 1))
        self._validated = epoch, float(trainer.callback_metrics["val_loss"])

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, CheckpointCallback) and callback.is_stopped for callback in callbacks):
            return  # a signal: the training will be interrupted
        if self._tell():
            raise PrunedTrial
        if time.monotonic() > self._deadline:
            raise OutOfTime

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._tell()

    def _tell(self) -> bool:
        validated, self._validated = self._validated, None
        return validated is not None and self._report(*validated)


def train_trial(
    setup: TrialSetup,
    values: Mapping[str, Any],
    folder: Path,
    report: Report,
    deadline: float = math.inf,
    check_data: Callable[[str | None], None] = lambda digest: None,
    is_shown: bool = False,
) -> None:
    """Train a trial in this process, or resume one that was interrupted.

    Args:
        setup: what all trials have in common.
        values: the options of this trial.
        folder: the folder of its run.
        report: as for `TrialCallback`.
        deadline: as for `TrialCallback`.
        check_data: as for `TrialCallback`.
        is_shown: print what `elman train` prints.

    Raises:
        PrunedTrial: if the trial is pruned.
        OutOfTime: if the time of the search is over.
        BadInput: for data or options that cannot be used.
        Failure: if the training diverges, or memory or disk space runs out.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with everything saved.
    """
    console = tables.progress_console() if is_shown else tables.console(quiet=True)
    callback = TrialCallback(folder, report, deadline, check_data)
    lightning = LightningArguments({} if is_shown else {"enable_progress_bar": False}, (callback,))
    task, began = get_task(setup.task), time.monotonic()
    try:
        if (folder / CONFIG).exists():
            if not open_run(folder).config.get("ended"):
                runs.resume(task, folder, setup.data, {}, began, console, lightning)
            return
        try:
            options, training = options_of_trial(options_of(setup.task), {**setup.fixed, **values})
        except ValueError as error:
            raise BadInput(str(error)) from None
        runs.start(task, setup.data, options, training, folder, began, console, lightning)
    finally:
        gc.collect()  # models and optimizers are in cycles, and the next trial needs their memory
