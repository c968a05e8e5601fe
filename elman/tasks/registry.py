"""The tasks by name: those of elman, and entry points of other packages (docs/new_task.md)."""

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from elman.errors import BadInput, MissingPackage
from elman.extras import needs

if TYPE_CHECKING:
    from elman.io.run_folder import Run
    from elman.tasks.task import Task

NAMES = ("text", "image", "classify", "tag", "forecast", "translate", "caption", "transcribe", "music", "series")
GROUP = "elman.tasks"  # of the entry points
ADAM = ("adamw", "adam")


def _packages() -> dict[str, str]:
    """Return the package of each task.

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
    """Import the package of a task, or a module of it.

    Raises:
        MissingPackage: if an external package, or one of its dependencies, is missing.
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
    """Import the options of a task. Imports nothing heavy."""
    return module_of(task, "options")


def patience_of(module: ModuleType) -> int:
    """Return the default patience of a task, for trainings without a given length.

    Args:
        module: the module of the task's options.
    """
    from elman.training.options import PATIENCE

    patience: int = getattr(module, "PATIENCE", PATIENCE)
    return patience


def default_texts(module: ModuleType) -> dict[str, str]:
    """Describe the defaults of training options that depend on other options, by name.

    Args:
        module: the module of the task's options.
    """
    from elman.training.options import OPTIMIZERS, WEIGHT_DECAY, TrainingOptions

    defaults = {
        name: module.TRAINING.get(name, TrainingOptions.model_fields[name].default) for name in ("schedule", "patience")
    }
    rates = OPTIMIZERS | {name: module.TRAINING["lr"] for name in ADAM if "lr" in module.TRAINING}
    texts = {"schedule": (defaults["schedule"], "plateau"), "patience": (defaults["patience"], patience_of(module))}
    decay = module.TRAINING.get("weight_decay", WEIGHT_DECAY["adamw"])
    of_optimizers = {
        "lr": ", ".join(f"{rate:g} for {name}" for name, rate in rates.items()),
        "weight_decay": f"{decay:g} for adamw, else 0",
    }
    return of_optimizers | {
        name: f"{with_length} with --epochs or --minutes, else {without}" if with_length != without else str(without)
        for name, (with_length, without) in texts.items()
    }


def training_of(module: ModuleType, options: dict[str, Any]) -> dict[str, Any]:
    """Return the training options: the given ones, and the task's defaults for the others.

    Without epochs or minutes, training continues until validation stops improving.

    Args:
        module: the module of the task's options.
        options: the given options, by name.

    Raises:
        BadInput: for a schedule that needs epochs or minutes, without them.
    """
    from elman.training.options import LIMIT

    defaults = dict(module.TRAINING)
    optimizer = options.get("optimizer", "adamw")
    if optimizer not in ADAM:
        defaults.pop("lr", None)  # chosen for adamw
    if optimizer != "adamw":
        defaults.pop("weight_decay", None)
    if options.get("epochs") is None and options.get("minutes") is None:
        if options.get("schedule") == "cosine":
            raise BadInput("--schedule cosine: expected --epochs or --minutes, which set its length; got neither")
        defaults |= {"minutes": LIMIT, "schedule": "plateau", "patience": patience_of(module)}
    return defaults | options


def options_of_base(task: str, init_from: str | Path | None) -> dict[str, Any]:
    """Return the options of a task that a training takes over from the run of --init-from, where none are passed.

    Args:
        task: the name of the task.
        init_from: the run folder; None: no options.

    Raises:
        BadInput: if it is not a run of this task.
    """
    from elman.io.run_folder import open_run
    from elman.options import PARTS

    if init_from is None:
        return {}
    run = open_run(Path(init_from))
    if run.config["task"] != task:
        raise BadInput(f"--init-from {init_from}: expected a run of {task}, got one of {run.config['task']!r:.60}")
    return {name: value for name, value in get_task(task).options_of(run) if name not in PARTS}


def get_task(task: str) -> "Task":
    """Import a task."""
    with needs("tasks", f"the task {task}"):
        registered: Task = module_of(task, "task").TASK
    return registered


def task_of_run(run: "Run") -> "Task":
    """Return the task of a run.

    Raises:
        BadInput: if there is no such task.
    """
    task = run.config["task"]
    if task not in TASKS:
        raise BadInput(
            f"{run.path / 'config.json'}: expected 'task' to be one of {', '.join(TASKS)}; got {task!r:.60}; if "
            "another package has this task, install it"
        )
    return get_task(task)
