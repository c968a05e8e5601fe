"""A search in a folder: an Optuna study in SQLite, which knows all trials, and the folders of their runs."""

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from elman.errors import BadInput, Failure
from elman.io import metrics_csv
from elman.io.files import write_whole
from elman.io.format import counted
from elman.io.run_folder import CONFIG, LOCK, Run, lock_folder, make_folder, open_run, remove_empty
from elman.report.rows import separated
from elman.tune.space import Choices, Interval, Space

STUDY, TABLE, PICTURE = "study.db", "trials.csv", "trials.svg"
NAME = "elman"  # of the study in the database
STARTUP = 5  # trials that must be complete before others are pruned
WARMUP = 2  # epochs of a trial before it can be pruned
BUSY_SECONDS = 60.0  # to wait for another process that reads the database
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "interrupted",
}


@dataclass(frozen=True)
class TrialRun:
    """A trial to train.

    Attributes:
        number: its number, from 0.
        values: the options that are searched, by name.
        folder: the folder of its run; it exists if the trial was interrupted.
    """

    number: int
    values: dict[str, Any]
    folder: Path


class Study:
    """The trials of a search. `opened_study` makes it.

    Args:
        path: the folder.
        study: the study of Optuna.
        space: what is searched.
        seed: of the sampler.
    """

    def __init__(self, path: Path, study: optuna.Study, space: Space, seed: int) -> None:
        self.path, self.space = path, space
        self._study, self._seed = study, seed
        self._trials: dict[int, optuna.Trial] = {}  # those that this process trains
        self._reported: dict[int, set[int]] = {}  # the epochs whose losses are known
        self._rows: list[dict[str, Any]] | None = None  # of the trials, until something changes
        self._interrupted = [trial for trial in self._all() if trial.state == TrialState.RUNNING]

    def _all(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def begin(self, trials: int) -> TrialRun | None:
        """Return the next trial to train: one that was interrupted, or a new one.

        The values of a trial depend on its number, the seed and the trials before it, not on interruptions.

        Args:
            trials: the number of trials of the search.

        Returns:
            The trial; None if there are as many.
        """
        begun = [trial for trial in self._all() if trial.state != TrialState.WAITING]
        reported = set[int]()
        if self._interrupted:
            frozen = self._interrupted.pop(0)
            # Its number is public, but not the identifier that a trial is made of.
            trial, reported = optuna.Trial(self._study, frozen._trial_id), set(frozen.intermediate_values)
        elif len(begun) < trials:
            (seed,) = np.random.SeedSequence([self._seed, len(begun)]).generate_state(1)
            self._study.sampler = TPESampler(seed=int(seed))
            trial = self._study.ask()
        else:
            return None
        self._trials[trial.number] = trial
        self._rows, self._reported[trial.number] = None, reported
        values = {name: _suggest(trial, name, domain) for name, domain in self.space.items()}
        return TrialRun(trial.number, values, self.folder_of(trial.number))

    def folder_of(self, number: int) -> Path:
        """Return the folder of the run of a trial."""
        return self.path / f"trial-{number:04}"

    def report(self, number: int, epoch: int, loss: float) -> bool:
        """Record the validation loss of a trial after an epoch; return whether the trial is to be pruned."""
        trial, self._rows = self._trials[number], None
        if epoch not in self._reported[number]:  # a resumed trial may repeat a validation
            self._reported[number].add(epoch)
            trial.report(loss, epoch)
        return trial.should_prune()

    def complete(self, number: int) -> None:
        """Record that the training of a trial has ended."""
        run = open_run(self.folder_of(number))
        losses, seconds = _history(run)
        if not losses:
            raise BadInput(f"{run.path}: expected validation losses in metrics.csv, got none")
        self._tell(number, TrialState.COMPLETE, (run.config.get("ended") or {}).get("seconds", seconds), min(losses))

    def prune(self, number: int) -> None:
        """Record that a trial was pruned."""
        folder = self.folder_of(number)
        self._tell(number, TrialState.PRUNED, _history(open_run(folder))[1] if (folder / CONFIG).exists() else None)

    def tidy(self) -> None:
        """Mark the runs of pruned trials as ended, and remove their checkpoints, which take most of their space."""
        for row in self.rows():
            folder = self.folder_of(row["trial"])
            if row["state"] != "pruned" or not (folder / CONFIG).exists():
                continue
            run = open_run(folder)
            if not run.config.get("ended"):
                steps = int(metrics_csv.read(folder / "metrics.csv")[-1]["step"])
                seconds = row["seconds"] or 0.0
                run.update(ended={"steps": steps, "seconds": seconds, "limit": None, "pruned": True})
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def fail(self, number: int, reason: str) -> None:
        """Record that a trial has failed, and why."""
        folder = self.folder_of(number)
        has_losses = (folder / CONFIG).exists() and (folder / "metrics.csv").exists()
        self._trials[number].set_user_attr("reason", reason)
        self._tell(number, TrialState.FAIL, _history(open_run(folder))[1] if has_losses else None)

    def _tell(self, number: int, state: TrialState, seconds: float | None, loss: float | None = None) -> None:
        trial = self._trials.pop(number)
        if seconds is not None:
            trial.set_user_attr("seconds", seconds)
        self._study.tell(trial, loss, state)
        self._rows = None
        self.write_table()

    @property
    def sha256(self) -> str | None:
        """Digest of the data of all trials; None before the first has begun."""
        digest: str | None = self._study.user_attrs.get("sha256")
        return digest

    @sha256.setter
    def sha256(self, digest: str) -> None:
        self._study.set_user_attr("sha256", digest)

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """Let the first trial of a new study have these values, as far as they belong to the space."""
        values = {name: values[name] for name in self.space if name in values and values[name] in self.space[name]}
        if values and not self._all():
            self._study.enqueue_trial(values)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each trial that has begun: number, state, validation loss, options, seconds, reason."""
        if self._rows is not None:
            return self._rows
        rows = self._rows = list[dict[str, Any]]()
        for trial in self._all():
            if trial.state in STATES:
                values = {
                    name.rstrip("_"): _value(domain, trial.params.get(name)) for name, domain in self.space.items()
                }
                losses = trial.intermediate_values.values()
                loss = trial.value if trial.state == TrialState.COMPLETE else min(losses, default=None)
                row = {"trial": trial.number, "state": STATES[trial.state], "validation_loss": loss, **values}
                row |= {"seconds": trial.user_attrs.get("seconds"), "reason": trial.user_attrs.get("reason")}
                rows.append(row)
        return rows

    def values_of(self, number: int) -> dict[str, Any]:
        """Return the options of a trial that are searched."""
        return {name: self.rows()[number][name.rstrip("_")] for name in self.space}

    def write_table(self) -> None:
        """Write trials.csv."""
        write_whole(self.path / TABLE, "".join(separated(self.rows(), ",")))

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        counter = Counter(row["state"] for row in self.rows())
        return {state: counter[state] for state in STATES.values()}

    def best(self) -> dict[str, Any] | None:
        """Return the row of the complete trial with the lowest validation loss, the first of several."""
        complete = [row for row in self.rows() if row["state"] == "complete"]
        return min(complete, key=lambda row: (row["validation_loss"], row["trial"]), default=None)


def summary(counts: Mapping[str, int]) -> str:
    """Return numbers of trials in words.

    >>> summary({"complete": 3, "pruned": 1, "failed": 0, "interrupted": 0})
    '4 trials: 3 complete, 1 pruned, 0 failed'
    """
    parts = [f"{count} {state}" for state, count in counts.items() if count or state != "interrupted"]
    return f"{counted(sum(counts.values()), 'trial')}: {', '.join(parts)}"


def _value(domain: Interval | Choices, value: Any) -> Any:
    return domain.rounded(value) if isinstance(domain, Interval) and value is not None else value


def _suggest(trial: optuna.Trial, name: str, domain: Interval | Choices) -> Any:
    """Draw the value of an option; a trial that was interrupted keeps its value."""
    if isinstance(domain, Choices):
        return trial.suggest_categorical(name, domain.values)
    if domain.is_whole:
        return trial.suggest_int(name, int(domain.low), int(domain.high), log=domain.is_log)
    return domain.rounded(trial.suggest_float(name, domain.low, domain.high, log=domain.is_log))


def _history(run: Run) -> tuple[list[float], float | None]:
    """Return the validation losses of a run, and the seconds of its training."""
    rows = metrics_csv.read(run.path / "metrics.csv")
    losses = [float(row["val_loss"]) for row in rows if row.get("val_loss")]
    seconds = [float(row["seconds"]) for row in rows if row.get("seconds")]
    return losses, round(seconds[-1], 1) if seconds else None


@contextmanager
def opened_study(path: Path, settings: Mapping[str, Any], space: Space, seed: int, prune: bool) -> Iterator[Study]:
    """Create a study in a new folder, or open the one that is there; no other process can use it in the context.

    If the body refuses the data of a new study, the study is removed.

    Args:
        path: the folder.
        settings: what all trials have in common, as JSON.
        space: what is searched.
        seed: of the sampler.
        prune: whether trials are pruned.

    Raises:
        BadInput: if the folder has other files, or a study with other settings, or cannot be used.
        Failure: if the study cannot be written.
    """
    file, folders = path / STUDY, list[Path]()
    is_new = not file.exists()
    with ExitStack() as stack:
        _check_folder(path)
        with suppress(FileExistsError):
            folders = make_folder(path)
        lock_folder(path, "--out", stack, "this folder is being searched in")
        try:
            with _errors_of(file), ExitStack() as connection:
                study = _open(file, prune, connection)
                _check_settings(path, study, settings)
                yield Study(path, study, space, seed)
        except BadInput:
            if is_new and not any(path.glob("trial-*")):
                _remove(path, folders)
            raise


def _open(file: Path, prune: bool, connection: ExitStack) -> optuna.Study:
    connection.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = ExitStack()  # of connections, which a storage that cannot be made would leave open
    connection.callback(opened.close)

    def connect() -> sqlite3.Connection:
        return opened.enter_context(closing(sqlite3.connect(file, timeout=BUSY_SECONDS, check_same_thread=False)))

    storage = RDBStorage("sqlite://", {"creator": connect})  # in a URL, some characters of a path have a meaning
    connection.callback(storage.engine.dispose)
    pruner: BasePruner = MedianPruner(STARTUP, WARMUP) if prune else NopPruner()
    return optuna.create_study(storage=storage, pruner=pruner, study_name=NAME, load_if_exists=True)


@contextmanager
def _errors_of(file: Path) -> Iterator[None]:
    """Turn errors of the database into one line."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, StorageInternalError) as error:
        cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
        reason = f"{str(cause).splitlines()[0]:.200}"
        if isinstance(cause, sqlite3.OperationalError):  # no space on the disk, or no permission
            raise Failure(f"{file}: cannot be read or written: {reason}; repeat the command to go on") from None
        raise BadInput(f"{file}: expected a study that elman tune has written, got invalid content: {reason}") from None


def _remove(path: Path, folders: list[Path]) -> None:
    """Remove a study without trials, and the folders that were created for it."""
    for name in (STUDY, f"{STUDY}-journal", TABLE, PICTURE, LOCK):
        with suppress(OSError):
            (path / name).unlink()
    remove_empty(folders)


def _check_folder(path: Path) -> None:
    """Check that a folder is new, empty, or that of a study."""
    file = path / STUDY
    if file.is_symlink():
        raise BadInput(f"{file}: expected a file, got a symbolic link, which elman does not write through")
    if path.exists() and not path.is_dir():
        raise BadInput(f"--out {path}: expected a folder, got a file; choose another name")
    if path.exists() and not file.exists() and any(other.name != LOCK for other in path.iterdir()):
        what = "a run" if (path / CONFIG).exists() else "a folder with other files"
        raise BadInput(f"--out {path}: expected a new folder, or that of a study, got {what}; choose another name")


def _check_settings(path: Path, study: optuna.Study, settings: Mapping[str, Any]) -> None:
    """Record the settings of a new study; check that those of an earlier one are the same.

    Raises:
        BadInput: if not.
    """
    before = study.user_attrs.get("settings")
    if before is None:
        study.set_user_attr("settings", settings)
        return
    now = json.loads(json.dumps(settings))
    for key in settings:
        old, new = before.get(key), now[key]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            name = min(name for name in {*old, *new} if old.get(name) != new.get(name))
            key, old, new = f"{key} {name}", old.get(name, "nothing"), new.get(name, "nothing")
        raise BadInput(
            f"--out {path}: this study has other settings: {key}: expected {old!s:.80}, got {new!s:.80}; repeat its "
            "command, or pass another --out"
        )


class OtherData(BadInput):
    """The data are not those of the first trial."""


def check_data(study: Study, name: str, digest: str | None) -> None:
    """Record the digest of the data of the first trial; check that those of the other trials are the same.

    Raises:
        OtherData: if the data have changed.
    """
    if study.sha256 is None and digest is not None:
        study.sha256 = digest
    if digest != study.sha256:
        raise OtherData(f"{name}: expected the data of the first trial, got other or changed data; pass another --out")


def no_trial(study: Study) -> Failure:
    """Return the exception for a search without a complete trial."""
    reasons = [row["reason"] for row in study.rows() if row["reason"]]
    last = f"; the last: {reasons[-1]}" if reasons else ""
    return Failure(f"{study.path}: expected a complete trial, got {summary(study.counts())}{last}")
