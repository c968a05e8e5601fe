"""The protocol of a task: what training, evaluation, prediction, the report and the command line ask of it."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import torch
from rich.console import Console
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from elman import cells
from elman.data.examples import can_be_reread, files_in, is_files
from elman.errors import BadInput
from elman.flow import Recording
from elman.io.files import STDIN, input_lines, is_stream
from elman.io.run_folder import Run
from elman.io.schema import restoring, validated
from elman.io.terminal import note
from elman.options import PARTS, Options
from elman.report.shown import Missing, Sample, Scores
from elman.tasks.backtest import Backtest
from elman.tasks.backtest_options import BacktestOptions
from elman.tasks.export_part import Exportable
from elman.training.options import TrainingOptions
from elman.training.trainable import Batches

MAX_MODEL_PARTS = 20_000  # modules and parameters; more take long to make


@dataclass(frozen=True)
class PreparedData:
    """Data that are read, split, encoded and batched for training.

    Attributes:
        name: the name of the data, for messages.
        facts: entries of config.json: the files, a "sha256" of the examples, counts.
        model_args: the arguments of the model, for config.json.
        summary: a line to print.
        options: the options of the task, with unset ones decided.
        train: batches of an epoch of the training part.
        validation: batches of the validation part.
        files: files for the run folder, by name: parts that were fitted on the training part.
        details: objects for the task itself.
        initialize: sets weights of a new model that do not begin at random; None: all do.
    """

    name: str
    facts: dict[str, Any]
    model_args: dict[str, Any]
    summary: str
    options: Any
    train: Batches
    validation: Batches
    files: dict[str, str]
    details: Any = None
    initialize: Callable[[Any], None] | None = None


@dataclass(frozen=True)
class Loaded:
    """A trained model, ready for use.

    Attributes:
        run: the run.
        model: the model, in evaluation mode.
        options: the options of the task.
        codec: the fitted codec.
        input_encoding: the encoding of standard input; None: that of the terminal.
        top_k: number of labels to predict for each input, with their probabilities; None: as the task does.
    """

    run: Run
    model: Any
    options: Any
    codec: Any
    input_encoding: str | None = None
    top_k: int | None = None


class Input(NamedTuple):
    """An input of `predict`.

    where: its position, for messages: "input 3", "standard input: line 7"; "" if messages about `value` name it.
    value: a text, a path, a Python object, or an example that is read already.
    """

    where: str
    value: Any


class Generation(ABC):
    """An output that a model generates step by step, and can continue: a text, a piece of music.

    It holds the state of the model and of the random number generator, so that the output of two calls of `steps` is
    that of one call of their total length.
    """

    @abstractmethod
    def read(self, prompt: Any, max_steps: int | None = None) -> None:
        """Continue with a prompt, which the next call of `steps` feeds to the model.

        Args:
            prompt: a prompt of the type `json_prompt` of the task.
            max_steps: the largest number of time steps; None: any.

        Raises:
            BadInput: for a prompt that cannot be used; then nothing has changed.
        """

    @abstractmethod
    def steps(self, length: int, **sampling: Any) -> Iterator[dict[str, Any]]:
        """Generate.

        Args:
            length: the largest number of steps.
            sampling: temperature, top_k and top_p.

        Yields:
            The output of each step as a JSON object, up to the end of the text or piece.
        """

    @classmethod
    def advance(
        cls, generations: "Sequence[Any]", samplings: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any] | Exception | None]:
        """Generate the next step of several outputs of one model; by default one after the other.

        Args:
            generations: the outputs, of this class.
            samplings: temperature, top_k and top_p of each.

        Returns:
            For each output what the next step of `steps` yields, None if it has ended, or the error.
        """
        results = list[dict[str, Any] | Exception | None]()
        for generation, sampling in zip(generations, samplings, strict=True):
            try:
                results.append(next(generation.steps(1, **sampling), None))
            except Exception as error:
                results.append(error)
        return results

    @abstractmethod
    def output(self, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the output of steps together as a JSON object."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Base class of tasks.

    Attributes:
        name: the name on the command line.
        description: a noun for the model: "a language model".
        options: a subclass of `elman.options.Options`; its fields are the options of the command line.
        model: makes a model, with a `title` and a `loss` as in `elman.training.trainable`.
        unit: the unit that the loss is averaged over: "tokens".
        loss: the name of the loss among the scores: "nats_per_token".
        score: the metric that `Trained.score` returns. A minus sign negates an error or a loss: "-mase".
        next_step: the command to run after the training; {run} stands for the run folder.
        option_units: units of the task's numbers in config.json.
        accepts_texts: whether inputs and prompts are texts, which may also be in a file.
        json_inputs: the type of the inputs of `predict` in a request of `elman serve`, for pydantic: all that
            `parse_inputs` takes from strangers, so neither paths nor Python objects. None: a list of texts if
            `accepts_texts`, else only uploaded files.
        json_prompt: the type of the prompt of `start_generation`, likewise.
        export: returns the parts of a loaded model that can be exported; None: none.
    """

    name: str
    description: str
    options: type[Options]
    model: Callable[..., nn.Module]
    unit: str
    loss: str
    score: str
    next_step: str
    option_units: Mapping[str, str] = field(default_factory=dict)
    accepts_texts: bool = False
    json_inputs: Any = None
    json_prompt: Any = str
    export: "Callable[[Loaded], Exportable] | None" = None

    @property
    def plot_captions(self) -> dict[str, str]:
        """A sentence for each plot that `score_run` saves in the run folder, by file name."""
        return {}

    def loss_of(self, run: Run) -> str:
        """Return the name of the loss of a run among its scores; by default `loss`."""
        return self.loss

    def score_of(self, run: Run) -> str:
        """Return the metric that `Trained.score` returns for a run; by default `score`."""
        return self.score

    def options_to_dict(self, options: Options) -> dict[str, Any]:
        """Return the options for config.json."""
        in_python = {name: None for name, data in parts_in(options).items() if not can_be_reread(data)}
        return options.model_copy(update=in_python).model_dump()

    @abstractmethod
    def prepare(
        self,
        data: Any,
        options: Any,
        seed: int,
        run: Run | None = None,
        tell: Callable[[str], Any] | None = None,
        base: Run | None = None,
    ) -> PreparedData:
        """Set unset options, then read, split, encode and batch data.

        Args:
            data: files, or Python objects.
            options: the options of the task.
            seed: the random seed of the split.
            run: a run to resume, whose codec and split are used.
            tell: called with a line on the decisions and their reasons; None: nothing is printed.
            base: a run whose weights the training starts from, and whose codec is used.

        Raises:
            BadInput: for data that cannot be used.
        """

    @abstractmethod
    def load_codec(self, run: Run) -> Any:
        """Load the fitted codec of a run.

        Raises:
            BadInput: if it is damaged or does not fit the model.
        """

    @abstractmethod
    def score_run(self, run: Run, model: nn.Module, data: PreparedData, console: Console) -> Scores:
        """Score the trained model and its baselines; save the baselines and the plots in the run folder.

        Args:
            run: the run.
            model: the model with the weights of the best validation, which are those of the run.
            data: the training data.
            console: the console to print on.
        """

    def baseline_losses(self, run: Run, data: PreparedData, scores: Scores) -> dict[str, float]:
        """Return validation losses of the baselines, for the plot of the loss curves.

        Args:
            run: the run, after `score_run`.
            data: the training data.
            scores: from `score_run`; by default computed on the validation part.
        """
        _, *baselines = scores.items()
        loss = self.loss_of(run)
        return {name: row[loss] for name, row in baselines if loss in row}

    @abstractmethod
    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        """Score a model and its baselines on other data."""

    def has_baselines(self, run: Run) -> bool:
        """Return whether a run has fitted baselines; for an interrupted run, print how to resume it."""
        if run.config.get("ended"):
            return True
        exist = (run.path / "baseline.safetensors").exists()
        suffix = "" if exist else "; there are no baselines yet"
        if run.config.get("diverged"):
            note(f"{run.path}: this training diverged, and its model is the best one before that{suffix}")
            return exist
        note(
            f"{run.path}: this training was interrupted, and its model is the best one so far{suffix}; to resume: "
            f"{run.resume_command}"
        )
        return exist

    @abstractmethod
    def record_flow(self, loaded: Loaded, data: Any, steps: int, sequences: int) -> tuple[Recording, str]:
        """Record the gradient flow of a backward pass, and describe its batch.

        Args:
            loaded: the model.
            data: other data; None: the training data.
            steps: the largest number of steps.
            sequences: the largest batch size.

        Raises:
            BadInput: for unusable or missing data.
        """

    @abstractmethod
    def samples(self, loaded: Loaded, console: Console) -> tuple[Sample, ...] | Missing:
        """Sample outputs of the model for the report."""

    def training_data(self, run: Run) -> Any:
        """Return the files that a run was trained on; None: the built-in data set.

        Raises:
            BadInput: if it was trained on Python objects, or if what it names are no files.
        """
        files = run.config["data"].get("files")
        if not isinstance(files, list) or not all(isinstance(path, str) for path in files):
            raise BadInput(
                f"{run.path}: expected data in files, got a run that was trained in Python or on "
                "standard input; pass the files as DATA"
            )
        parts = [run.config["options"].get(name) for name in PARTS]
        for path in chain(files, *(part if isinstance(part, list) else [part] for part in parts)):
            if isinstance(path, str) and is_stream(Path(path)):  # reading it might wait for ever
                got = f"{path!r:.60}, a pipe or a device"
                raise BadInput(f"{run.path}: expected data in files, got {got}; pass the files as DATA")
        return [Path(path) for path in files] or None

    def new_model(self, run: Run) -> nn.Module:
        """Make the model that the config.json of a run describes, with new weights.

        Raises:
            BadInput: if it describes none or is of another task.
        """
        args, file = run.config["model"], run.path / "config.json"
        if run.config["task"] != self.name:
            raise BadInput(
                f"{run.path}: expected a run of `elman train {self.name}`, got one of {run.config['task']!r:.60}"
            )
        if not isinstance(args.get("cell"), str) or args["cell"] not in cells.REGISTRY:
            raise BadInput(f"{file}: expected a cell of {', '.join(cells.REGISTRY)}; got {args.get('cell')!r:.60}")
        with restoring(file, f"the model arguments of {self.description}"):
            return self.build(args)

    def build(self, args: dict[str, Any]) -> nn.Module:
        """Make the model of these arguments, with new weights.

        Raises:
            RuntimeError: if it has more than `MAX_MODEL_PARTS` modules and parameters, which would take long to make.
        """
        count = 0

        def check(*registered: Any) -> None:
            nonlocal count
            count += 1
            if count > MAX_MODEL_PARTS:
                raise RuntimeError(f"more than {MAX_MODEL_PARTS:,} modules and parameters")

        hooks = [register_module_module_registration_hook(check), register_module_parameter_registration_hook(check)]
        try:
            return self.model(**args)
        finally:
            for hook in hooks:
                hook.remove()

    def options_of(self, run: Run) -> Any:
        """Load the task options of a run.

        Raises:
            BadInput: if config.json has no valid ones.
        """
        with restoring(run.path / "config.json", f"the options of `elman train {self.name}`"):
            return validated(self.options, run.config["options"])

    def training_of(self, run: Run) -> TrainingOptions:
        """Load the training options of a run.

        Raises:
            BadInput: if config.json has no valid ones.
        """
        with restoring(run.path / "config.json", "the options of a training"):
            return validated(TrainingOptions, run.config["training"])

    def load(self, run: Run, device: torch.device | str = "cpu") -> Loaded:
        """Load the trained model of a run.

        Args:
            run: the run.
            device: the device of the model.

        Raises:
            BadInput: if a part of the run is missing, damaged or inconsistent.
        """
        with torch.device("meta"):
            model = self.new_model(run)
        options = self.options_of(run)
        run.load_model(model)
        return Loaded(run, model.eval().to(device), options, self.load_codec(run))

    def generate(
        self, loaded: Loaded, prompt: Any, length: int | None, out: Path | None, to: TextIO, **sampling: Any
    ) -> Any:
        """Generate a continuation of a prompt.

        Args:
            loaded: the model.
            prompt: the beginning of the output; None: start from nothing.
            length: steps to generate; None: the task's default.
            out: the file to write; None: the task's default.
            to: where the text, or the path of the file, is printed.
            sampling: temperature, top_k, top_p and seed.

        Returns:
            The text, or the path of the file.

        Raises:
            BadInput: if the task cannot generate; for an unusable prompt or file.
        """
        raise BadInput(f"{loaded.run.path}: generate: a run of {self.name} is used with elman predict")

    def start_generation(self, loaded: Loaded, seed: int | None) -> Generation:
        """Start an output that is generated step by step.

        Args:
            loaded: the model.
            seed: the random seed; None: a random one.

        Raises:
            BadInput: if the task cannot generate.
        """
        raise BadInput(f"{loaded.run.path}: generate: a run of {self.name} is used with elman predict")

    @property
    def can_generate(self) -> bool:
        """True if the task generates step by step."""
        return type(self).start_generation is not Task.start_generation

    @property
    def can_predict(self) -> bool:
        """True if the task predicts."""
        return type(self).predict is not Task.predict

    def parse_inputs(self, loaded: Loaded, values: Any) -> Iterable[Iterable[Input]]:
        """Collect the inputs to predict from, in groups: each has the inputs that are available at one time.

        Args:
            loaded: the model.
            values: texts, paths or Python objects, which are one group; None: lines of standard input, as they arrive.

        Raises:
            BadInput: for a file that cannot be read; when an iterator reaches the line, for standard input that cannot
                be decoded.
        """
        if values is None:
            return lines_of_stdin(loaded)
        return [
            [
                Input(f"input {i}", item)
                for i, value in enumerate(values, 1)
                for item in (self.read_inputs(loaded, value) if isinstance(value, Path) else [value])
            ]
        ]

    def read_inputs(self, loaded: Loaded, path: Path) -> Iterable[Any]:
        """Read the inputs in a file; by default the file itself is the input.

        Raises:
            BadInput: for a file that cannot be read.
        """
        return [path]

    def predict(self, loaded: Loaded, groups: Iterable[Iterable[Input]]) -> Iterator[list[dict[str, Any]]]:
        """Predict from groups of inputs, as from `parse_inputs`.

        Yields:
            The rows of a batch of inputs, one or more for each input. A batch is predicted before the next group is
            read.

        Raises:
            BadInput: if the task cannot predict; for an unusable input, after the rows of all inputs before it.
        """
        raise BadInput(f"{loaded.run.path}: predict: a run of {self.name} is used with elman generate")

    def predict_requests(
        self, loaded: Loaded, requests: Sequence[Sequence[Input]], max_steps: int | None = None
    ) -> list[list[dict[str, Any]] | BadInput]:
        """Predict from the inputs of several requests, which do not know of each other.

        Args:
            loaded: the model.
            requests: the inputs of each request.
            max_steps: the largest number of time steps of the inputs of a request; None: any.

        Returns:
            For each request its rows, as if it were the only one, or the error of its first unusable input.
        """
        results = list[list[dict[str, Any]] | BadInput]()
        for inputs in requests:
            try:
                results.append(list(chain.from_iterable(self.predict(loaded, [inputs]))))
            except BadInput as error:
                results.append(error)
        return results

    def sampling(self, loaded: Loaded, samples: int, seed: int | None) -> Loaded:
        """Return a model that predicts sampled paths in place of quantiles.

        Args:
            loaded: the model.
            samples: number of paths.
            seed: the random seed; None: a random one.

        Raises:
            BadInput: if the task does not forecast; for a run without what sampling needs.
        """
        raise BadInput(f"{loaded.run.path}: --samples: expected a run of forecast, got one of {self.name}")

    def backtest(self, loaded: Loaded, data: Any, how: BacktestOptions, console: Console) -> Backtest:
        """Forecast from several cutoffs near the end of data, each from what is before it alone, and score that.

        Args:
            loaded: the model.
            data: other data; None: those of the training.
            how: the options.
            console: the console for progress.

        Raises:
            BadInput: if the task does not forecast; for unusable data.
            Failure: if a training diverges.
        """
        raise BadInput(f"{loaded.run.path}: backtest: expected a run of forecast, got one of {self.name}")

    def batch(self, loaded: Loaded, inputs: Any) -> Any:
        """Encode inputs as one batch for the model, without targets.

        Raises:
            BadInput: if the task has no examples.
        """
        raise BadInput(f"{loaded.run.path}: batch: expected a task of examples, got {self.name}")


def check_steps(name: str, steps: int, max_steps: int | None) -> None:
    """Check the number of time steps of an input.

    Raises:
        BadInput: for more than `max_steps`, unless that is None.
    """
    if max_steps is not None and steps > max_steps:
        raise BadInput(f"{name}: expected at most {max_steps:,} time steps, got {steps:,}")


def lines_of_stdin(loaded: Loaded) -> Iterator[list[Input]]:
    """Yield the lines of standard input that are not blank, in groups that arrive together."""
    if sys.stdin.isatty():
        note("reading lines from standard input; press Ctrl-D to finish")
    start = 1
    for lines in input_lines(loaded.input_encoding):
        numbered = enumerate(lines, start)
        if inputs := [Input(f"standard input: line {i}", line) for i, line in numbered if line.strip()]:
            yield inputs
        start += len(lines)


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def parts_in(options: Any) -> dict[str, Any]:
    """Return the data for validation and test that options name, by part."""
    data = {name: files_in(getattr(options, name, None)) for name in PARTS}
    return {name: files for name, files in data.items() if files is not None}


def with_resolved_parts(options: Any) -> Any:
    """Return options with absolute paths of the files for validation and test, found from any working directory."""
    parts = {name: files for name, files in parts_in(options).items() if is_files(files)}
    return options.model_copy(update={name: resolved(paths) for name, paths in parts.items()})


def resolved(paths: Sequence[Path]) -> list[str]:
    """Return absolute paths; standard input remains as it is."""
    return [str(path if path == STDIN else path.resolve()) for path in paths]


def files_to_store(data: Any, options: Any) -> list[str] | None:
    """Return the files of data for config.json, none for the built-in data set; None if they cannot be read again.

    Args:
        data: files, or Python objects; None: the built-in data set.
        options: the options of the task, which may name data for validation and test.
    """
    if not all(map(can_be_reread, parts_in(options).values())):
        return None
    return resolved(data) if can_be_reread(data) else [] if data is None else None
