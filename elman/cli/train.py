"""`elman train TASK`. Imports nothing heavy: `--help` has to answer at once."""

import inspect
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from elman import options as shared
from elman.cli import config as configuration
from elman.errors import BadInput
from elman.io.format import shell_path
from elman.io.terminal import detail, note, show
from elman.options import declared, under
from elman.tasks.overrides import NAMES as READING
from elman.training.options import LIMIT, TrainingOptions

if TYPE_CHECKING:
    from elman.io.run_folder import Run

BOXES: dict[str, tuple[str, ...]] = {  # of the help, and what is in them
    "Data": (*READING, "validation", "test", "group"),
    "Task": (),
    "Network": ("cell", "hidden", "layers", "embed", "dropout", "bptt"),
    "Training": ("batch",),
}
UNTIL = f"""
Without --epochs or --minutes it trains until validation stops improving (--patience), for {LIMIT:g} minutes at most.
"""


def train(task: str) -> Callable[..., int]:
    """The command `elman train` of a task."""
    from elman.tasks.registry import options_of

    module = options_of(task)

    def command(called: typer.Context, **given: Any) -> int:
        began = time.monotonic()
        named = {name for name in given if called.get_parameter_source(name).name != "DEFAULT"}  # type: ignore[union-attr]
        return _train(task, module, given, named, began)

    kind = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("called", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
            inspect.Parameter("data", kind, annotation=module.DATA, default=None),
            *(under(box, p) for box in BOXES for p in declared(module.OPTIONS) if _box(p.name) == box),
            *(_of_training(p, module) for p in declared(TrainingOptions)),
            under("Training", inspect.Parameter("out", kind, annotation=shared.Out, default=None)),
            under("Training", inspect.Parameter("resume", kind, annotation=shared.Resume, default=None)),
            under("Training", inspect.Parameter("config", kind, annotation=shared.Config, default=None)),
            under("Training", inspect.Parameter("print_config", kind, annotation=shared.PrintConfig, default=False)),
        ],
        return_annotation=int,
    )
    text = module.HELP + UNTIL
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return command


def _of_training(option: inspect.Parameter, module: Any) -> inspect.Parameter:
    """With the default that it has in this task."""
    from elman.tasks.registry import patience_of

    default = module.TRAINING.get(option.name, option.default)
    shown = {
        "lr": f"{default}; of rmsprop and sgd, their own" if default else "by optimizer",
        "schedule": f"{default} with --epochs or --minutes, else plateau",
        "patience": f"{default} with --epochs or --minutes, else {patience_of(module)}",
    }
    if option.name not in shown:
        return under("Training", option)
    return under("Training", option.replace(default=default), show_default=shown[option.name])


def _box(option: str) -> str:
    """Of the help."""
    return next((box for box, options in BOXES.items() if option in options), "Task")


def _train(task: str, module: Any, given: dict[str, Any], named: set[str], began: float) -> int:
    from elman.report import facts, tables
    from elman.tasks.registry import get_task
    from elman.training.callbacks import Interrupted

    try:
        if given["resume"] is not None:
            run = _resume(task, given, named, began)
        else:
            plan = _planned(task, module, given, named)
            config = configuration.text(task, *plan)
            if given["print_config"]:
                print(config, end="")
                return 0
            detail(config)
            run = _start(task, *plan, began)
    except Interrupted as error:
        return 128 + error.signal
    tables.scores(run.config["scores"], tables.console())
    show(f"run: {run.path}")
    note(f"curves: {run.path / 'curves.png'}")
    note(get_task(task).next_step.format(run=shell_path(run.path)))
    if not_converged := facts.not_converged(run):
        note(not_converged)
    return 0


class _Plan(NamedTuple):
    """A training as configuration file and command line describe it."""

    data: list[Path] | None
    options: Any
    training: TrainingOptions
    out: Path | None


def _planned(task: str, module: Any, given: dict[str, Any], named: set[str]) -> _Plan:
    """The options of the command line, and for those not named there the ones of --config."""
    from elman.tasks.registry import training_of

    if given["config"] is not None:
        config = configuration.read(given["config"], task, module, has_data=bool(given["data"]))
        given = given | {name: value for name, value in config.items() if name not in named}
        named = named | config.keys()
    options = module.OPTIONS(**{field.name: given[field.name] for field in fields(module.OPTIONS)})
    training = {field.name: given[field.name] for field in fields(TrainingOptions) if field.name in named}
    return _Plan(given["data"] or None, options, TrainingOptions(**training_of(module, training)), given["out"])


def _start(
    task: str, data: list[Path] | None, options: Any, training: TrainingOptions, out: Path | None, began: float
) -> "Run":
    from elman.report import tables
    from elman.tasks.registry import get_task
    from elman.tasks.run import start

    return start(get_task(task), data, options, training, out, began, tables.progress_console())


def _resume(task: str, given: dict[str, Any], named: set[str], began: float) -> "Run":
    from elman.report import tables
    from elman.tasks.registry import get_task
    from elman.tasks.run import resume

    bounds = ("epochs", "minutes", "patience")
    if fixed := named - {"resume", "data", *bounds}:
        option = f"--{sorted(fixed)[0].strip('_').replace('_', '-')}"
        raise BadInput(f"{option}: cannot be changed with --resume; only --epochs, --minutes and --patience can")
    longer = {name: given[name] if name in named else None for name in bounds}
    return resume(
        get_task(task), given["resume"], given["data"] or None, **longer, began=began, console=tables.progress_console()
    )
