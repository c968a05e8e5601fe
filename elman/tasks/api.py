"""Train and use models of the tasks in Python."""

import io
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from elman.errors import BadInput, Failure
from elman.extras import needs

with needs("tasks", "elman.tasks"):
    from rich.console import Console
    from sklearn.exceptions import ConvergenceWarning

    from elman.data.examples import files_in
    from elman.data.validation import as_files
    from elman.io.files import check_new_folder
    from elman.io.run_folder import LOCK, Run, open_run
    from elman.io.schema import validated
    from elman.options import Accelerator, checked
    from elman.report import facts, tables
    from elman.report.shown import Scores
    from elman.tasks.backtest import Backtest
    from elman.tasks.backtest_options import BacktestOptions
    from elman.tasks.classification import ClassificationCodec
    from elman.tasks.export_run import FORMATS_OF_RUNS, Exported, export_run
    from elman.tasks.hub import pull, push
    from elman.tasks.launch import start
    from elman.tasks.overrides import reading as reading_as
    from elman.tasks.overrides import with_top_k
    from elman.tasks.registry import get_task, options_of, options_of_base, task_of_run, training_of
    from elman.tasks.sampling_options import PathOptions, SamplingOptions
    from elman.tasks.supervised import SupervisedTask
    from elman.tasks.task import Input, Loaded
    from elman.training.devices import find_device
    from elman.training.lightning_arguments import LightningArguments
    from elman.training.options import TrainingOptions

ARGUMENTS = ("out", "trainer", "callbacks", "logger")  # arguments of `fit` that are not options
_OPTIONAL_ACCELERATOR: Any = Accelerator | None
NOT_SAVED = ("checkpoints", "tensorboard", "export-*")  # what only resuming, monitoring and other programs need


class Trained:
    """A trained model, with the folder of its run. `fit` and `load` return it.

    Args:
        run: an open run folder, as from `elman.tasks.load`.

    Attributes:
        run: the run folder: `run.path`, and `run.config`, the content of config.json.

    Raises:
        BadInput: if a part of the run is missing, damaged or inconsistent.

    >>> import elman, numpy as np, tempfile
    >>> x = np.random.default_rng(0).random((40, 4, 4), np.float32) / 16
    >>> x[::2, :, 1] = x[1::2, 1] = 1                     # vertical bars, and horizontal bars
    >>> y, folder = ["upright", "lying"] * 20, tempfile.mkdtemp()
    >>> bars = elman.tasks.image.fit((x, y), f"{folder}/run", epochs=30, batch=4)
    >>> bars.predict(x[:1])[0]["label"]
    'upright'
    >>> bars.classes_.tolist()
    ['lying', 'upright']
    >>> bars.predict_proba(x[:2]).argmax(1)
    array([1, 0])
    >>> bars.score((x, y))                                # accuracy
    1.0
    >>> bars.scores[bars.model.title]["accuracy"]         # on the test part
    1.0
    >>> bars.save(f"{folder}/copy")
    >>> elman.tasks.load(f"{folder}/copy").score((x, y))
    1.0
    """

    def __init__(self, run: Run) -> None:
        self.run, self._task = run, task_of_run(run)
        self._loaded = self._task.load(run)

    @property
    def model(self) -> nn.Module:
        """The network, an `nn.Module` in evaluation mode."""
        model: nn.Module = self._loaded.model
        return model

    @property
    def codec(self) -> Any:
        """The fitted codec, which encodes data for the model and decodes its outputs."""
        return self._loaded.codec

    @property
    def scores(self) -> Scores:
        """Metrics by name, of the model first, then of each baseline, on the test part of the training's data.

        The keys are titles, such as "GRU 64" and "logistic regression"; `scores[trained.model.title]` are the metrics
        of the model.

        `scores.margins` has half the width of the 95 % confidence interval of each metric, likewise, and
        `scores.counted` what they are of: "180 images".

        Empty if the training was interrupted.
        """
        return facts.scores(self.run)

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels in the order of the columns of `predict_proba`, (K,), for `image`, `classify`, `tag` and
        `series` with labels.

        Raises:
            AttributeError: for a task without classes.
        """
        labels = getattr(self.codec, "labels", None)
        if not labels:  # a model of series may predict numbers
            raise AttributeError(f"classes_: expected a task with classes, got {self._task.name}")
        return np.array(labels)

    def predict(
        self,
        inputs: Any = None,
        top_k: int | None = None,
        samples: int | None = None,
        seed: int | None = None,
        **reading: Any,
    ) -> list[dict[str, Any]]:
        """Predict from inputs.

        Args:
            inputs: several inputs of the kind that the task takes, or one text or file. Paths, and strings that all
                name files, are files. None: as `elman predict` without inputs.
            top_k: for tasks with labels: predict as many labels for each input, or for each word, as lists `labels` and
                `probabilities`, the most probable first.
            samples: for `forecast`, the number of sampled paths of each series, in place of quantiles. At each step
                they are distributed as the forecast; from step to step they go on as its errors did in the validation.
            seed: the random seed of `samples`; None: a random one.
            reading: options for reading data that differ from those of the training: `text="review"`.

        Returns:
            Rows by column name, as `elman predict` prints them: one for each input, or one for each word of a sentence
            and each step of a forecast.

        Raises:
            BadInput: for an input that cannot be used.
            TypeError: for an unknown option.
            ValueError: for a number of samples or a `top_k` below 1, or a seed below 0.
        """
        paths = checked(PathOptions, "predict", {"samples": samples, "seed": seed})
        with in_python():
            loaded = with_top_k(reading_as(self._loaded, reading), top_k)
            if paths.samples:
                loaded = self._task.sampling(loaded, paths.samples, paths.seed)
            return list(chain.from_iterable(self._task.predict(loaded, self._inputs(loaded, inputs))))

    def predict_proba(self, inputs: Any, **reading: Any) -> Any:
        """Predict the probabilities of all classes.

        Args:
            inputs: as for `predict`.
            reading: as for `predict`.

        Returns:
            For `image`, `classify` and `series`, an array (N, K) in float64: a row for each input, and a column for
            each label in `classes_`. For `tag`, a list with an array (words, K) for each sentence.

        Raises:
            AttributeError: for a task without classes.
            BadInput: for an input that cannot be used.
            TypeError: for an unknown option.
        """
        count = len(self.classes_)
        assert isinstance(self._task, SupervisedTask)
        with in_python():
            loaded = reading_as(self._loaded, reading)
            batches = self._task.predict_examples(loaded, self._inputs(loaded, inputs))
            rows = [self.codec.probabilities(prediction) for batch in batches for _, _, prediction in batch]
        return np.array(rows).reshape(-1, count) if isinstance(self.codec, ClassificationCodec) else rows

    def score(self, data: Any, **reading: Any) -> float:
        """Score the model on other data by one number, the `score` of the task. Higher is better.

        As in scikit-learn, errors and losses are negated:

        | task | score |
        |---|---|
        | `image`, `classify`, `tag` | accuracy: of images, texts, words; with several labels for each text, micro F1 |
        | `series` | accuracy; of numbers, negative mean absolute error |
        | `text` | negative cross-entropy, in nats per token |
        | `music` | negative cross-entropy, in nats per step |
        | `forecast` | negative MASE |
        | `translate` | BLEU |
        | `caption` | share of texts that equal their targets |
        | `transcribe` | negative word error rate |

        Args:
            data: as for `fit`.
            reading: as for `predict`.

        Returns:
            The score.

        Raises:
            BadInput: for data that cannot be used.
            TypeError: for an unknown option.
        """
        metrics = next(iter(self.evaluate(data, **reading).values()))
        score = self._task.score_of(self.run)
        value = metrics[score.removeprefix("-")]
        return -value if score.startswith("-") else value

    def evaluate(self, data: Any, **reading: Any) -> Scores:
        """Score the model and its baselines on other data.

        Args:
            data: as for `fit`.
            reading: as for `predict`.

        Returns:
            Metrics by name, of the model first, then of each baseline; by title as in `scores`.

        Raises:
            BadInput: for data that cannot be used.
            TypeError: for an unknown option.
        """
        with in_python():
            return self._task.evaluate(reading_as(self._loaded, reading), files_in(data), _console())

    def backtest(
        self,
        data: Any = None,
        *,
        windows: int | None = None,
        stride: int | None = None,
        horizon: int | None = None,
        refit: bool = False,
        baselines: str | Sequence[str] | None = None,
        **reading: Any,
    ) -> Backtest:
        """Forecast from several cutoffs near the end of data, each from what is before it alone, and score that.

        For `forecast`. Darts calls this `historical_forecasts`, Nixtla `cross_validation`.

        Args:
            data: as for `fit`; None: the files of the training.
            windows: number of cutoffs, counted from the end of the data. None: all in the last 20 % of the time; with
                `refit`, 3.
            stride: steps from one cutoff to the next; None: the horizon.
            horizon: number of steps to forecast, at most that of the training; None: that.
            refit: whether to retrain at every cutoff, on the data before it, with the options of the run. The model
                itself does not change.
            baselines: models of the package statsforecast to fit at every cutoff: "AutoETS", "Theta", "MSTL",
                "SeasonalNaive"; "all".
            reading: as for `predict`.

        Returns:
            The forecasts and their scores, an `elman.tasks.backtest.Backtest`: `scores`, `forecasts`, `save(folder)`.

        Raises:
            BadInput: for data that cannot be used; for another task.
            Failure: if a training diverges.
            MissingPackage: with `baselines`, without statsforecast.
            TypeError: for an unknown option.
            ValueError: for a value that an option cannot have.
        """
        values = {"windows": windows, "stride": stride, "horizon": horizon, "refit": refit, "baselines": baselines}
        how = checked(BacktestOptions, "backtest", values)
        with in_python():
            return self._task.backtest(reading_as(self._loaded, reading), files_in(data), how, _console())

    def generate(
        self, prompt: Any = None, length: int | None = None, out: str | Path | None = None, **sampling: Any
    ) -> Any:
        """Generate a continuation of a prompt, for `text` and `music`.

        Args:
            prompt: the beginning of the output; None: start from nothing.
            length: tokens, frames or events to generate; None: the default of the task.
            out: the file to write.
            sampling: `temperature`, `top_k`, `top_p` and `seed`, as for `elman generate`.

        Returns:
            The text, or for `music` the path of the MIDI file.

        Raises:
            BadInput: if the task cannot generate; for an unusable prompt.
            TypeError: for an unknown option of sampling.
            ValueError: for a value that such an option cannot have.
        """
        options = checked(SamplingOptions, "generate", sampling)
        path = None if out is None else Path(out)
        with in_python():
            return self._task.generate(self._loaded, prompt, length, path, io.StringIO(), **options.model_dump())

    def batch(self, inputs: Any) -> Any:
        """Encode inputs as tensors for `model`, without targets.

        Args:
            inputs: several inputs, as for `predict`.

        Returns:
            Tensors, as `model` takes them.
        """
        with in_python():
            return self._task.batch(self._loaded, inputs)

    def save(self, path: str | Path) -> None:
        """Copy the run folder, without checkpoints and logs, to use the model elsewhere.

        `elman.tasks.load` and the commands `predict`, `generate`, `evaluate`, `info` and `report` take the copy. It has
        no checkpoints, so its training cannot be resumed.

        Links that lead out of the run folder are refused, so that a run from somebody else cannot make you copy, and
        push to the Hub, another file of yours.

        Args:
            path: a new or empty folder.

        Raises:
            BadInput: if `path` exists and is not an empty folder; if the run has a link to a file elsewhere.
        """
        target = Path(path)
        check_new_folder(target, "save ")
        ignored = shutil.ignore_patterns(LOCK, ".elman-*.tmp", *NOT_SAVED)
        _check_links(self.run.path)

        def leave_out(folder: str, names: list[str]) -> set[str]:
            paths = {name: Path(folder, name) for name in names}
            other = {name for name, path in paths.items() if not (path.is_dir() or path.is_file())}
            return other | set(ignored(folder, names))

        shutil.copytree(self.run.path, target, ignore=leave_out, dirs_exist_ok=True)

    def export(self, format: str = "onnx", out: str | Path | None = None) -> Exported:
        """Export the model to use it without elman: its parts, checked in their own runtime, and what they need.

        The folder has a file for each part, its tokenizer, and export.json: labels, sizes, the names and shapes of
        inputs and outputs. docs/export.md describes it. Needs `pip install 'elman[export]'` for ONNX.

        Args:
            format: "onnx"; "torch", programs of torch.export; or "c" for models that are layers alone.
            out: a new or empty folder; None: export-FORMAT in the run folder.

        Returns:
            The folder, and the largest differences from the model, by the name of the part.

        Raises:
            BadInput: for a task or a part that the format cannot hold; if `out` exists and is not an empty folder.
            Failure: if the numbers of a written part differ from those of the model; then nothing is left.
            MissingPackage: without the packages of the format.
            ValueError: for an unknown format.
        """
        if format not in FORMATS_OF_RUNS:
            raise ValueError(f"export: format: expected one of {', '.join(FORMATS_OF_RUNS)}; got {format!r}")
        with in_python():
            return export_run(self._task, self._loaded, format, None if out is None else Path(out))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        license: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload a run of elman",
    ) -> str:
        """Push the model to the Hugging Face Hub, with a model card. Needs `pip install 'elman[hub]'`.

        The repository gets the files that `save` copies, without folder names, the split and reports; and a README.md
        with the data, scores of model and baselines, usage and configuration.

        Args:
            repo_id: "user/name"; the repository is created if there is none. Files of an earlier run are replaced.
            private: whether a new repository is private; None: the default of the account.
            license: the Hub's identifier of the model's license: "apache-2.0".
            revision: the branch; None: "main".
            token: the access token of the Hub; None: that of `hf auth login`.
            commit_message: the commit message.

        Returns:
            The address of the repository.

        Raises:
            MissingPackage: without huggingface_hub.
        """
        with TemporaryDirectory() as folder:
            self.save(folder)
            title = str(self.model.title)
            return push(Path(folder), repo_id, title, private, token, revision, commit_message, license)

    @classmethod
    def from_hub(cls, repo_id: str, *, revision: str | None = None, token: str | None = None) -> "Trained":
        """Load a model from the Hugging Face Hub. Needs `pip install 'elman[hub]'`.

        No code from the repository is run: weights are safetensors, the other files are JSON and CSV, and are checked
        as in any run folder.

        Args:
            repo_id: "user/name", or a folder on this machine.
            revision: a branch, tag or commit.
            token: the access token of the Hub; None: that of `hf auth login`.

        Returns:
            The trained model.

        Raises:
            BadInput: if the repository is not a run, or damaged.
            MissingPackage: without huggingface_hub.
        """
        return cls(open_run(pull(repo_id, revision, token)))

    def _inputs(self, loaded: Loaded, inputs: Any) -> Iterable[Iterable[Input]]:
        values = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
        return self._task.parse_inputs(loaded, as_files(values))

    def __repr__(self) -> str:
        return f"Trained({str(self.run.path)!r}, {self.scores})"


def fit(
    task: str,
    data: Any,
    out: str | Path | None,
    keywords: dict[str, Any],
    trainer: Any = None,
    callbacks: Any = None,
    logger: Any = None,
) -> Trained:
    """Train a model for a task. Show progress on a terminal.

    Args:
        task: a name in `elman.tasks.TASKS`.
        data: files, or the task's Python objects.
        out: the run folder; None: the next free one in runs/.
        keywords: options by name; `validation` and `test` may be any data that the task takes.
        trainer: arguments of Lightning's Trainer.
        callbacks: Lightning callbacks.
        logger: Lightning loggers.

    Raises:
        BadInput: for data that cannot be used.
        TypeError: for an unknown option.
        ValueError: for a value that an option cannot have.
    """
    began = time.monotonic()
    declared, name = options_of(task), f"elman.tasks.{task}.fit"
    training_names = set(TrainingOptions.model_fields)
    given = {key: value for key, value in keywords.items() if key in training_names and value is not None}
    with in_python():
        training = training_of(declared, given)
    task_options = {key: value for key, value in keywords.items() if key not in training_names}
    with in_python():
        task_options = options_of_base(task, training.get("init_from")) | task_options
    options = checked(declared.OPTIONS, name, task_options, (*TrainingOptions.model_fields, *ARGUMENTS))
    lightning = LightningArguments.checked(name, trainer, callbacks, logger)
    if not isinstance(out, str | os.PathLike | None):
        raise TypeError(
            f"{name}: out: expected a path, got {type(out).__name__}; pass all data as one tuple, (inputs, targets)"
        )
    folder = None if out is None else Path(out)
    arguments = options, checked(TrainingOptions, name, training), folder, began, _console, lightning
    with in_python():
        run = start(get_task(task), files_in(data), *arguments)
    if not_converged := facts.not_converged(run):
        warnings.warn(not_converged, ConvergenceWarning, stacklevel=3)
    return Trained(open_run(run.path))


def load(run: Any, task: str | None = None, accelerator: str | None = None) -> Trained:
    """Load a trained model.

    Args:
        run: a run folder, a `Run` or a `Trained`.
        task: the expected task; None: any task.
        accelerator: moves the model to "cpu", "gpu" or "mps", or where "auto" trains. None: a loaded model is on the
            CPU, and a `Trained` stays where it is.

    Raises:
        BadInput: for anything else; without such a device.
        ValueError: for an unknown accelerator.
    """
    try:
        chosen: str | None = validated(_OPTIONAL_ACCELERATOR, accelerator)
    except ValueError as error:
        raise ValueError(f"load: accelerator: {error}") from None
    with in_python():
        device = find_device(chosen) if chosen else None
    trained = run if isinstance(run, Trained) else Trained(open_run(Path(run)))
    name = trained.run.config["task"]
    if task not in (None, name):
        raise BadInput(f"{trained.run.path}: expected a run of {task}, got one of {name}")
    if device:
        trained.model.to(device)
    return trained


def _check_links(run: Path) -> None:
    """Check that no link among the files of a run that `save` copies leads out of its folder.

    Raises:
        BadInput: if one does.
    """
    roots = [run.resolve()]
    if roots[0].parent.name == "snapshots":  # the Hub's cache: files are links to ../../blobs
        roots.append(roots[0].parents[1] / "blobs")
    for path in run.rglob("*"):
        if any(fnmatch(path.relative_to(run).parts[0], pattern) for pattern in (LOCK, *NOT_SAVED)):
            continue
        if path.is_symlink() and not any(path.resolve().is_relative_to(root) for root in roots):
            raise BadInput(f"save: {path}: expected a file of the run, got a link that leads out of its folder")


@contextmanager
def in_python() -> Iterator[None]:
    """Rename options in errors to their names in Python, except those of shell commands."""
    try:
        yield
    except (BadInput, Failure) as error:
        raise type(error)(with_python_names(str(error))) from None


def with_python_names(message: str) -> str:
    """Rename options in a message to their names in Python, except those of shell commands.

    >>> with_python_names("--skip-bad: see elman train text --resume")
    'skip_bad: see elman train text --resume'
    """
    return re.sub(
        r"elman (?:train|tune) \S+ --.*|--([a-z][a-z-]*)",
        lambda match: match[1].replace("-", "_") if match[1] else match[0],
        message,
    )


def _console() -> Console:
    """Return a console on standard error if it is a terminal, else a quiet one."""
    return tables.console(stderr=True, quiet=not sys.stderr.isatty())
