"""The options of the tasks that say how data are read: what is asked of a trained model takes them too. Light."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_args

from elman.errors import BadInput
from elman.options import declared, under
from elman.tasks import TASKS, options_of

if TYPE_CHECKING:
    from elman.tasks._material import Loaded

NAMES = (
    "text", "label", "path", "words", "column", "time", "time_format", "target", "series", "covariates", "encoding",
    "skip_bad",
)  # fmt: skip
PANEL = "How data are read; as in the training, where nothing is said"


def reading(loaded: "Loaded", given: dict[str, Any]) -> "Loaded":
    """A loaded model whose task reads data as these options say, those of them that are not None.

    Raises:
        BadInput: for an option that its task does not have.
        TypeError: for one that says nothing of how data are read.
    """
    named = {name: value for name, value in given.items() if value is not None}
    for name in named:
        if name not in NAMES:
            raise TypeError(f"{name}: expected one of {', '.join(NAMES)}")
        if not hasattr(loaded.options, name):
            option = f"--{name.replace('_', '-')}"
            raise BadInput(f"{option}: expected none for {loaded.run.path}, whose task does not have it")
    return replace(loaded, options=replace(loaded.options, **named)) if named else loaded


def readings() -> Iterator[inspect.Parameter]:
    """These options as the parameters of a command; None where they are not given."""
    found = {one.name: one for task in reversed(TASKS) for one in declared(options_of(task).OPTIONS)}
    for name in NAMES:
        kind, option = get_args(found[name].annotation)
        parameter = found[name].replace(default=None, annotation=Annotated[kind | None, option])
        yield under(PANEL, parameter, show_default=False)
