"""What goes into a training and what comes out of it."""

from dataclasses import dataclass
from typing import Any

from elman.io.run_folder import Run
from elman.training.trainable import Batches

Scores = dict[str, dict[str, float]]  # numbers by name, of the model first, of baselines then


@dataclass(frozen=True)
class PreparedData:
    """What a model is trained and tested on.

    Args:
        name: where it came from, for people.
        facts: of the data, for config.json: where it is, a "sha256" to know it again, counts.
        shape: the arguments of the model, for config.json.
        says: all this in a line.
        train: an epoch and more.
        validation: an epoch.
        kept: files for the run, by name: what was fitted on the part that is trained on.
        rest: what only the task itself knows.
    """

    name: str
    facts: dict[str, Any]
    shape: dict[str, Any]
    says: str
    train: Batches
    validation: Batches
    kept: dict[str, str]
    rest: Any = None


@dataclass(frozen=True)
class Loaded:
    """A trained model, ready to be used.

    Args:
        run: where it was.
        model: in evaluation.
        options: of the task.
        codec: what turns data to numbers and back.
        input_encoding: of standard input; None: that of the terminal, whatever the files of the training had.
    """

    run: Run
    model: Any
    options: Any
    codec: Any
    input_encoding: str | None = None
