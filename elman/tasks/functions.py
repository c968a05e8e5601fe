"""`fit`, `evaluate`, `predict`, `generate` and `load` of a task, with signatures from its options.

Imports nothing heavy: `elman --help` imports the options of all tasks, and this module with them.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, Protocol, TypeVar, cast, get_args

from elman.extras import needs

with needs("tasks", "elman.tasks"):
    import typer

    from elman.options import declared
    from elman.tasks.overrides import TOP_K_HELP, reading_names
    from elman.tasks.registry import TASKS, default_texts, options_of
    from elman.tasks.sampling_options import SamplingOptions
    from elman.training.options import LIMIT, TrainingOptions

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger

    from elman.report.shown import Scores
    from elman.tasks.api import Trained

ACCELERATOR = 'moves the model to "cpu", "gpu" or "mps", or where "auto" trains. None: a loaded model is on the CPU.'
TOP_K = Annotated[int | None, typer.Option(help=TOP_K_HELP)]
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


class Fit(Protocol[P]):
    """The type of `fit`, whose arguments include the fields of a dataclass of options."""

    def __call__(
        self,
        data: Any,
        out: "str | Path | None" = None,
        trainer: "Mapping[str, Any] | None" = None,
        callbacks: "Callback | Sequence[Callback] | None" = None,
        logger: "Logger | Sequence[Logger] | bool | None" = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> "Trained":
        """Train a model."""


class TaskFunctions:
    """The functions of one task.

    Args:
        task: the name of the task.
        data: the description of `data` in the docstring of `fit`.
    """

    def __init__(self, task: str, data: str) -> None:
        self._task, self._data = task, data

    def fit(self, options: Callable[P, Any]) -> Fit[P]:
        """Make `fit`; its options are the task's and those of a training."""
        task = self._task

        def fit(
            data: Any,
            out: "str | Path | None" = None,
            trainer: "Mapping[str, Any] | None" = None,
            callbacks: "Callback | Sequence[Callback] | None" = None,
            logger: "Logger | Sequence[Logger] | bool | None" = None,
            **keywords: Any,
        ) -> "Trained":
            from elman.tasks.api import fit

            return fit(task, data, out, keywords, trainer, callbacks, logger)

        module = options_of(task)
        texts = default_texts(module)
        parameters = (p for cls in (module.OPTIONS, TrainingOptions) for p in declared(cls))
        described = [p.replace(default=None) if p.name in texts else p for p in parameters]
        text = f"""
        Train a model, and score it and its baselines.

        Without `epochs` and `minutes`, training stops when validation stops improving, or after {LIMIT:g} minutes.
        Progress is shown only on a terminal.

        Args:
            data: {textwrap.fill(self._data, 100, subsequent_indent=" " * 16)}
            out: the run folder; None: the next free one in runs/.
            trainer: arguments of `lightning.pytorch.Trainer`, `{{"log_every_n_steps": 10}}`. Those that would break
                resuming or metrics.csv are refused. "enable_progress_bar": Lightning's progress bar (True) or none
                (False).
            callbacks: Lightning callbacks. `val_loss` can be monitored.
            logger: Lightning loggers, which get the rows of metrics.csv by step, and at the end the scores of the
                model as test/accuracy and the like, instead of TensorBoard. None, True: TensorBoard, if it is
                installed. False: metrics.csv alone.
        {{options}}

        Returns:
            The trained model, an `elman.tasks.Trained`. Its `scores` are those of the model and of its baselines, by
            title; `scores[trained.model.title]` are those of the model.

        Raises:
            BadInput: for data that cannot be used.
            TypeError: for an unknown option.
            ValueError: for a value that an option cannot have.
        """
        return cast(Fit[P], _described(fit, task, text, described, texts))

    def evaluate(self) -> "Callable[..., Scores]":
        """Make `evaluate`."""
        task = self._task

        def evaluate(run: Any, data: Any, accelerator: str | None = None, **reading: Any) -> "Scores":
            from elman.tasks.api import load

            return load(run, task, accelerator).evaluate(data, **reading)

        text = """
        Score a trained model and its baselines on other data.

        Args:
            run: a run folder, or what `fit` returned.
            data: as for `fit`.
            accelerator: {accelerator}
        {options}

        Returns:
            Metrics by name, for the model and each baseline, by title: that of a `trained` model is
            `trained.model.title`, "GRU 64".
        """
        return _described(evaluate, task, text, self._reading())

    def predict(self, has_labels: bool = False) -> Callable[..., list[dict[str, Any]]]:
        """Make `predict`; that of a task with labels can predict several for each input."""
        task, keyword = self._task, inspect.Parameter.KEYWORD_ONLY
        top_k = [inspect.Parameter("top_k", keyword, default=None, annotation=TOP_K)] if has_labels else []

        def predict(
            run: Any, inputs: Any = None, accelerator: str | None = None, **reading: Any
        ) -> list[dict[str, Any]]:
            from elman.tasks.api import load

            return load(run, task, accelerator).predict(inputs, **reading)

        text = """
        Predict with a trained model.

        Args:
            run: a run folder, or what `fit` returned.
            inputs: several inputs, or one text or file.
            accelerator: {accelerator}
        {options}

        Returns:
            Rows, by column name.
        """
        return _described(predict, task, text, [*top_k, *self._reading()])

    def generate(self) -> Callable[..., Any]:
        """Make `generate`."""
        task = self._task

        def generate(
            run: Any,
            prompt: Any = None,
            length: int | None = None,
            out: Any = None,
            accelerator: str | None = None,
            **sampling: Any,
        ) -> Any:
            from elman.tasks.api import load

            return load(run, task, accelerator).generate(prompt, length, out, **sampling)

        text = """
        Generate a continuation of a prompt.

        Args:
            run: a run folder, or what `fit` returned.
            prompt: the beginning of the output; None: start from nothing.
            length: steps to generate; None: the default of the task.
            out: the file to write.
            accelerator: {accelerator}
        {options}

        Returns:
            The text, or the path of the file.
        """
        return _described(generate, task, text, declared(SamplingOptions))

    def load(self) -> "Callable[..., Trained]":
        """Make `load`."""
        task = self._task

        def load(run: Any, accelerator: str | None = None) -> "Trained":
            from elman.tasks.api import load

            return load(run, task, accelerator)

        text = """
        Load a trained model.

        Args:
            run: a run folder.
            accelerator: {accelerator}

        Returns:
            The trained model, a `elman.tasks.Trained`.

        Raises:
            BadInput: if it is not a run of this task, or damaged.
        """
        return _described(load, task, text, ())

    def _reading(self) -> Iterable[inspect.Parameter]:
        """Return the options for reading data, with None as their default: as in the training."""
        parameters = {p.name: p for p in declared(options_of(self._task).OPTIONS)}
        return [parameters[name].replace(default=None) for name in reading_names(parameters)]


def _described(
    function: F, task: str, text: str, options: Iterable[inspect.Parameter], defaults: Mapping[str, str] | None = None
) -> F:
    """Set the signature and docstring of a function; `defaults` are those that depend on other options, in words."""
    arguments = [
        p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    parameters = [p.replace(annotation=_type(p)) for p in options]
    lines = [f"    {p.name}: {_help(p, (defaults or {}).get(p.name))}" for p in options]
    described: Any = function
    described.__signature__ = inspect.Signature(
        [*arguments, *parameters], return_annotation=inspect.signature(function).return_annotation
    )
    options_text = "\n".join(textwrap.fill(line, 112, subsequent_indent=" " * 8) for line in lines)
    described.__doc__ = textwrap.dedent(text).strip("\n").replace("{options}", options_text)
    described.__doc__ = described.__doc__.replace("{accelerator}", ACCELERATOR)
    described.__module__ = TASKS[task]
    described.__qualname__ = described.__name__
    return function


def _type(parameter: inspect.Parameter) -> Any:
    kind = get_args(parameter.annotation)[0]
    return kind | None if parameter.default is None else kind


def _help(parameter: inspect.Parameter, default: str | None) -> str:
    """Return the help of an option and its default, with the names of other options as in Python."""
    option = get_args(parameter.annotation)[1]
    if default is None and isinstance(option.show_default, str):
        default = option.show_default
    if default is None and parameter.default is not None:
        default = repr(parameter.default)
    text = str(option.help) + ("" if default is None else f" Default: {default}.")
    return re.sub(r"--([a-z][a-z-]*)", lambda option: f"`{option[1].replace('-', '_')}`", text)
