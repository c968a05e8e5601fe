"""The command `elman tune TASK`. Imports nothing heavy, so that `--help` is fast."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman import options as shared
from elman.cli.train import explicit_names, parameters, set_parameters, with_config
from elman.io.terminal import note, show
from elman.options import declared, under
from elman.training.options import TrainingOptions
from elman.tune.options import TuneOptions
from elman.tune.space import default_space, description, parse

if TYPE_CHECKING:
    from elman.tune.result import Tuned

HELP = """Search for the options with the lowest validation loss.

Each trial is a training, as of `elman train {task}`, in a folder of its own. Options that you pass are those of every
trial. Repeat the command to go on with a search.
"""
PANEL = "Search"
Out = Annotated[
    Path | None, typer.Option(help="Folder of the search, new or to go on with.", metavar="FOLDER", show_default=False)
]


def tune(task: str) -> Callable[..., int]:
    """Create the function of the command `elman tune TASK`.

    Args:
        task: name of the task.

    Returns:
        A function whose signature has the options of the search, the task and the training, and which returns the exit
        code.
    """
    from elman.tasks.registry import options_of

    module = options_of(task)

    def command(typer_context: typer.Context, **arguments: Any) -> int:
        return _tune(task, module, arguments, explicit_names(typer_context, arguments))

    kind = inspect.Parameter.KEYWORD_ONLY
    data, *options = parameters(module)
    space = " ".join(f"{name}={values}" for name, values in description(default_space(module)).items())
    of_search = [
        under(PANEL, option, **({"show_default": space} if option.name == "space" else {}))
        for option in declared(TuneOptions)
    ]
    out = inspect.Parameter("out", kind, annotation=Out, default=None)
    set_parameters(
        command,
        [
            data,
            *of_search,
            under(PANEL, out, show_default=f"runs/{task}-study"),
            under(PANEL, inspect.Parameter("as_json", kind, annotation=shared.AsJson, default=False)),
            *options,
            under("Training", inspect.Parameter("config", kind, annotation=shared.Config, default=None)),
        ],
        HELP.format(task=task),
    )
    return command


def _tune(task: str, module: Any, arguments: dict[str, Any], explicit: set[str]) -> int:
    from elman.extras import needs
    from elman.report import tables
    from elman.training.callbacks import Interrupted

    with needs("tune", "elman tune"):
        from elman.tune.run import prepare, run

    options = TuneOptions(**{name: arguments[name] for name in TuneOptions.model_fields})
    merged, names = with_config(task, module, arguments, explicit)
    searched = parse(options.space or (), module)
    fields = {*module.OPTIONS.model_fields, *TrainingOptions.model_fields}
    # What is searched overrides --config, as options on the command line do.
    fixed = {name: merged[name] for name in names & fields if name in explicit or name not in searched}
    search = prepare(task, merged["data"] or None, fixed, options, merged["out"])
    try:
        tuned = run(search, tables.progress_console())
    except Interrupted as error:
        return 128 + error.signal
    _show(tuned, as_json=arguments["as_json"])
    return 0


def _show(tuned: "Tuned", as_json: bool) -> None:
    from elman.report import as_json as json
    from elman.report import tables
    from elman.tune.study import PICTURE, TABLE, summary

    best = tuned.trials[tuned.best_trial]
    if as_json:
        values = {"study": tuned.path, "task": tuned.task, "counts": tuned.counts, "trials": tuned.trials}
        print(json.text(values | {"best": {**best, "run": tuned.best_run, "command": tuned.command}}))
        return
    tables.trials(tuned.trials, tables.console())
    show(summary(tuned.counts))
    show(f"best: trial {best['trial']}, validation loss {best['validation_loss']:.4f}, {tuned.best_run}")
    if tuned.command:
        show(f"to repeat it: {tuned.command}")
    note(f"table: {tuned.path / TABLE}")
    note(f"picture: {tuned.path / PICTURE}")
