"""Trains a task with Lightning."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from rich.console import Console

from elman.engine.cpu.jit import this_machine
from elman.errors import BadInput
from elman.flow import plots
from elman.io.files import check_no_link
from elman.io.run_folder import LAST, Run
from elman.io.schema import restoring
from elman.training.agreement import new_agreement
from elman.training.callbacks import CheckpointCallback, Interrupted, TimeBudget, keep_best
from elman.training.checkpoints import DAMAGED_FILE, Progress, WholeCheckpoints, check, progress, weights
from elman.training.devices import find_device
from elman.training.flow import FlowLog
from elman.training.lightning_arguments import OURS, LightningArguments
from elman.training.metrics import MetricsLog, MetricsWriter, TensorBoard
from elman.training.module import ENDLESS, StepLoader, TaskModule
from elman.training.options import TrainingOptions
from elman.training.processes import is_first, losses_noticed, place
from elman.training.progress import ProgressBar
from elman.training.trainable import Trainable

# Lightning's names
PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]]
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
MAX_PROCESSES = 64  # on a machine without GPUs, if it does not have more CPUs: more are a mistake
LOGGED = ("task", "data", "model", "options", "training")  # keys of config.json that are logged as hyperparameters


@dataclass(frozen=True)
class Outcome:
    """Result of a training."""

    steps: int
    seconds: float
    best: float  # validation loss of the weights in model.safetensors
    limit: str | None  # "epochs" or "minutes", if that limit ended the training before convergence
    skipped: int = 0  # steps whose loss or gradient was not finite


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
    """Train a task; write checkpoints, metrics and weights to a run.

    If several processes train together, all call this, and the first of them writes.

    Args:
        task: the task to train.
        options: the training options.
        run: the run to write to; with `resume`, the run to continue.
        console: console for the progress bar.
        began: start of the training clock for `options.minutes`, as returned by `time.monotonic`, in seconds.
        resume: continue from the last checkpoint of the run; if its training has ended, return that result.
        longer: with `resume`, continue a training that has ended.
        lightning: additional arguments for Lightning's Trainer.

    Returns:
        The steps, the time and the best validation loss of the training.

    Raises:
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP; a checkpoint has been saved.
        Diverged: if the loss or its gradient is not finite.
        BadInput: if there is no checkpoint to resume from.
        ProcessLost: if another process ends early.
    """
    saved = progress(run.last) if resume else None  # `check_resume` has checked it
    if saved is not None and saved.is_best and is_first():
        keep_best(run, weights(run.last))  # the process may have died right after it saved the checkpoint
    if saved is not None and saved.best is not None and saved.has_ended and not longer:
        outcome = Outcome(saved.steps, saved.seconds, saved.best, saved.limit, saved.skipped)
    else:
        outcome = _fit(task, options, run, console, began, saved, longer, lightning)
    if options.flow_every and is_first():
        plots.history(run.path / "flow.csv", run.place("flow.png"))
    return outcome


def _fit(
    task: Trainable,
    options: TrainingOptions,
    run: Run,
    console: Console,
    began: float,
    saved: Progress | None,
    longer: bool,
    lightning: LightningArguments,
) -> Outcome:
    per_epoch, steps = len(task.train), saved.steps if saved else 0
    total = _total(options, per_epoch)
    agreement, writes = new_agreement(), is_first()
    clock = TimeBudget(options, total, began, run.best, longer, agreement)
    checkpoints = CheckpointCallback(run, clock, per_epoch, agreement)
    tensorboard = _board(run, steps) if writes and lightning.loggers is None else None
    writers: Sequence[MetricsWriter] = [tensorboard] if tensorboard else lightning.loggers or []
    # The user's callbacks come before the checkpoint callback, which must see whether one of them stops training.
    callbacks: list[Callback] = [clock, *lightning.callbacks]
    if writes:
        callbacks.append(MetricsLog(run.place("metrics.csv"), writers, clock, per_epoch, steps))
    callbacks.append(checkpoints)
    if writes and lightning.progress_bar is None:
        callbacks.append(ProgressBar(console, clock, task.unit))
    if writes and options.flow_every:
        callbacks.append(FlowLog(run.place("flow.csv"), writers, options.flow_every, options.clip, steps))
    trainer = _trainer(callbacks, total, per_epoch, options, lightning, WholeCheckpoints(run))
    for logger in (lightning.loggers or ()) if writes else ():
        logger.log_hyperparams({key: run.config[key] for key in LOGGED})
    module, batches = TaskModule(task, options, agreement), StepLoader(task.train, total)
    try:
        with losses_noticed():
            trainer.fit(module, batches, task.validation, ckpt_path=run.last if saved else None, weights_only=True)
    except SystemExit:  # Lightning converts KeyboardInterrupt to SystemExit
        raise KeyboardInterrupt from None
    except DAMAGED_FILE:
        if saved is None or checkpoints.has_started:
            raise
        with restoring(run.last, "a checkpoint of this run", DAMAGED_FILE):  # one without a digest
            raise
    finally:
        if tensorboard:
            tensorboard.close()
    if (number := checkpoints.received or checkpoints.signal) is not None:  # a signal during the last validation
        raise Interrupted(number)
    assert checkpoints.best is not None, "Lightning ends every training with a validation"
    return Outcome(clock.step, clock.seconds, checkpoints.best, clock.limit, module.skipped)


def log_scores(run: Run, scores: Mapping[str, float], step: int, lightning: LightningArguments = OURS) -> None:
    """Write scores to TensorBoard, or to the loggers of the user.

    Args:
        run: the run.
        scores: scores by name: "test/accuracy".
        step: the number of steps of the training.
        lightning: arguments of users for Lightning's Trainer.
    """
    if lightning.loggers is None:
        if tensorboard := _board(run, step):
            tensorboard.log_metrics(scores, step)
            tensorboard.close()
        return
    for logger in lightning.loggers:
        logger.log_metrics(dict(scores), step)
        logger.finalize("success")  # again: the Trainer finalized it at the end of the training


def check_device(options: TrainingOptions) -> None:
    """Check that this machine has the devices of a training, and the devices its precision.

    Raises:
        BadInput: if not.
    """
    device = find_device(options.accelerator)
    if options.precision == "16" and device.type == "cpu":
        raise BadInput("--precision 16: expected a GPU, got the CPU; pass --precision bf16 or 32")
    if options.strategy == "fsdp" and options.precision == "16":
        raise BadInput("--precision 16: expected 32 or bf16 with --strategy fsdp, got 16")
    if options.strategy == "fsdp" and options.flow_every and options.devices * options.nodes > 1:
        raise BadInput("--flow-every: expected --strategy ddp, got fsdp, which has no whole gradients; pass 0")
    most = max(os.cpu_count() or 1, MAX_PROCESSES)
    available = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, most)
    if options.devices > available:
        kind = "processes on the CPU" if device.type == "cpu" else "GPUs of this machine"
        raise BadInput(f"--devices {options.devices}: expected at most {available} {kind}, got {options.devices}")


def precision_warning(options: TrainingOptions) -> str:
    """Return a warning if training in this precision is slow on this machine; "" otherwise."""
    if (
        options.precision != "bf16"
        or find_device(options.accelerator).type != "cpu"
        or this_machine().bf16_instructions
    ):
        return ""
    return (
        "--precision bf16: this CPU has no instructions for bfloat16, which makes training slower than --precision 32"
    )


def check_resume(run: Run, task: Trainable, options: TrainingOptions, longer: bool) -> bool:
    """Check that a training can be resumed.

    Args:
        run: the run to resume.
        task: the task; its model gets the weights of the last checkpoint.
        options: the training options after the resumption.
        longer: whether epochs or minutes were passed.

    Returns:
        Whether the training goes on beyond the limits of the last checkpoint. It does not if the limits are those of a
        training that was interrupted: a scheduler may repeat its command.

    Raises:
        BadInput: if there is no valid checkpoint, or if the training has already reached the limits.
    """
    if not run.last.exists():
        raise BadInput(f"--resume {run.path}: expected a run folder with {LAST}, got one without")
    module, per_epoch = TaskModule(task, options), len(task.train)
    saved = check(run, module, module.configure_optimizers())
    if saved.limits is not None and not run.config.get("ended"):
        longer = tuple(saved.limits) != (options.epochs, options.minutes)
    is_at_step_limit = saved.steps >= _total(options, per_epoch)
    is_at_time_limit = options.minutes is not None and saved.seconds >= 60 * options.minutes
    if (longer and (is_at_step_limit or is_at_time_limit)) or (is_at_step_limit and not saved.has_ended):
        limit = f"--minutes {options.minutes:g}" if is_at_time_limit else f"--epochs {options.epochs:g}"
        raise BadInput(
            f"--resume {run.path}: this run has already trained for {saved.steps / per_epoch:.3g} epochs in "
            f"{saved.seconds / 60:.3g} minutes, got {limit}; pass a larger number to continue"
        )
    return longer


def _total(options: TrainingOptions, per_epoch: int) -> int:
    """Return the total number of steps."""
    return ENDLESS if options.epochs is None else max(round(options.epochs * per_epoch), 1)


def _board(run: Run, steps: int) -> TensorBoard | None:
    """Return a TensorBoard writer, or None if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        return None
    folder = run.place("tensorboard").absolute()  # TensorBoard takes some relative paths for URLs
    check_no_link(folder)
    return TensorBoard(folder, steps + 1)


def _trainer(
    callbacks: list[Callback],
    total: int,
    per_epoch: int,
    options: TrainingOptions,
    lightning: LightningArguments,
    checkpoint_io: WholeCheckpoints,
) -> Trainer:
    _silence_lightning()
    arguments: dict[str, Any] = {"enable_model_summary": False} | dict(lightning.trainer)
    plugins: list[Any] = [checkpoint_io]
    if place().world_size > 1:
        # Buffers that change do so alike on all processes, which have been started, and have found each other, before.
        strategy = _sharding() if options.strategy == "fsdp" else DDPStrategy(broadcast_buffers=False)
        arguments |= {"strategy": strategy, "num_nodes": place().nodes}
        plugins.append(TorchElasticEnvironment())
    return Trainer(
        **arguments | {"enable_progress_bar": bool(lightning.progress_bar)},
        max_steps=total,
        callbacks=callbacks,
        plugins=plugins,
        logger=lightning.loggers or False,
        accelerator=find_device(options.accelerator).type,
        devices=place().local_world_size,
        precision=PRECISIONS[options.precision],
        val_check_interval=per_epoch,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=options.clip or None,
        enable_checkpointing=False,
    )


def _sharding() -> ModelParallelStrategy:
    """Return the strategy for a model that `TaskModule.configure_model` shards over all processes."""
    return ModelParallelStrategy(place().world_size, 1, save_distributed_checkpoint=False)


def _silence_lightning() -> None:
    """Hide Lightning's notes and warnings about settings that users of elman cannot change."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
