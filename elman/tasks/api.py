"""The tasks in Python: what `elman train` does, with data that are there already."""

import io
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from elman.errors import BadInput, Failure
from elman.extras import needs

with needs("tasks", "elman.tasks"):
    from rich.console import Console
    from sklearn.exceptions import ConvergenceWarning

    from elman.data.examples import files_in
    from elman.data.validation import as_files
    from elman.io.run_folder import Run, open_run
    from elman.options import checked
    from elman.report import facts, tables
    from elman.tasks.overrides import reading
    from elman.tasks.registry import get_task, options_of, task_of_run, training_of
    from elman.tasks.run import start
    from elman.tasks.sampling_options import SamplingOptions
    from elman.tasks.task import Scores
    from elman.training.options import TrainingOptions


class Trained:
    """A trained model of one of the tasks, and its run.

    Args:
        run: where it is.
    """

    def __init__(self, run: Run) -> None:
        self.run, self._task = run, task_of_run(run)
        self._loaded = self._task.load(run)

    @property
    def model(self) -> nn.Module:
        """In evaluation."""
        model: nn.Module = self._loaded.model
        return model

    @property
    def codec(self) -> Any:
        """What turns data to numbers and back, fitted on what was trained on."""
        return self._loaded.codec

    def batch(self, inputs: Any) -> Any:
        """Inputs as tensors, as `model` takes them; they have no targets.

        Args:
            inputs: several, as for `predict`.
        """
        with _in_python():
            return self._task.batch(self._loaded, inputs)

    @property
    def scores(self) -> Scores:
        """On the part of the data that it was tested on, beside those of the baselines."""
        scores: Scores = self.run.config["scores"]
        return scores

    def evaluate(self, data: Any, **how: Any) -> Scores:
        """The scores on other data, in the form of those of the training.

        Args:
            data: as for `fit`.
            how: options of `fit` that say how data are read, `text="review"`, where they differ from the training's.
        """
        with _in_python():
            return self._task.evaluate(reading(self._loaded, how), files_in(data), _console())

    def predict(self, inputs: Any = None, **how: Any) -> list[dict[str, Any]]:
        """What the model makes of inputs: rows, by name.

        Args:
            inputs: of the kind that the task takes, several or a text or a file alone. Paths, and strings that all
                name files, are files. None: as of `elman predict` where nothing is named.
            how: as for `evaluate`.
        """
        with _in_python():
            loaded = reading(self._loaded, how)
            several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
            return list(self._task.predict(loaded, self._task.parse_inputs(loaded, as_files(several))))

    def generate(self, prompt: Any = None, length: int | None = None, out: str | Path | None = None, **how: Any) -> Any:
        """Write something new: a text, which is returned; or a file of music, whose path is.

        Args:
            prompt: to go on from; None: from nothing.
            length: how many tokens, frames or events; None: as many as are usual.
            out: the file to write.
            how: `temperature`, `top_k`, `top_p`, `seed`, as of `elman generate`.
        """
        given = checked(SamplingOptions, "generate", how)
        path = None if out is None else Path(out)
        with _in_python():
            return self._task.generate(self._loaded, prompt, length, path, io.StringIO(), **asdict(given))

    def __repr__(self) -> str:
        return f"Trained({str(self.run.path)!r}, {self.scores})"


def fit(task: str, data: Any, out: str | Path | None, given: dict[str, Any]) -> Trained:
    """Train a model for a task. On a terminal it shows how far it is.

    Args:
        task: a name in `elman.tasks.TASKS`.
        data: a file or several, or what the task takes in the place of these.
        out: the folder of the run; None: the next free one below runs/.
        given: options by their names on the command line, with _ for -; `validation` and `test` are data as well, where
            the task has them.

    Raises:
        BadInput: for data that cannot be used.
        TypeError: for an option that there is not.
        ValueError: for a value that it cannot have.
    """
    began = time.monotonic()
    declared, name = options_of(task), f"elman.tasks.{task}.fit"
    own = set(TrainingOptions.__dataclass_fields__)
    with _in_python():
        training = training_of(declared, {key: value for key, value in given.items() if key in own})
    rest = {key: value for key, value in given.items() if key not in own}
    options = checked(declared.OPTIONS, name, rest, (*TrainingOptions.__dataclass_fields__, "out"))
    folder = None if out is None else Path(out)
    how = options, checked(TrainingOptions, name, training), folder, began, _console()
    with _in_python():
        run = start(get_task(task), files_in(data), *how)
    if not_converged := facts.not_converged(run):
        warnings.warn(not_converged, ConvergenceWarning, stacklevel=3)
    return Trained(open_run(run.path))


def load(run: Any, task: str | None = None) -> Trained:
    """Load a trained model.

    Args:
        run: a run folder, a `Run` or a `Trained`.
        task: that it must be of; None: any.

    Raises:
        BadInput: for anything else.
    """
    trained = run if isinstance(run, Trained) else Trained(open_run(Path(run)))
    name = trained.run.config["task"]
    if task not in (None, name):
        raise BadInput(f"{trained.run.path}: expected a run of {task}, got one of {name}")
    return trained


@contextmanager
def _in_python() -> Iterator[None]:
    """Errors that name options name them as they are in Python."""
    try:
        yield
    except (BadInput, Failure) as error:
        raise type(error)(re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), str(error))) from None


def _console() -> Console:
    """Of a terminal, where somebody may wait, standard error; nothing elsewhere."""
    return tables.console(stderr=True, quiet=not sys.stderr.isatty())
