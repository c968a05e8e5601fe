"""Where a task is trained."""

import logging
import pickle
import warnings
from dataclasses import dataclass

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from elman.errors import BadInput
from elman.flow import draw
from elman.runs import Run
from elman.training.bar import Bar
from elman.training.callbacks import Clock, Keeper
from elman.training.checkpoints import Progress, WholeCheckpoints, progress
from elman.training.flow import FlowLog
from elman.training.lesson import ENDLESS, Lesson, Steps
from elman.training.metrics import MetricsFile
from elman.training.options import TrainingOptions
from elman.training.task import Task


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    seconds: float
    best: float  # validation loss, of the weights in model.safetensors


def fit(
    task: Task, options: TrainingOptions, run: Run, console: Console, began: float, resume: bool = False
) -> Outcome:
    """Train, with everything worth keeping written to the run.

    Args:
        task: what is trained.
        options: how.
        run: where results go; with `resume`, where the training to go on with was saved.
        console: for the progress bar.
        began: when the clock of `options.minutes` was started, by time.monotonic.
        resume: go on from the run's last checkpoint.

    Raises:
        Interrupted: after Ctrl-C, with everything saved.
        Diverged: if the loss or its gradient is no longer a number; with where that began, and what helps.
        BadInput: if there is no checkpoint to resume from.
    """
    per_epoch = len(task.train)
    total = _total(options, per_epoch)
    clock = Clock(options, total, began)
    keeper = Keeper(run, clock, per_epoch)
    callbacks: list[Callback] = [clock, keeper, Bar(console, clock, task.unit)]
    done = _checkpointed(run).steps if resume else 0
    if options.flow_every:
        callbacks.append(FlowLog(run.path / "flow.csv", options.flow_every, options.clip, done))
    if options.patience:
        callbacks.append(EarlyStopping("val_loss", patience=options.patience, check_finite=False))
    trainer = _trainer(run, callbacks, total, per_epoch, options.clip, done)
    lesson, steps = Lesson(task, options), Steps(task.train, total)
    try:
        trainer.fit(lesson, steps, task.validation, ckpt_path=run.last if resume else None, weights_only=True)
    except SystemExit:  # what Lightning makes of a KeyboardInterrupt
        raise KeyboardInterrupt from None
    if options.flow_every:
        draw.history(run.path / "flow.csv", run.path / "flow.png")
    assert keeper.best is not None, "Lightning ends every training with a validation"
    return Outcome(clock.step, clock.seconds, keeper.best)


def check_resume(run: Run, options: TrainingOptions, per_epoch: int, longer: bool) -> None:
    """Whether a training can be gone on with.

    Args:
        run: where it was saved.
        options: as they are to be now.
        per_epoch: steps.
        longer: whether more was asked for than at first.

    Raises:
        BadInput: without a whole checkpoint; where as much, or more, is done already.
    """
    done = _checkpointed(run)
    by_time = options.minutes is not None and done.seconds >= 60 * options.minutes
    if (done.steps >= _total(options, per_epoch) or by_time) and (longer or not done.validated):
        asked = f"--minutes {options.minutes:g}" if by_time else f"--epochs {options.epochs:g}"
        raise BadInput(
            f"--resume {run.path}: expected more than it has behind it, {done.steps / per_epoch:.3g} epochs in "
            f"{done.seconds / 60:.3g} minutes; got {asked}"
        )


def _total(options: TrainingOptions, per_epoch: int) -> int:
    """Steps."""
    return ENDLESS if options.epochs is None else max(round(options.epochs * per_epoch), 1)


def _trainer(run: Run, callbacks: list[Callback], total: int, per_epoch: int, clip: float, done: int) -> Trainer:
    _quiet()
    return Trainer(
        accelerator="cpu",
        max_steps=total,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=[
            MetricsFile(run.path / "metrics.csv", per_epoch, keep=done),
            TensorBoardLogger(run.path, name="tensorboard", version="", purge_step=done or None),
        ],
        log_every_n_steps=max(1, min(10, per_epoch // 5)),
        val_check_interval=per_epoch,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=clip or None,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _checkpointed(run: Run) -> Progress:
    if not run.last.exists():
        raise BadInput(f"--resume {run.path}: expected checkpoints/last.ckpt in it, found none")
    try:
        return progress(run.last)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"{run.last}: expected a checkpoint of elman, got a damaged or foreign file: {reason}") from None


def _quiet() -> None:
    """Lightning talks to people who use Lightning; ours have not chosen its settings."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
