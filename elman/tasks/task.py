"""What a task is: its data, its model, its score, and nothing that another task needs too."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TextIO

import torch
from rich.console import Console
from torch import nn

from elman import cells
from elman.errors import BadInput
from elman.flow import Recording
from elman.io.files import input_lines
from elman.io.json_fields import restoring
from elman.io.run_folder import Run
from elman.io.terminal import note, show
from elman.options import made
from elman.report.shown import Missing, Sample
from elman.tasks.prepared_data import Loaded, PreparedData, Scores
from elman.training.options import TrainingOptions


class Task(ABC):
    """One of the tasks.

    name: of the task.
    unit: what its loss is counted over: "tokens".
    loss: the name of the loss among the scores: "nats_per_token".
    what: of the model, in words: "a language model".
    options: a dataclass, whose fields are the options of the command line.
    units: of the task's own numbers in config.json, by key.
    next: the command that comes after the training, {run} in the place of the run.
    texts: whether an input, or a prompt, is a text, which may be in a file.
    pictures: what `conclude` draws into the run, by the name of the file: what it shows, in a sentence.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    loss: ClassVar[str]
    what: ClassVar[str]
    options: ClassVar[type]
    units: ClassVar[dict[str, str]] = {}
    next: ClassVar[str]
    texts: ClassVar[bool] = False
    pictures: ClassVar[dict[str, str]] = {}

    def settled(self, data: Any, options: Any, tell: Callable[[str], Any] = show) -> Any:
        """The options, with what they leave open decided by the data.

        Args:
            data: as for `prepare`.
            options: of the task, as they were given.
            tell: takes a line for people, of what was decided and how.

        Raises:
            BadInput: for data that cannot be used.
        """
        return options

    def written(self, options: Any) -> dict[str, Any]:
        """The options for config.json."""
        return asdict(options)

    @abstractmethod
    def prepare(self, data: Any, options: Any, seed: int, run: Run | None = None) -> PreparedData:
        """Read, split, turn into batches.

        Args:
            data: files, or what Python has in their place.
            options: of the task.
            seed: of the split.
            run: a training that is gone on with: what it has fitted is taken from there.

        Raises:
            BadInput: for data that cannot be used.
        """

    @abstractmethod
    def model(self, **shape: Any) -> nn.Module:
        """A new model, with a `title`, and a `loss` as `elman.training.trainable.Task` has it."""

    @abstractmethod
    def codec(self, run: Run) -> Any:
        """What a run has kept to turn data to numbers and back.

        Raises:
            BadInput: if it is damaged, or does not fit the model.
        """

    @abstractmethod
    def conclude(self, run: Run, model: nn.Module, material: PreparedData, best: float, console: Console) -> Scores:
        """Score the trained model beside its baselines, keep those in the run, and draw.

        Args:
            run: of the training; its weights are those of the best validation.
            model: with weights of the last step.
            material: what it was trained on.
            best: the lowest validation loss.
            console: to print on.
        """

    def beside(self, run: Run, material: PreparedData, scores: Scores) -> dict[str, float]:
        """The loss of each baseline on what is validated on, to be drawn beside that of the model.

        Args:
            run: after `conclude`.
            material: what the model was trained on.
            scores: what `conclude` has given; here these are of what is validated on.
        """
        _, *baselines = scores.items()
        return {name: row[self.loss] for name, row in baselines if self.loss in row}

    @abstractmethod
    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        """The scores on other data, beside those of the baselines."""

    def has_baselines(self, run: Run) -> bool:
        """Whether a run has baselines to be scored beside the model; of an interrupted run, it says how to go on."""
        if run.config.get("ended"):
            return True
        found = (run.path / "baseline.safetensors").exists()
        more = "" if found else "; there are no baselines yet"
        note(
            f"{run.path}: this training was interrupted, and the model is the best so far{more}; to go on: "
            f"{run.resume_command}"
        )
        return found

    @abstractmethod
    def recorded(self, loaded: Loaded, data: Any, steps: int, sequences: int) -> tuple[Recording, str]:
        """A backward pass through the model, and what went through it in words.

        Args:
            loaded: the model.
            data: other than that of the training; None for that.
            steps: how many at most.
            sequences: side by side, how many at most.

        Raises:
            BadInput: for data that cannot be used, or is gone.
        """

    @abstractmethod
    def samples(self, loaded: Loaded, console: Console) -> tuple[Sample, ...] | Missing:
        """What the model writes, predicts, draws, for the report."""

    def source(self, run: Run) -> Any:
        """The files that a run was trained on; None for the data set that is at hand anywhere.

        Raises:
            BadInput: if it was trained on what was no file.
        """
        found = run.config["data"].get("files")
        if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
            raise BadInput(f"{run.path}: expected data in files, got a run that was trained in Python; name the files")
        return [Path(path) for path in found] or None

    def of(self, run: Run) -> nn.Module:
        """The model that a run's config.json describes, with new weights.

        Raises:
            BadInput: if it describes none, or is of another task.
        """
        shape, file = run.config["model"], run.path / "config.json"
        if run.config["task"] != self.name:
            raise BadInput(
                f"{run.path}: expected a run of `elman train {self.name}`, got one of {run.config['task']!r}"
            )
        if not isinstance(shape.get("cell"), str) or shape["cell"] not in cells.REGISTRY:
            raise BadInput(f"{file}: expected a cell of {', '.join(cells.REGISTRY)}; got {shape.get('cell')!r}")
        with restoring(file, f"the shape of {self.what}"):
            return self.model(**shape)

    def options_of(self, run: Run) -> Any:
        """What the training was asked for.

        Raises:
            BadInput: if config.json has something else there.
        """
        with restoring(run.path / "config.json", f"the options of `elman train {self.name}`"):
            return made(self.options, run.config["options"])

    def training_of(self, run: Run) -> TrainingOptions:
        """How long and how fast it was to be.

        Raises:
            BadInput: as there.
        """
        with restoring(run.path / "config.json", "the options of a training"):
            return made(TrainingOptions, run.config["training"])

    def load(self, run: Run) -> Loaded:
        """The trained model of a run.

        Raises:
            BadInput: if anything in it is missing, damaged or does not belong together.
        """
        with torch.device("meta"):
            model = self.of(run)
        options = self.options_of(run)
        run.load_model(model)
        return Loaded(run, model.eval(), options, self.codec(run))

    def generate(
        self, loaded: Loaded, prompt: Any, length: int | None, out: Path | None, to: TextIO, **how: Any
    ) -> Any:
        """Write something new.

        Args:
            loaded: the model.
            prompt: to go on from; None: from nothing.
            length: how many steps; None: as many as are usual.
            out: the file to write; None: where it is usual.
            to: for people: where it is shown, or said where it is.
            how: temperature, top_k, top_p and seed.

        Returns:
            What was written: a text, or the path of a file.

        Raises:
            BadInput: where a task writes nothing; for a prompt, or a file to write, that cannot be used.
        """
        raise BadInput(f"{loaded.run.path}: generate: a run of {self.name} is used with elman predict")

    def inputs(self, loaded: Loaded, given: Any) -> list[Any]:
        """What predictions are made of.

        Args:
            loaded: the model.
            given: texts, files as paths, or what else Python has; None where nothing was named.
        """
        if given is not None:
            parts = (self.inputs_in(loaded, one) if isinstance(one, Path) else [one] for one in given)
            return [one for part in parts for one in part]
        if sys.stdin.isatty():
            note("reading lines of standard input, to its end (Ctrl-D)")
        return [line for line in input_lines(loaded.input_encoding) if line.strip()]

    def inputs_in(self, loaded: Loaded, path: Path) -> Iterable[Any]:
        """The inputs that a file holds: the file itself, or, where `texts` is set, the texts in it.

        Raises:
            BadInput: for a file that cannot be read.
        """
        return [path]

    def predictions(self, loaded: Loaded, inputs: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """What the model makes of inputs, a row for each.

        Raises:
            BadInput: where a task has nothing to predict.
        """
        raise BadInput(f"{loaded.run.path}: predict: a run of {self.name} is used with elman generate")

    def batch(self, loaded: Loaded, inputs: Any) -> Any:
        """Inputs as the model's own methods take them, without targets.

        Raises:
            BadInput: where a task has none.
        """
        raise BadInput(f"{loaded.run.path}: batch: expected a task of examples, got {self.name}")


def weights(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters())
