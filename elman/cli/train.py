"""The command `elman train TASK`. Imports nothing heavy, so that `--help` is fast."""

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from elman import options as shared
from elman.cli import config as configuration
from elman.errors import BadInput
from elman.io.format import shell_path
from elman.io.terminal import detail, note, show
from elman.options import declared, flag, under
from elman.tasks.overrides import NAMES as READING
from elman.training.options import LIMIT, TrainingOptions

if TYPE_CHECKING:
    from elman.io.run_folder import Run

STREAMED_COLUMNS = ("text_column", "source_column", "target_column")
BOXES: dict[str, tuple[str, ...]] = {  # sections of the help, and their options
    "Data": (*READING, "stream", "shuffle_rows", *STREAMED_COLUMNS, "validation", "test", "group"),
    "Task": (),
    "Network": ("cell", "hidden", "layers", "embed", "vectors", "dropout", "bptt"),
    "Training": ("batch",),
}
# For tasks that cannot stream, so that they say so.
NO_STREAM = inspect.Parameter(
    "stream",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--stream", hidden=True)],
)
UNTIL = f"""
Without --epochs and --minutes, training stops when validation stops improving (--patience), or after {LIMIT:g} minutes.
"""


def train(task: str) -> Callable[..., int]:
    """Create the function of the command `elman train TASK`.

    Args:
        task: name of the task.

    Returns:
        A function whose signature has the options of the task and of the training, and which returns the exit code.
    """
    from elman.tasks.registry import options_of

    module = options_of(task)

    def command(typer_context: typer.Context, **arguments: Any) -> int:
        began = time.monotonic()
        return _train(task, module, arguments, explicit_names(typer_context, arguments), began)

    kind = inspect.Parameter.KEYWORD_ONLY
    set_parameters(
        command,
        [
            *parameters(module),
            *(() if _can_stream(module) else (NO_STREAM,)),
            under("Training", inspect.Parameter("out", kind, annotation=shared.Out, default=None)),
            under("Training", inspect.Parameter("resume", kind, annotation=shared.Resume, default=None)),
            under("Training", inspect.Parameter("config", kind, annotation=shared.Config, default=None)),
            under("Training", inspect.Parameter("print_config", kind, annotation=shared.PrintConfig, default=False)),
            under("Training", inspect.Parameter("print_schema", kind, annotation=shared.PrintSchema, default=False)),
        ],
        module.HELP + UNTIL,
    )
    return command


def explicit_names(context: typer.Context, arguments: dict[str, Any]) -> set[str]:
    """Return the names of the arguments that are on the command line."""
    return {name for name in arguments if context.get_parameter_source(name).name != "DEFAULT"}  # type: ignore[union-attr]


def parameters(module: Any) -> list[inspect.Parameter]:
    """Return the data, the options of a task, and those of a training, as parameters of a command.

    Args:
        module: the module of the task's options.
    """
    return [
        inspect.Parameter("data", inspect.Parameter.KEYWORD_ONLY, annotation=module.DATA, default=None),
        *(under(box, p) for box in BOXES for p in declared(module.OPTIONS) if _box(p.name) == box),
        *(_of_training(p, module) for p in declared(TrainingOptions)),
    ]


def set_parameters(command: Callable[..., int], options: list[inspect.Parameter], text: str) -> None:
    """Give a command, which takes its context and `**arguments`, these parameters and a help text."""
    context = inspect.Parameter("typer_context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    command.__signature__ = inspect.Signature([context, *options], return_annotation=int)  # type: ignore[attr-defined]
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _can_stream(module: Any) -> bool:
    return "stream" in module.OPTIONS.model_fields


def _check_stream(task: str, module: Any, wanted: bool) -> None:
    """Check that a task can stream, if that is wanted.

    Raises:
        BadInput: if it cannot.
    """
    from elman.tasks.registry import TASKS, options_of

    if wanted and not _can_stream(module):
        names = ", ".join(name for name in TASKS if _can_stream(options_of(name)))
        raise BadInput(
            f"--stream: expected a task that can stream ({names}), got {task}, which reads its data as a whole"
        )


def _of_training(option: inspect.Parameter, module: Any) -> inspect.Parameter:
    """Return a training option with the default that it has in this task."""
    from elman.tasks.registry import default_texts

    texts = default_texts(module)
    if option.name not in texts:
        return under("Training", option)
    default = module.TRAINING.get(option.name, option.default)
    return under("Training", option.replace(default=default), show_default=texts[option.name])


def _box(option: str) -> str:
    """Return the section of the help that lists an option."""
    return next((box for box, options in BOXES.items() if option in options), "Task")


def _train(task: str, module: Any, arguments: dict[str, Any], explicit: set[str], began: float) -> int:
    from elman.report import facts, tables
    from elman.tasks.launch import prints_results
    from elman.tasks.registry import get_task
    from elman.training.callbacks import Interrupted

    _check_stream(task, module, arguments["stream"])
    if arguments["print_schema"]:
        print(configuration.schema(task, module), end="")
        return 0
    try:
        if arguments["resume"] is not None:
            run = _resume(task, arguments, explicit, began)
        else:
            plan = _plan_of(task, module, arguments, explicit)
            config = configuration.text(task, *plan)
            if arguments["print_config"]:
                print(config, end="")
                return 0
            detail(config)
            run = _start(task, *plan, began)
    except Interrupted as error:
        return 128 + error.signal
    if not prints_results(run):
        return 0
    tables.scores(facts.scores(run), tables.console())
    show(f"run: {run.path}")
    note(f"curves: {run.path / 'curves.png'}")
    note(get_task(task).next_step.format(run=shell_path(run.path)))
    if not_converged := facts.not_converged(run):
        note(not_converged)
    return 0


class _Plan(NamedTuple):
    """A training as described by the configuration file and the command line."""

    data: list[Path] | None
    options: Any
    training: TrainingOptions
    out: Path | None


def _plan_of(task: str, module: Any, arguments: dict[str, Any], explicit: set[str]) -> _Plan:
    """Merge the command line with --config; options named on the command line take precedence."""
    from elman.tasks.registry import training_of

    arguments, explicit = with_config(task, module, arguments, explicit)
    options = module.OPTIONS(**{name: arguments[name] for name in module.OPTIONS.model_fields})
    training = {name: arguments[name] for name in TrainingOptions.model_fields if name in explicit}
    return _Plan(arguments["data"] or None, options, TrainingOptions(**training_of(module, training)), arguments["out"])


def with_config(
    task: str, module: Any, arguments: dict[str, Any], explicit: set[str]
) -> tuple[dict[str, Any], set[str]]:
    """Return the arguments of a command with those of --config and --init-from, and the names of all that are set.

    Args:
        task: the name of the task.
        module: the module of the task's options.
        arguments: the arguments by name.
        explicit: the names of those that are on the command line.
    """
    from elman.tasks.registry import options_of_base

    if arguments["config"] is not None:
        config = configuration.read(arguments["config"], task, module, has_data=bool(arguments["data"]))
        arguments = arguments | {name: value for name, value in config.items() if name not in explicit}
        explicit = explicit | config.keys()
    base = options_of_base(task, arguments["init_from"])
    arguments = arguments | {name: value for name, value in base.items() if name not in explicit}
    return arguments, explicit | base.keys()


def _start(
    task: str, data: list[Path] | None, options: Any, training: TrainingOptions, out: Path | None, began: float
) -> "Run":
    from elman.report import tables
    from elman.tasks.launch import start
    from elman.tasks.registry import get_task

    return start(get_task(task), data, options, training, out, began, tables.progress_console)


def _resume(task: str, arguments: dict[str, Any], explicit: set[str], began: float) -> "Run":
    from elman.report import tables
    from elman.tasks.launch import resume
    from elman.tasks.registry import get_task
    from elman.tasks.run import CHANGEABLE

    if not_changeable := explicit - {"resume", "data", *CHANGEABLE}:
        option, names = flag(sorted(not_changeable)[0]), list(map(flag, CHANGEABLE))
        allowed = f"{', '.join(names[:-1])} and {names[-1]}"
        raise BadInput(f"{option}: cannot be changed with --resume; only {allowed} can")
    changes = {name: arguments[name] for name in CHANGEABLE if name in explicit}
    run, data = arguments["resume"], arguments["data"] or None
    return resume(get_task(task), run, data, changes, began, tables.progress_console)
