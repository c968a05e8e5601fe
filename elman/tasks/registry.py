"""The tasks by name."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from elman.errors import BadInput
from elman.extras import needs

if TYPE_CHECKING:
    from elman.io.run_folder import Run
    from elman.tasks.task import Task

TASKS = ("text", "image", "classify", "tag", "forecast", "translate", "caption", "transcribe", "music")

ADAM = ("adamw", "adam")


def options_of(task: str) -> ModuleType:
    """What a task declares for the command line; it imports nothing heavy."""
    return import_module(f"elman.tasks.{task}.options")


def patience_of(module: ModuleType) -> int:
    """Validations without a new best that end a training whose length is not given.

    Args:
        module: of the task's options.
    """
    from elman.training.options import PATIENCE

    patience: int = getattr(module, "PATIENCE", PATIENCE)
    return patience


def training_of(module: ModuleType, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a training: what is given, and what the task begins with in the place of the common defaults.

    Where neither epochs nor minutes are given, training goes on until validation stops improving.

    Args:
        module: of the task's options.
        given: options that were named.

    Raises:
        BadInput: for a schedule that needs epochs or minutes, without them.
    """
    from elman.training.options import LIMIT

    own = dict(module.TRAINING)
    if given.get("optimizer", "adamw") not in ADAM:
        own.pop("lr", None)  # it was measured with adamw
    if given.get("epochs") is None and given.get("minutes") is None:
        if given.get("schedule") == "cosine":
            raise BadInput("--schedule cosine: expected --epochs or --minutes too, over which it falls; got neither")
        own |= {"minutes": LIMIT, "schedule": "plateau", "patience": patience_of(module)}
    return own | given


def get_task(task: str) -> "Task":
    """A task."""
    with needs("tasks", f"the task {task}"):
        found: Task = import_module(f"elman.tasks.{task}.task").TASK
    return found


def task_of_run(run: "Run") -> "Task":
    """The task that a run is of.

    Raises:
        BadInput: for one that there is not.
    """
    task = run.config["task"]
    if task not in TASKS:
        raise BadInput(f"{run.path / 'config.json'}: expected 'task' to be one of {', '.join(TASKS)}; got {task!r}")
    return get_task(task)
