"""The tasks: one folder each, one line in `TASKS`.

A folder has `options`, which imports nothing heavy and declares what the command line offers: `OPTIONS`, a dataclass;
`DATA`, its argument; `TRAINING`, what trainings of this task begin with in the place of the common defaults; `MINUTES`
or `EPOCHS`, how long they take where nothing is said; `HELP`. And it has `task`, whose `KIND` is all the rest.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from elman.errors import BadInput

if TYPE_CHECKING:
    from elman.runs import Run
    from elman.tasks._kind import Kind
    from elman.tasks._python import Trained

TASKS = ("text", "image", "classify", "tag", "forecast", "translate", "caption", "transcribe", "music")


def options_of(task: str) -> ModuleType:
    """What a task declares for the command line; it imports nothing heavy."""
    return import_module(f"elman.tasks.{task}.options")


def budget_of(module: ModuleType) -> dict[str, float]:
    """How long the trainings of a task take where nothing is said."""
    return {"epochs": module.EPOCHS} if hasattr(module, "EPOCHS") else {"minutes": module.MINUTES}


def kind_of(task: str) -> "Kind":
    """A task."""
    found: Kind = import_module(f"elman.tasks.{task}.task").KIND
    return found


def load(run: "str | Path") -> "Trained":
    """The trained model of a run, to be used: what `elman.tasks.image.fit` and its like have given.

    Args:
        run: its folder.

    Raises:
        BadInput: if there is none; if anything in it is missing, damaged or does not belong together.
    """
    from elman.runs import open_run
    from elman.tasks._python import Trained

    return Trained(open_run(Path(run)))


def kind_of_run(run: "Run") -> "Kind":
    """The task that a run is of.

    Raises:
        BadInput: for one that there is not.
    """
    task = run.config["task"]
    if task not in TASKS:
        raise BadInput(f"{run.path / 'config.json'}: expected 'task' to be one of {', '.join(TASKS)}; got {task!r}")
    return kind_of(task)
