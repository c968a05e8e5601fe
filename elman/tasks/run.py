"""Training: from data to a run folder, for every task."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from elman.errors import BadInput, Failure, Terminated, is_out_of_memory
from elman.io import metrics_csv as table
from elman.io.format import counted
from elman.io.run_folder import Run, check_free, new_run, open_run, resumed_run
from elman.report import curves
from elman.tasks.task import Loaded, PreparedData, Task, parameter_count
from elman.training.callbacks import Interrupted
from elman.training.devices import find_device
from elman.training.diverged import Diverged
from elman.training.lightning_arguments import OURS, LightningArguments
from elman.training.options import TrainingOptions
from elman.training.processes import ProcessLost, announce, check_same, is_first, of_process, part_of, place
from elman.training.sharding import is_sharded
from elman.training.trainable import Batches
from elman.training.trainer import Outcome, check_device, check_resume, fit, log_scores, precision_warning

# Training options that resuming can change.
CHANGEABLE = ("epochs", "minutes", "patience", "accelerator", "devices", "nodes", "strategy", "precision", "on_nan")
REGULARIZATION = ("dropout", "word_dropout", "smoothing")  # arguments of models that do not change their weights
NEEDS_MEMORY = ("batch", "bptt", "hidden", "layers", "embed")  # options that tell how much memory training takes


@dataclass(frozen=True)
class TrainingPlan:
    """The arguments of `elman.training.trainer.fit`."""

    model: nn.Module
    train: Batches
    validation: Batches
    unit: str

    @property
    def loss(self) -> Any:
        """The loss of the model."""
        return self.model.loss

    def with_model(self, model: nn.Module) -> "TrainingPlan":
        """Return the same plan for a copy of the model."""
        return replace(self, model=model)


def start(
    task: Task,
    data: Any,
    options: Any,
    training: TrainingOptions,
    out: Path | None,
    began: float,
    console: Console,
    lightning: LightningArguments = OURS,
) -> Run:
    """Train a new model. If several processes train it together, all call this.

    Args:
        task: the task.
        data: files, or Python objects.
        options: the options of the task.
        training: options of the training.
        out: the run folder; None: the next free one.
        began: when the training began, by time.monotonic.
        console: the console to print on.
        lightning: arguments of users for Lightning's Trainer.

    Raises:
        BadInput: for data that cannot be used.
        Failure: if the training diverges, or memory or disk space runs out.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with everything saved.
    """
    if is_first():
        check_free(out)
    check_device(training)
    base = _base_of(task, training)
    with console.status("reading"):
        prepared = _prepare(task, data, options, training.seed, console, base)
    torch.manual_seed(training.seed)
    model = _new_model(task, prepared, base)
    config = {
        "task": task.name,
        "data": {"name": prepared.name} | prepared.facts,
        "model": prepared.model_args,
        "options": task.options_to_dict(_with_batch(prepared.options, 1 / place().world_size)),
        "training": training.model_dump(),
    }
    with _new_run(out, config) as run:
        if is_first():
            _save_files(run, prepared)
        _train(task, run, model, prepared, training, console, began, lightning=lightning)
    return run


def _base_of(task: Task, training: TrainingOptions) -> Loaded | None:
    """Load the model whose weights a training starts from; None if it starts from random weights."""
    return None if training.init_from is None else task.load(open_run(Path(training.init_from)))


def _check_base(base: Run, model_args: dict[str, Any]) -> None:
    """Check that the model of a run is that of a training that starts from it.

    Raises:
        BadInput: if an argument of the model differs.
    """
    saved = base.config["model"]
    for name in {**saved, **model_args}:
        if saved.get(name) != model_args.get(name) and name not in REGULARIZATION:
            raise BadInput(
                f"--init-from {base.path}: expected a model with {name} {saved.get(name)}, as in this run, got "
                f"{model_args.get(name)}"
            )


def _prepare(task: Task, data: Any, options: Any, seed: int, console: Console, base: Loaded | None) -> PreparedData:
    """Read, split, encode and batch data, in batches of all processes together."""
    options_of_all = _with_batch(options, place().world_size)
    try:
        prepared = task.prepare(data, options_of_all, seed, tell=console.print, base=base.run if base else None)
    except BadInput as error:
        if place().world_size == 1 or "--batch" not in str(error):
            raise
        raise BadInput(f"{error}; --batch {options.batch} is that of each of {place().world_size} processes") from None
    _check_same(prepared)
    return prepared


def _check_same(prepared: PreparedData) -> None:
    facts = {name: value for name, value in prepared.facts.items() if name != "files"}
    check_same(f"{prepared.name}: the data", [facts, prepared.model_args, prepared.files])


def _with_batch(options: Any, factor: float) -> Any:
    """Return options with another batch size: --batch is that of one process, batches are those of all processes."""
    if factor == 1:
        return options
    if not isinstance(batch := getattr(options, "batch", None), int):
        raise BadInput("--devices: expected a task with the option --batch, got one without; pass --devices 1")
    return options.model_copy(update={"batch": round(batch * factor)})


@contextmanager
def _new_run(out: Path | None, config: dict[str, Any]) -> Iterator[Run]:
    """Create the folder of a new run, on the first process."""
    if is_first():
        with new_run(out, config) as run:
            of_process(run.path.absolute())
            announce(run.path)
            yield run
    else:
        path = of_process(Path())
        announce(path)
        yield Run(path, config)


@contextmanager
def _resumed_run(path: Path) -> Iterator[Run]:
    """Open the run to resume; the first process locks it."""
    if is_first():
        with resumed_run(path) as run:
            of_process(run.config)
            announce(path)
            yield run
    else:
        run = Run(path, of_process({}))
        announce(path)
        yield run


def resume(
    task: Task,
    path: Path,
    data: Any,
    changes: dict[str, Any],
    began: float,
    console: Console,
    lightning: LightningArguments = OURS,
) -> Run:
    """Resume a training that was interrupted, or extend one. If several processes train it together, all call this.

    The batch of all processes together stays the same, so that the training is the same on any number of them.

    Args:
        task: the task.
        path: the run folder.
        data: the training data, if they have moved; None: as in the first training.
        changes: training options that replace those of the run, of `CHANGEABLE`. Epochs and minutes are totals, and
            either replaces both limits of the run.
        began: when this training began, by time.monotonic.
        console: the console to print on.
        lightning: as for `start`.

    Raises:
        BadInput: for a run that cannot be resumed; for other data.
        Failure: if the training diverges, or memory or disk space runs out.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with everything saved.
    """
    with _resumed_run(path) as run:
        return _resume(task, run, data, changes, began, console, lightning)


def _resume(
    task: Task,
    run: Run,
    data: Any,
    changes: dict[str, Any],
    began: float,
    console: Console,
    lightning: LightningArguments,
) -> Run:
    model, before = task.new_model(run), task.training_of(run)
    extends = bool(changes.get("epochs") or changes.get("minutes"))
    limits = {"epochs": None, "minutes": None} if extends else {}
    training = before.model_copy(update=limits | changes)
    check_device(training)
    options, options_of_process = _divided_batch(task, run, before.devices * before.nodes)
    if not extends and run.config.get("ended"):
        raise BadInput(
            f"--resume {run.path}: this training has ended; to continue it, pass a larger --epochs or --minutes"
        )
    restarts = run.is_unsaved
    for name in filter(Path.exists, () if restarts else (run.path / "metrics.csv", run.path / "flow.csv")):
        table.read(name)  # raises an error if it is damaged: new rows are appended
    with console.status("reading"):
        base = _base_of(task, training) if restarts else None
        prepared = _prepare_again(task, run, data, options, training.seed, restarts, base)
        if not restarts:
            extends = check_resume(run, _plan(task, model, prepared), training, extends)
    _check_same(prepared)
    if is_first():
        changed = {"options": task.options_to_dict(options_of_process)} if options_of_process else {}
        run.update(training=training.model_dump(), ended=None, diverged=None, **changed)
    if restarts:
        _tell(console, f"{run.path}: no checkpoint was saved; the training starts from the beginning")
        if is_first():
            shutil.rmtree(run.path / "tensorboard", ignore_errors=True)
            _save_files(run, prepared)
        torch.manual_seed(training.seed)
        model = _new_model(task, prepared, base)
    _train(task, run, model, prepared, training, console, began, not restarts, extends, lightning)
    return run


def _divided_batch(task: Task, run: Run, processes: int) -> tuple[Any, Any]:
    """Return the options of a run with the batch of all processes, and with that of one, if their number has changed.

    Args:
        task: the task.
        run: the run to resume.
        processes: number of processes that trained it before.

    Raises:
        BadInput: if the batch cannot be divided by the number of processes.
    """
    options, world_size = task.options_of(run), place().world_size
    if processes == world_size:
        return _with_batch(options, world_size), None
    options_of_all = _with_batch(options, processes)
    if not isinstance(batch := getattr(options_of_all, "batch", None), int) or batch % world_size:
        raise BadInput(
            f"--resume {run.path}: expected a number of processes that divides {batch}, the batch of all processes "
            f"together, got {world_size}; pass other --devices or --nodes"
        )
    return options_of_all, _with_batch(options_of_all, 1 / world_size)


def _prepare_again(
    task: Task, run: Run, data: Any, options: Any, seed: int, restarts: bool, base: Loaded | None
) -> PreparedData:
    """Prepare the data of a run again, with its codec and its split, unless the training starts from the beginning.

    Raises:
        BadInput: if the data have changed.
    """
    source = task.training_data(run) if data is None else data
    prepared = task.prepare(source, options, seed, None if restarts else run, base=base.run if base else None)
    if _digests(prepared.facts) != _digests(run.config["data"]):
        raise BadInput(f"{prepared.name}: expected the data that {run.path} was trained on, got other or changed data")
    return prepared


def _digests(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name.endswith("sha256")}


def _save_files(run: Run, prepared: PreparedData) -> None:
    run.write({name: text.encode() for name, text in prepared.files.items()})


def _plan(task: Task, model: nn.Module, prepared: PreparedData) -> TrainingPlan:
    return TrainingPlan(model, part_of(prepared.train), part_of(prepared.validation), task.unit)


def _new_model(task: Task, prepared: PreparedData, base: Loaded | None) -> nn.Module:
    """Make the model of a new training, with the weights of `base` if there is one."""
    try:
        model = task.build(prepared.model_args)
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Failure(
            f"{task.name}: expected a model that fits into memory, got {prepared.model_args}: {reason}"
        ) from None
    if prepared.initialize:
        prepared.initialize(model)
    if base:
        _check_base(base.run, prepared.model_args)
        model.load_state_dict(base.run.load_tensors("model"))
    return model


def _train(
    task: Task,
    run: Run,
    model: nn.Module,
    prepared: PreparedData,
    training: TrainingOptions,
    console: Console,
    began: float,
    resume: bool = False,
    extends: bool = False,
    lightning: LightningArguments = OURS,
) -> None:
    _tell(console, f"{prepared.name}: {prepared.summary}")
    device, count = find_device(training.accelerator), place().world_size
    where = "" if device.type == "cpu" else f" on {device}"
    where += f", {count} processes" if count > 1 else ""
    _tell(console, f"{model.title}, {parameter_count(model):,} parameters{where}, run folder {run.path}")
    if warning := precision_warning(training):
        _tell(console, warning)
    try:
        outcome = fit(_plan(task, model, prepared), training, run, console, began, resume, extends, lightning)
        if outcome.skipped:
            skipped = f"{counted(outcome.skipped, 'step')} of {outcome.steps:,}"
            _tell(console, f"Skipped {skipped}, whose loss or gradient was not finite (--on-nan skip)")
        if is_first():
            whole = task.new_model(run) if is_sharded(model) else model
            _conclude(task, run, whole.to(device), prepared, outcome, console, lightning)
    except (Interrupted, KeyboardInterrupt, Terminated, ProcessLost) as error:
        if run.last.exists():
            saved = "Everything" if isinstance(error, Interrupted) else "The last checkpoint"
            _tell(console, f"Interrupted. {saved} is saved; to resume: {run.resume_command}")
        raise
    except Diverged as error:
        if run.path.exists() and is_first():
            run.update(diverged=str(error))
        raise Failure(str(error)) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise _out_of_memory(error, run, prepared.options) from None


def _out_of_memory(error: Exception, run: Run, options: Any) -> Failure:
    """Return the exception for a training that ran out of memory, with the options that lower what it takes."""
    values = {name: getattr(options, name, None) for name in NEEDS_MEMORY}
    lower = " or ".join(f"--{name} (now {value})" for name, value in values.items() if value)
    reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
    resume = f"; with more memory, to resume: {run.resume_command}" if run.last.exists() else ""
    return Failure(f"{run.path}: not enough memory to train{reason}; lower {lower or 'the batch size'}{resume}")


def _conclude(
    task: Task,
    run: Run,
    model: nn.Module,
    prepared: PreparedData,
    outcome: Outcome,
    console: Console,
    lightning: LightningArguments,
) -> None:
    model.load_state_dict(run.load_tensors("model"))
    scores = task.score_run(run, model.eval(), prepared, console)
    own_scores = {f"test/{name}": value for name, value in next(iter(scores.values())).items()}
    log_scores(run, own_scores, outcome.steps, lightning)
    baselines = task.baseline_losses(run, prepared, scores)
    plot_path, baseline_line = run.path / "curves.png", min(baselines.items(), key=lambda pair: pair[1], default=None)
    curves.draw(run.path / "metrics.csv", plot_path, task.loss_of(run).replace("_", " "), baseline_line)
    ended = {"steps": outcome.steps, "seconds": round(outcome.seconds, 1), "limit": outcome.limit}
    if outcome.skipped:
        ended["skipped"] = outcome.skipped
    by_label = {"by_label": scores.by_label} if scores.by_label else {}
    run.update(
        scores=scores, margins=scores.margins, **by_label, scored=scores.counted, baselines=baselines, ended=ended
    )


def _tell(console: Console, line: str) -> None:
    """Print a line without wrapping: commands in it can be copied."""
    console.print(line, markup=False, soft_wrap=True)
