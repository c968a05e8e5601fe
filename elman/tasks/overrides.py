"""Options that a trained model can override: how data are read, and how texts are decoded.

Imports nothing heavy.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

from elman.errors import BadInput
from elman.io.schema import Size, validated
from elman.options import declared, flag, under
from elman.tasks.registry import TASKS, options_of

if TYPE_CHECKING:
    from elman.tasks.task import Loaded

NAMES = (
    "text", "label", "path", "words", "column", "time", "time_format", "timezone", "target", "series", "covariates",
    "future_covariates", "static_covariates",
    "decimal", "encoding", "quote", "skip_bad",
)  # fmt: skip
DECODING_NAMES = ("beam", "ngram_weight")  # fields of the codec too
_SIZE: Any = Size
TOP_K_HELP = "Number of labels to predict for each input, the most probable first, with their probabilities."
PANEL = "Data options (default: those of the training)"


def reading(loaded: "Loaded", overrides: dict[str, Any]) -> "Loaded":
    """Return a loaded model with overridden options; None keeps an option.

    Raises:
        BadInput: for an option that the task does not have.
        TypeError: for an option that cannot be overridden.
        ValueError: for a value that an option cannot have.
    """
    named = {name: value for name, value in overrides.items() if value is not None}
    for name in named:
        if name not in (*NAMES, *DECODING_NAMES):
            raise TypeError(f"{name}: expected one of {', '.join((*NAMES, *DECODING_NAMES))}")
        if not hasattr(loaded.options, name):
            raise BadInput(f"{flag(name)}: not an option of the task of {loaded.run.path}")
    if not named:
        return loaded
    decoding = {name: named[name] for name in DECODING_NAMES if name in named}
    codec = replace(loaded.codec, **decoding) if decoding else loaded.codec
    values = validated(type(loaded.options), named)
    options = loaded.options.model_copy(update={name: getattr(values, name) for name in named})
    return replace(loaded, options=options, codec=codec, input_encoding=named.get("encoding"))


def with_top_k(loaded: "Loaded", top_k: int | None) -> "Loaded":
    """Return a loaded model that predicts several labels for each input; None keeps it.

    Raises:
        BadInput: for a model without labels.
        ValueError: for a number below 1.
    """
    if top_k is None:
        return loaded
    try:
        validated(_SIZE, top_k)
    except ValueError as error:
        raise ValueError(f"top_k: {error}") from None
    if not hasattr(loaded.codec, "to_top_rows") or not loaded.codec.labels:
        raise BadInput(f"--top-k: expected a model that predicts labels, got the run {loaded.run.path}")
    return replace(loaded, top_k=top_k)


def reading_names(options: Iterable[str]) -> list[str]:
    """Return the names of a task's options that can be overridden."""
    return [name for name in (*NAMES, *DECODING_NAMES) if name in options]


def readings(names: Iterable[str] = (*NAMES, *DECODING_NAMES)) -> Iterator[inspect.Parameter]:
    """Yield these options as parameters of a command, with None as their default."""
    parameters = {option.name: option for task in reversed(TASKS) for option in declared(options_of(task).OPTIONS)}
    for name in names:
        kind, option = get_args(parameters[name].annotation)
        parameter = parameters[name].replace(default=None, annotation=Annotated[kind | None, option])
        yield under(PANEL, parameter, show_default=False)
