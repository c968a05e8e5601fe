"""Searches: trains trials one after another, or on a Ray cluster, and returns what they found."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from elman.errors import BadInput, Failure, Terminated
from elman.extras import needs
from elman.io.format import counted
from elman.io.run_folder import CONFIG, open_run
from elman.io.terminal import Verbosity, note, verbosity
from elman.options import PARTS, flag
from elman.report import trials as pictures
from elman.tasks.launch import names_stdin
from elman.tasks.registry import get_task, options_of
from elman.training.callbacks import Interrupted
from elman.training.processes import place_from_environment
from elman.tune.commands import train_command, tune_command
from elman.tune.options import TuneOptions
from elman.tune.progress import SearchProgress
from elman.tune.result import Tuned
from elman.tune.space import Interval, Space, defaults, description, options_of_trial, space_of
from elman.tune.study import PICTURE, OtherData, Study, TrialRun, check_data, no_trial, opened_study
from elman.tune.trial import OutOfTime, PrunedTrial, Report, TrialSetup, train_trial

MAX_FAILURES = 5  # trials in a row, after which a search ends
# Options that do not make a trial another one, or that name files, whose content is compared.
_NO_SETTINGS = (*PARTS, "accelerator")


@dataclass(frozen=True)
class Search:
    """A search, checked.

    Attributes:
        setup: what all trials have in common.
        space: what is searched.
        options: the options of the search.
        path: the folder.
    """

    setup: TrialSetup
    space: Space
    options: TuneOptions
    path: Path

    @property
    def command(self) -> str | None:
        """The command that goes on with the search; None if the data are not files."""
        options = {"trials": self.options.trials, "no_prune": not self.options.prune, "ray": self.options.ray}
        module = options_of(self.setup.task)
        return tune_command(
            self.setup.task, module, self.setup.data, self.setup.fixed, self.space, options | {"out": self.path}
        )


def prepare(task: str, data: Any, fixed: Mapping[str, Any], options: TuneOptions, out: Path | None) -> Search:
    """Check a search, before anything is written.

    Args:
        task: the name of the task.
        data: files, or Python objects.
        fixed: options that all trials have in common, by name.
        options: the options of the search.
        out: the folder; None: runs/TASK-study.

    Raises:
        BadInput: for options that cannot be combined.
        TypeError: for an unknown option.
        ValueError: for a value that an option cannot have.
    """
    module, fixed = options_of(task), {name: value for name, value in fixed.items() if value is not None}
    space = space_of(module, options.space or (), fixed)
    of_task, training = options_of_trial(module, fixed)
    if training.devices * training.nodes > 1 or place_from_environment():
        raise BadInput(
            "elman tune: expected --devices 1 and --nodes 1, since each trial trains in one process; got more; pass "
            "--ray ADDRESS to train trials in parallel"
        )
    if any(map(names_stdin, (data, *(getattr(of_task, part, None) for part in PARTS)))):
        raise BadInput("elman tune: expected data in files, got standard input, which only one trial could read")
    values = dict(training) | dict(of_task)
    normalized = {name: values[name] for name in fixed}
    path = out if out is not None else Path("runs") / f"{task}-study"
    return Search(TrialSetup(task, data, normalized), space, options, path)


def run(search: Search, console: Console) -> Tuned:
    """Search, or go on with a search.

    Args:
        search: the search.
        console: the console for progress.

    Returns:
        The trials, and the best of them.

    Raises:
        BadInput: for data that cannot be used, or a folder with another search.
        Failure: if no trial is complete, or too many fail in a row.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP, with everything saved.
        MissingPackage: without the packages of the extras `tune` and `ray`.
    """
    setup, options, module = search.setup, search.options, options_of(search.setup.task)
    settings = {
        "task": setup.task,
        "options": {flag(name)[2:]: value for name, value in setup.fixed.items() if name not in _NO_SETTINGS},
        "space": description(search.space),
    }
    seed = options_of_trial(module, setup.fixed)[1].seed
    if options.ray is not None:
        with needs("ray", "elman tune --ray"):
            from elman.tune.ray_search import run_on_cluster
    with opened_study(search.path, settings, search.space, seed, options.prune) as study:
        study.enqueue(defaults(module, setup.fixed, search.space))
        study.tidy()  # the process may have died before it did
        if earlier := len(study.rows()):
            is_done = earlier >= options.trials and not study.counts()["interrupted"]
            rest = f"; nothing to train with --trials {options.trials}" if is_done else ""
            note(f"{search.path}: a search with {counted(earlier, 'trial')}, which are kept{rest}")
        progress = SearchProgress(study, options, console)
        try:
            if options.ray is None:
                _run_here(search, study, progress)
            else:
                run_on_cluster(setup, options, study, progress)
        except (Interrupted, KeyboardInterrupt, Terminated):
            progress.tell_rest("Interrupted", search.command)
            raise
        finally:
            study.write_table()
            if any(row["validation_loss"] is not None for row in study.rows()):
                pictures.draw(study.rows(), _scales(search.space), search.path / PICTURE, _loss_name(search, study))
        if study.counts()["interrupted"] or len(study.rows()) < options.trials:
            progress.tell_rest("The time is over", search.command)
        return _result(search, study)


def _loss_name(search: Search, study: Study) -> str:
    """Return the name of the loss, which may depend on the data: `series` predicts labels or numbers."""
    task = get_task(search.setup.task)
    folders = [study.folder_of(row["trial"]) for row in study.rows() if row["validation_loss"] is not None]
    run = next((folder for folder in folders if (folder / CONFIG).exists()), None)
    return (task.loss_of(open_run(run)) if run else task.loss).replace("_", " ")


def _scales(space: Space) -> dict[str, bool]:
    """Return the columns of the options of a space, and whether their axes are logarithmic."""
    return {name.rstrip("_"): isinstance(domain, Interval) and domain.is_log for name, domain in space.items()}


def _run_here(search: Search, study: Study, progress: SearchProgress) -> None:
    """Train the trials one after another in this process."""
    is_shown = verbosity() >= Verbosity.VERBOSE
    failures = 0
    while time.monotonic() < progress.deadline and (trial := study.begin(search.options.trials)):
        with progress.showing(trial) as report:
            state = _outcome(search, study, progress, trial, report, is_shown)
        if state == "out of time":
            return
        study.tidy()
        progress.tell(trial)
        failures = failures + 1 if state == "failed" else 0
        if failures >= MAX_FAILURES:
            reason = study.rows()[trial.number]["reason"]
            raise Failure(f"{search.path}: {failures} trials in a row failed; the last: {reason}")


def _outcome(
    search: Search, study: Study, progress: SearchProgress, trial: TrialRun, report: Report, is_shown: bool
) -> str:
    """Train a trial and record how it ended."""

    def check(digest: str | None) -> None:
        check_data(study, str(trial.folder), digest)

    try:
        train_trial(search.setup, trial.values, trial.folder, report, progress.deadline, check, is_shown)
    except PrunedTrial:
        study.prune(trial.number)
        return "pruned"
    except OutOfTime:
        return "out of time"
    except (BadInput, Failure) as error:
        is_refused = isinstance(error, BadInput) and not _has_trained(search.setup, study)
        if isinstance(error, OtherData) or is_refused:
            raise
        study.fail(trial.number, str(error))
        return "failed"
    study.complete(trial.number)
    return "complete"


def _has_trained(setup: TrialSetup, study: Study) -> bool:
    """Return whether the data can be used: a trial has begun to train, and the files are still there."""
    paths = [path for path in setup.data if isinstance(path, Path)] if isinstance(setup.data, list) else []
    return study.sha256 is not None and all(path.exists() for path in paths)


def _result(search: Search, study: Study) -> Tuned:
    best = study.best()
    if best is None:
        raise no_trial(study)
    setup, number = search.setup, best["trial"]
    values = {**setup.fixed, **study.values_of(number)}
    command = train_command(setup.task, options_of(setup.task), setup.data, values)
    return Tuned(setup.task, study.path, study.rows(), study.counts(), number, study.folder_of(number), values, command)
