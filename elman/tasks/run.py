"""`elman train`, of every task: from data to a run."""

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from elman.errors import BadInput
from elman.io import metrics_csv as table
from elman.io.files import write_whole
from elman.io.format import shell_path
from elman.io.run_folder import Run, check_free, new_run, resumed_run
from elman.report import curves, facts, tables
from elman.tasks.prepared_data import PreparedData
from elman.tasks.task import Task, weights
from elman.training.callbacks import Interrupted
from elman.training.diverged import Diverged
from elman.training.options import TrainingOptions
from elman.training.trainable import Batches
from elman.training.trainer import Outcome, check_resume, fit


@dataclass(frozen=True)
class TrainingPlan:
    """What the training room is given."""

    model: nn.Module
    train: Batches
    validation: Batches
    unit: str

    @property
    def loss(self) -> Any:
        """The model's own."""
        return self.model.loss


def start(
    kind: Task, data: Any, options: Any, training: TrainingOptions, out: Path | None, began: float, console: Console
) -> Run:
    """Train a new model.

    Args:
        kind: the task.
        data: files, or what Python has in their place.
        options: of the task.
        training: how long, how fast.
        out: the folder of the run; None: the next free one.
        began: when the clock was started, by time.monotonic.
        console: to print on.

    Raises:
        BadInput: for data that cannot be used; if the loss is no longer a number.
        Interrupted: after Ctrl-C, with everything saved.
    """
    check_free(out)
    with console.status("reading"):
        options = kind.settled(data, options, console.print)
        material = kind.prepare(data, options, training.seed)
    torch.manual_seed(training.seed)
    model = _made(kind, material)
    config = {
        "task": kind.name,
        "data": {"name": material.name} | material.facts,
        "model": material.shape,
        "options": kind.written(options),
        "training": asdict(training),
    }
    with new_run(out, config) as run:
        _keep(run, material)
        _train(kind, run, model, material, training, console, began)
    return run


def resume(
    kind: Task,
    path: Path,
    data: Any,
    epochs: float | None,
    minutes: float | None,
    patience: int | None,
    began: float,
    console: Console,
) -> Run:
    """Go on with a training that was interrupted, or longer than was asked for at first.

    Args:
        kind: the task.
        path: of the run.
        data: where that of the training is now; None: where it was.
        epochs: in all; with `minutes`, in the place of what was asked for.
        minutes: in all.
        patience: another one; None: as it was.
        began: when the clock was started, by time.monotonic.
        console: to print on.

    Raises:
        BadInput: for a run that cannot be gone on with; for other data.
        Interrupted: after Ctrl-C, with everything saved.
    """
    with resumed_run(path) as run:
        return _resume(kind, run, data, epochs, minutes, patience, began, console)


def _resume(
    kind: Task,
    run: Run,
    data: Any,
    epochs: float | None,
    minutes: float | None,
    patience: int | None,
    began: float,
    console: Console,
) -> Run:
    model, options = kind.of(run), kind.options_of(run)
    training = kind.training_of(run)
    longer = bool(epochs or minutes)
    if longer:
        training = replace(training, epochs=epochs, minutes=minutes)
    elif run.config.get("ended"):
        raise BadInput(f"--resume {run.path}: this training has ended; to go on, give more --epochs or --minutes")
    if patience is not None:
        training = replace(training, patience=patience)
    starts = run.is_unsaved
    for name in filter(Path.exists, () if starts else (run.path / "metrics.csv", run.path / "flow.csv")):
        table.read(name)  # goes on with its rows
    with console.status("reading"):
        material = same(kind, run, data, options, training.seed, fitted=not starts)
        if not starts:
            check_resume(run, training, len(material.train), longer)
    run.update(training=asdict(training), ended=None)
    if starts:
        _tell(console, f"{run.path}: no checkpoint was saved; the training starts from the beginning")
        shutil.rmtree(run.path / "tensorboard", ignore_errors=True)
        _keep(run, material)
        torch.manual_seed(training.seed)
        model = kind.of(run)
    _train(kind, run, model, material, training, console, began, resume=not starts, longer=longer)
    return run


def same(kind: Task, run: Run, data: Any, options: Any, seed: int, fitted: bool = True) -> PreparedData:
    """The material of a run once more; with `fitted`, with what the run has fitted on it.

    Raises:
        BadInput: if it is not the same any more.
    """
    material = kind.prepare(kind.source(run) if data is None else data, options, seed, run if fitted else None)
    if material.facts.get("sha256") != run.config["data"].get("sha256"):
        raise BadInput(f"{material.name}: expected the data that {run.path} was trained on, got other or changed data")
    return material


def _keep(run: Run, material: PreparedData) -> None:
    for name, text in material.kept.items():
        write_whole(run.place(name), text)


def _made(kind: Task, material: PreparedData) -> nn.Module:
    try:
        return kind.model(**material.shape)
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"{kind.name}: expected a model that memory has room for, got {material.shape}: {reason}"
        ) from None


def _train(
    kind: Task,
    run: Run,
    model: nn.Module,
    material: PreparedData,
    training: TrainingOptions,
    console: Console,
    began: float,
    resume: bool = False,
    longer: bool = False,
) -> None:
    _tell(console, f"{material.name}: {material.says}")
    _tell(console, f"{model.title}, {weights(model):,} weights, into {run.path}")
    try:
        lesson = TrainingPlan(model, material.train, material.validation, kind.unit)
        outcome = fit(lesson, training, run, console, began, resume, longer)
        _conclude(kind, run, model, material, outcome, console)
    except (Interrupted, KeyboardInterrupt) as error:
        if run.last.exists():
            saved = "Everything" if isinstance(error, Interrupted) else "The last checkpoint"
            _tell(console, f"Interrupted. {saved} is saved; to go on: {run.resume_command}")
        raise
    except Diverged as error:
        raise BadInput(str(error)) from None


def _conclude(
    kind: Task, run: Run, model: nn.Module, material: PreparedData, outcome: Outcome, console: Console
) -> None:
    scores = kind.conclude(run, model, material, outcome.best, console)
    tables.scores(scores, console)
    baselines = kind.beside(run, material, scores)
    picture, line = run.path / "curves.png", min(baselines.items(), key=lambda pair: pair[1], default=None)
    curves.draw(run.path / "metrics.csv", picture, kind.loss.replace("_", " "), line)
    ended = {"steps": outcome.steps, "seconds": round(outcome.seconds, 1), "limit": outcome.limit}
    run.update(scores=scores, baselines=baselines, ended=ended)
    _tell(console, f"curves: {picture}")
    _tell(console, kind.next.format(run=shell_path(run.path)))
    if not_converged := facts.not_converged(run):
        _tell(console, not_converged)


def _tell(console: Console, line: str) -> None:
    """Print a line as it is: commands in it can be copied."""
    console.print(line, markup=False, soft_wrap=True)
