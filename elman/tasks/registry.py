"""The tasks by name: those of elman, and those that other packages declare as entry points (docs/new_task.md)."""

from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from elman.errors import BadInput, MissingPackage
from elman.extras import needs

if TYPE_CHECKING:
    from elman.io.run_folder import Run
    from elman.tasks.task import Task

NAMES = ("text", "image", "classify", "tag", "forecast", "translate", "caption", "transcribe", "music")
GROUP = "elman.tasks"  # of the entry points

ADAM = ("adamw", "adam")


def _packages() -> dict[str, str]:
    """The package of each task.

    Raises:
        ValueError: if an entry point has the name of another task.
    """
    packages = {name: f"elman.tasks.{name}" for name in NAMES}
    for point in entry_points(group=GROUP):
        if packages.setdefault(point.name, point.value) != point.value:
            raise ValueError(
                f"{GROUP}: expected one package for the task {point.name!r}, got {packages[point.name]} and "
                f"{point.value}; uninstall one"
            )
    return packages


TASKS = _packages()


def module_of(task: str, name: str = "") -> ModuleType:
    """The package of a task, or a module of it.

    Raises:
        MissingPackage: if the package is not of elman, and it or what it needs is missing.
    """
    package = TASKS[task]
    try:
        return import_module(f"{package}.{name}" if name else package)
    except ModuleNotFoundError as error:
        if task in NAMES:
            raise
        message = f"elman.tasks: the task {task!r} needs {error.name}; install that, or uninstall the package {package}"
        raise MissingPackage(message) from None


def options_of(task: str) -> ModuleType:
    """What a task declares for the command line; it imports nothing heavy."""
    return module_of(task, "options")


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
        found: Task = module_of(task, "task").TASK
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
