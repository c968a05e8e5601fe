"""Trains the trials of a search in parallel on a Ray cluster, by Ray Tune.

Ray Tune starts trials where there is room, and stops those that are to be pruned. The study of the search, the same as
without Ray, decides in the process of the user what they train, and which are pruned.
"""

import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from elman.errors import BadInput, Failure
from elman.options import PARTS
from elman.tasks.registry import options_of
from elman.tune.options import TuneOptions
from elman.tune.progress import SearchProgress
from elman.tune.space import options_of_trial
from elman.tune.study import OtherData, Study, TrialRun
from elman.tune.trial import TrialSetup, train_trial

LOSS = "validation_loss"
ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is handled as without Ray
    "TUNE_MAX_PENDING_TRIALS_PG": "1",  # draw the options of a trial when there is room for it, from all results
    "RAY_AIR_NEW_OUTPUT": "0",
}
CONNECT_SECONDS = 10.0
FOLDER = "ray"  # of Ray's own files, in the folder of the study


def run_on_cluster(setup: TrialSetup, options: TuneOptions, study: Study, progress: SearchProgress) -> None:
    """Train the trials of a search.

    Args:
        setup: what all trials have in common.
        options: the options of the search.
        study: its study.
        progress: prints a line for each trial.

    Raises:
        BadInput: if there is no cluster at the address.
        Failure: if no trial is complete.
    """
    address = options.ray
    os.environ.update(ENVIRONMENT)
    how = {"include_dashboard": False} if address == "local" else {}  # of a cluster that this starts
    try:
        _check_reachable(str(address))
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **how)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"--ray {address}: expected the address of a Ray cluster, auto, or local; cannot connect: {reason:.200}"
        ) from None
    try:
        _fit(setup, options, study, progress)
    finally:
        ray.shutdown()
        study.tidy()


def _check_reachable(address: str) -> None:
    """Connect to an address with a host and a port: Ray itself tries for minutes.

    Raises:
        OSError: if nothing listens there.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _fit(setup: TrialSetup, options: TuneOptions, study: Study, progress: SearchProgress) -> None:
    searcher = StudySearcher(study, options.trials, progress)
    train = partial(_train, _absolute(setup), study.sha256)
    tuner = tune.Tuner(
        tune.with_resources(train, _resources(setup)),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            num_samples=-1,  # the searcher ends
            time_budget_s=progress.seconds_left,
        ),
        run_config=tune.RunConfig(name=FOLDER, storage_path=str(study.path.absolute()), verbose=0),
    )
    tuner.fit()
    if searcher.refusal:
        raise searcher.refusal


def _resources(setup: TrialSetup) -> dict[str, float]:
    """Return what a trial takes of the cluster: a CPU, and a GPU if there are some."""
    training = options_of_trial(options_of(setup.task), setup.fixed)[1]
    has_gpus = ray.cluster_resources().get("GPU", 0) >= 1 and training.accelerator in ("auto", "gpu")
    return {"cpu": 1, "gpu": 1} if has_gpus else {"cpu": 1}


def _absolute(setup: TrialSetup) -> TrialSetup:
    """Return the setup with absolute paths: processes of Ray run in other folders."""

    def absolute(data: Any) -> Any:
        are_paths = isinstance(data, list) and all(isinstance(path, str | Path) for path in data)
        return [type(path)(Path(path).absolute()) for path in data] if are_paths else data

    fixed = {name: absolute(value) if name in PARTS else value for name, value in setup.fixed.items()}
    return TrialSetup(setup.task, absolute(setup.data), fixed)


def _train(setup: TrialSetup, sha256: str | None, config: dict[str, Any]) -> None:
    """Train a trial in a process of the cluster.

    Args:
        setup: what all trials have in common.
        sha256: the digest of the data of earlier trials; None if there are none.
        config: from `StudySearcher.suggest`.
    """
    folder, digests = Path(config["folder"]), [sha256]

    def check(digest: str | None) -> None:
        if sha256 not in (None, digest):
            raise OtherData(f"{folder}: expected the data of the first trial, got other or changed data")
        digests.append(digest)

    def report(epoch: int, loss: float) -> bool:
        tune.report({LOSS: loss, "epoch": epoch, "state": "running", "sha256": digests[-1]})
        return False  # the scheduler stops this process

    end: dict[str, Any] = {LOSS: float("nan"), "epoch": 0, "sha256": None}
    try:
        train_trial(setup, config["values"], folder, report, check_data=check)
        end |= {"state": "complete", "sha256": digests[-1]}
    except (BadInput, Failure) as error:
        is_refused = isinstance(error, OtherData) or (isinstance(error, BadInput) and digests[-1] is None)
        end |= {"state": "refused" if is_refused else "failed", "reason": str(error), "sha256": digests[-1]}
    tune.report(end)


class StudySearcher(Searcher):
    """Gives the trials of a study to Ray Tune, and tells the study how they end.

    Args:
        study: the study.
        trials: the number of trials.
        progress: prints a line for each trial.
    """

    def __init__(self, study: Study, trials: int, progress: SearchProgress) -> None:
        super().__init__(metric=LOSS, mode="min")
        self._study, self._count, self._progress = study, trials, progress
        self._runs: dict[str, TrialRun] = {}  # by the identifier of Ray
        self._pruned = set[str]()
        self.refusal: BadInput | None = None  # why no trial can be trained

    def suggest(self, trial_id: str) -> Any:
        """Return the options and the folder of the next trial."""
        trial = None if self.refusal else self._study.begin(self._count)
        if trial is None:
            return Searcher.FINISHED
        self._runs[trial_id] = trial
        return {"values": trial.values, "folder": str(trial.folder.absolute())}

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record a validation loss; return whether the trial is to be pruned."""
        if result.get("sha256") and self._study.sha256 is None:
            self._study.sha256 = result["sha256"]
        if result["state"] != "running":
            return False
        if self._study.report(self._runs[trial_id].number, result["epoch"], result[LOSS]):
            self._pruned.add(trial_id)
        return trial_id in self._pruned

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record how a trial has ended; one that was stopped when the time was over can be continued."""
        trial, state = self._runs[trial_id], (result or {}).get("state")
        if trial_id in self._pruned:
            self._study.prune(trial.number)
        elif error:
            self._study.fail(trial.number, "its process on the cluster ended early")
        elif state == "complete":
            self._study.complete(trial.number)
        elif state == "failed":
            self._study.fail(trial.number, str((result or {})["reason"]))
        elif state == "refused":
            self.refusal = BadInput(str((result or {})["reason"]))
            return
        else:
            return
        self._progress.tell(trial)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Ray stores a copy of the searcher, which is not used."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the study is in its own database."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class StudyScheduler(FIFOScheduler):
    """Stops the trials that the study prunes.

    Args:
        searcher: knows the trials.
    """

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()
        self._searcher = searcher

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        is_pruned = self._searcher.report(trial.trial_id, result)
        return str(TrialScheduler.STOP if is_pruned else TrialScheduler.CONTINUE)
