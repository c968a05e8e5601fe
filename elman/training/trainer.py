"""Where a task is trained."""

import logging
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Callback, Trainer
from rich.console import Console

from elman.errors import BadInput
from elman.flow import plots
from elman.io.run_folder import Run
from elman.training.callbacks import CheckpointCallback, Interrupted, TimeBudget, keep_best
from elman.training.checkpoints import Progress, WholeCheckpoints, progress, weights
from elman.training.flow import FlowLog
from elman.training.lightning_arguments import OURS, LightningArguments
from elman.training.metrics import MetricsLog, MetricsWriter, TensorBoard
from elman.training.module import ENDLESS, StepLoader, TaskModule
from elman.training.options import TrainingOptions
from elman.training.progress import ProgressBar
from elman.training.trainable import Trainable

LOGGED = ("task", "data", "model", "options", "training")  # of config.json, for users' loggers


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    seconds: float
    best: float  # validation loss, of the weights in model.safetensors
    limit: str | None  # the option that ended it before validation stopped improving, where it was to go on until then


def fit(
    task: Trainable,
    options: TrainingOptions,
    run: Run,
    console: Console,
    began: float,
    resume: bool = False,
    longer: bool = False,
    lightning: LightningArguments = OURS,
) -> Outcome:
    """Train, with everything worth keeping written to the run.

    Args:
        task: what is trained.
        options: how.
        run: where results go; with `resume`, where the training to go on with was saved.
        console: for the progress bar.
        began: when the clock of `options.minutes` was started, by time.monotonic.
        resume: go on from the run's last checkpoint; there is nothing to do if that is the end of the training.
        longer: train beyond such an end.
        lightning: what users add to Lightning's Trainer.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, with everything saved.
        Diverged: if the loss or its gradient is no longer a number; with where that began, and what helps.
        BadInput: if there is no checkpoint to resume from.
    """
    done = _checkpointed(run) if resume else None
    if done is not None and done.is_best:
        keep_best(run, weights(run.last))  # the process that saved the checkpoint may have died before it did this
    if done is not None and done.best is not None and done.has_ended and not longer:
        outcome = Outcome(done.steps, done.seconds, done.best, done.limit)
    else:
        outcome = _fit(task, options, run, console, began, done, longer, lightning)
    if options.flow_every:
        plots.history(run.path / "flow.csv", run.place("flow.png"))
    return outcome


def _fit(
    task: Trainable,
    options: TrainingOptions,
    run: Run,
    console: Console,
    began: float,
    done: Progress | None,
    longer: bool,
    lightning: LightningArguments,
) -> Outcome:
    per_epoch, steps = len(task.train), done.steps if done else 0
    total = _total(options, per_epoch)
    clock = TimeBudget(options, total, began, run.best, longer)
    keeper = CheckpointCallback(run, clock, per_epoch)
    board = _board(run, steps) if lightning.loggers is None else None
    writers: Sequence[MetricsWriter] = ([board] if board else []) if lightning.loggers is None else lightning.loggers
    # Users' callbacks come before the keeper, which has to know whether one of them ends the training.
    callbacks: list[Callback] = [clock, *lightning.callbacks]
    callbacks += [MetricsLog(run.place("metrics.csv"), writers, clock, per_epoch, steps), keeper]
    callbacks.append(ProgressBar(console, clock, task.unit))
    if options.flow_every:
        callbacks.append(FlowLog(run.place("flow.csv"), writers, options.flow_every, options.clip, steps))
    trainer = _trainer(callbacks, total, per_epoch, options.clip, lightning)
    for logger in lightning.loggers or ():
        logger.log_hyperparams({key: run.config[key] for key in LOGGED})
    lesson, batches = TaskModule(task, options), StepLoader(task.train, total)
    try:
        trainer.fit(lesson, batches, task.validation, ckpt_path=run.last if done else None, weights_only=True)
    except SystemExit:  # what Lightning makes of a KeyboardInterrupt
        raise KeyboardInterrupt from None
    finally:
        if board:
            board.close()
    if keeper.signal is not None:  # during the last validation
        raise Interrupted(keeper.signal)
    assert keeper.best is not None, "Lightning ends every training with a validation"
    return Outcome(clock.step, clock.seconds, keeper.best, clock.limit)


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
    by_steps = done.steps >= _total(options, per_epoch)
    by_time = options.minutes is not None and done.seconds >= 60 * options.minutes
    if (longer and (by_steps or by_time)) or (by_steps and not done.has_ended):
        asked = f"--minutes {options.minutes:g}" if by_time else f"--epochs {options.epochs:g}"
        raise BadInput(
            f"--resume {run.path}: expected more than it has behind it, {done.steps / per_epoch:.3g} epochs in "
            f"{done.seconds / 60:.3g} minutes; got {asked}"
        )


def _total(options: TrainingOptions, per_epoch: int) -> int:
    """Steps."""
    return ENDLESS if options.epochs is None else max(round(options.epochs * per_epoch), 1)


def _board(run: Run, steps: int) -> TensorBoard | None:
    """TensorBoard's file, if TensorBoard is installed."""
    if find_spec("tensorboard") is None:
        return None
    return TensorBoard(run.place("tensorboard").absolute(), steps + 1)  # absolute, so that it sees no URL


def _trainer(
    callbacks: list[Callback], total: int, per_epoch: int, clip: float, lightning: LightningArguments
) -> Trainer:
    _quiet()
    defaults: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(
        **defaults | dict(lightning.trainer),
        max_steps=total,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        logger=lightning.loggers or False,
        accelerator="cpu",
        devices=1,
        val_check_interval=per_epoch,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=clip or None,
        enable_checkpointing=False,
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
