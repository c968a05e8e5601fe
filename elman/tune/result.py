"""The result of a search."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


@dataclass(frozen=True)
class Tuned:
    """The trials of a search. `elman.tune.search` returns it.

    Attributes:
        task: the name of the task.
        path: the folder, with study.db, trials.csv, trials.svg and the run folder of each trial.
        trials: a dict for each trial: `trial` (its number), `state` ("complete", "pruned", "failed" or "interrupted"),
            `validation_loss`, the options that were searched, `seconds` of training, and the `reason` of a failure.
        counts: the number of trials in each state.
        best_trial: the number of the complete trial with the lowest validation loss.
        best_run: the folder of its run.
        best_options: its options, those that were searched and those that all trials have in common, as arguments of
            `fit`.
        command: the `elman train` command that repeats it; None if the data are not files.

    >>> import elman, tempfile
    >>> space = {"hidden": [4, 8], "lr": "1e-3..1e-1:log"}
    >>> tuned = elman.tune.search("image", out=tempfile.mkdtemp(), trials=2, space=space, epochs=1)
    >>> tuned.counts["complete"], tuned.best.run.config["options"]["hidden"] == tuned.best_options["hidden"]
    (2, True)
    """

    task: str
    path: Path
    trials: list[dict[str, Any]]
    counts: dict[str, int]
    best_trial: int
    best_run: Path
    best_options: dict[str, Any]
    command: str | None

    @property
    def best(self) -> "Trained":
        """The trained model of the best trial."""
        from elman.tasks.api import load

        return load(self.best_run)

    @property
    def best_loss(self) -> float:
        """The validation loss of the best trial."""
        loss: float = self.trials[self.best_trial]["validation_loss"]
        return loss
