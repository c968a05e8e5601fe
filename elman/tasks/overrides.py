"""The options of the tasks that say how data are read, and texts written: what is asked of a trained model takes them
too. Light.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

from elman.errors import BadInput
from elman.options import declared, under
from elman.tasks.registry import TASKS, options_of

if TYPE_CHECKING:
    from elman.tasks.task import Loaded

NAMES = (
    "text", "label", "path", "words", "column", "time", "time_format", "timezone", "target", "series", "covariates",
    "decimal", "encoding", "quote", "skip_bad",
)  # fmt: skip
WRITING = ("beam", "ngram_weight")  # of a codec too, which writes with them
PANEL = "As in the training, where nothing is said"


def reading(loaded: "Loaded", given: dict[str, Any]) -> "Loaded":
    """A loaded model whose task reads data and writes texts as these options say, those of them that are not None.

    Raises:
        BadInput: for an option that its task does not have.
        TypeError: for one that says nothing of how data are read or texts written.
    """
    named = {name: value for name, value in given.items() if value is not None}
    for name in named:
        if name not in (*NAMES, *WRITING):
            raise TypeError(f"{name}: expected one of {', '.join((*NAMES, *WRITING))}")
        if not hasattr(loaded.options, name):
            option = f"--{name.replace('_', '-')}"
            raise BadInput(f"{option}: expected none for {loaded.run.path}, whose task does not have it")
    if not named:
        return loaded
    written = {name: named[name] for name in WRITING if name in named}
    codec = replace(loaded.codec, **written) if written else loaded.codec
    options = replace(loaded.options, **named)
    return replace(loaded, options=options, codec=codec, input_encoding=named.get("encoding"))


def reading_names(options: Iterable[str]) -> list[str]:
    """Of the names of a task's options, those that can be overridden."""
    return [name for name in (*NAMES, *WRITING) if name in options]


def readings(names: Iterable[str] = (*NAMES, *WRITING)) -> Iterator[inspect.Parameter]:
    """These options as the parameters of a command; None where they are not given."""
    found = {one.name: one for task in reversed(TASKS) for one in declared(options_of(task).OPTIONS)}
    for name in names:
        kind, option = get_args(found[name].annotation)
        parameter = found[name].replace(default=None, annotation=Annotated[kind | None, option])
        yield under(PANEL, parameter, show_default=False)
