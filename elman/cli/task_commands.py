"""The commands of the tasks, made of what each declares. Imports nothing heavy: `--help` has to answer at once."""

import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elman import options as shared
from elman.errors import BadInput
from elman.io.format import shell_path
from elman.io.terminal import note, show
from elman.options import choice, declared, taking, under, whole
from elman.tasks.overrides import NAMES as READING
from elman.tasks.overrides import reading, readings
from elman.tasks.sampling_options import SamplingOptions
from elman.training.options import LIMIT, TrainingOptions

if TYPE_CHECKING:
    from elman.io.run_folder import Run
    from elman.tasks.task import Task

Data = Annotated[
    list[Path] | None,
    typer.Argument(help="Other data; -: standard input.", metavar="DATA", show_default=False),
]
BOXES: dict[str, tuple[str, ...]] = {  # of the help, and what is in them
    "Data": (*READING, "validation", "test", "group"),
    "Task": (),
    "Network": ("cell", "hidden", "layers", "embed", "dropout", "bptt"),
    "Training": ("batch",),
}
UNTIL = f"""
Without --epochs or --minutes it trains until validation stops improving (--patience), for {LIMIT:g} minutes at most.
"""
FORMATS = ("table", "csv", "tsv", "json", "jsonl", "parquet")


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
    from elman.tasks.registry import get_task, training_of
    from elman.tasks.run import resume as resume_training
    from elman.tasks.run import start as start_training
    from elman.training.callbacks import Interrupted

    data, out, path = given["data"] or None, given["out"], given["resume"]
    training = {field.name: given[field.name] for field in fields(TrainingOptions) if field.name in named}
    console = tables.progress_console()
    try:
        if path is not None:
            fixed = named - {"resume", "data", "epochs", "minutes", "patience"}
            if fixed:
                option = f"--{sorted(fixed)[0].strip('_').replace('_', '-')}"
                raise BadInput(
                    f"{option}: cannot be changed with --resume; only --epochs, --minutes and --patience can"
                )
            bounds = {name: training.get(name) for name in ("epochs", "minutes", "patience")}
            run = resume_training(get_task(task), path, data, **bounds, began=began, console=console)
        else:
            options = module.OPTIONS(**{field.name: given[field.name] for field in fields(module.OPTIONS)})
            run = start_training(
                get_task(task), data, options, TrainingOptions(**training_of(module, training)), out, began, console
            )
    except Interrupted as error:
        return 128 + error.signal
    tables.scores(run.config["scores"], tables.console())
    show(f"run: {run.path}")
    note(f"curves: {run.path / 'curves.png'}")
    note(get_task(task).next_step.format(run=shell_path(run.path)))
    if not_converged := facts.not_converged(run):
        note(not_converged)
    return 0


@taking(readings())
def evaluate(
    run: shared.RunFolder,
    data: Annotated[
        list[Path],
        typer.Argument(help="As for the training; -: standard input.", metavar="DATA", show_default=False),
    ],
    as_json: shared.AsJson = False,
    **how: Any,
) -> None:
    """Score a trained model and its baselines on other data."""
    from elman.report import as_json as report
    from elman.report import tables

    task, opened = _opened(run)
    scores = task.evaluate(reading(task.load(opened), how), data, tables.progress_console())
    if as_json:
        print(report.text({"run": run, "task": task.name, "data": data, "scores": scores}))
    else:
        tables.scores(scores, tables.console())


@taking(readings())
def predict(
    run: shared.RunFolder,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or texts; a file of texts is read as for the training; -: such a file on standard input. "
            "Without inputs: lines of standard input; of forecast, the series of the training.",
            metavar="INPUT",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None, choice("Output format", FORMATS, show_default="table; of a file, as its name ends")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write.", metavar="FILE", show_default="standard output")
    ] = None,
    **how: Any,
) -> None:
    """Predict with a trained model."""
    from elman.data.validation import named
    from elman.io.files import STDOUT
    from elman.report.rows import format_of, write

    out = None if out == STDOUT else out
    how_written = format_of(format, out)
    task, opened = _opened(run)
    loaded = reading(task.load(opened), how)
    read = task.parse_inputs(loaded, named(inputs, task.accepts_texts) if inputs else None)
    write(task.predict(loaded, read), how_written, out)


@taking(declared(SamplingOptions))
def generate(
    run: shared.RunFolder,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Text to continue, or a file of it; for music, a file.",
            metavar="PROMPT",
            show_default="nothing",
        ),
    ] = None,
    length: Annotated[
        int | None,
        whole("Steps to generate: tokens, frames, events.", 1, show_default="500; 64 quarter notes of frames"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write.", metavar="FILE", show_default="standard output; of music, a new file in RUN"
        ),
    ] = None,
    **how: Any,
) -> None:
    """Generate with a trained model, in the style of its training data."""
    from elman.data.validation import is_file
    from elman.io.files import STDOUT, read_text

    task, opened = _opened(run)
    loaded = task.load(opened)
    if task.accepts_texts and prompt is not None and is_file(prompt):
        prompt = read_text(Path(prompt), loaded.options.encoding)
    if task.accepts_texts and out == STDOUT:
        out = None
    task.generate(loaded, prompt, length, out, sys.stdout, **how)


@taking(readings(READING))
def flow(
    run: shared.RunFolder,
    data: Data = None,
    steps: Annotated[int, whole("Time steps of the backward pass.", 2)] = 128,
    sequences: Annotated[int, whole("Batch size.", 1)] = 16,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the plots.", metavar="FOLDER", show_default="RUN/flow")
    ] = None,
    as_json: shared.AsJson = False,
    **how: Any,
) -> None:
    """Gradient-flow diagnostics of a trained model: norms per step, a diagnosis, plots."""
    from elman.report import as_json as json
    from elman.report import flow as report
    from elman.report import tables

    task, opened = _opened(run)
    recording, batch = task.record_flow(reading(task.load(opened), how), data or None, steps, sequences)
    diagnosis = report.diagnose(recording, out or run / "flow", run / "flow.csv")
    if as_json:
        print(json.text(json.flow(opened, batch, *diagnosis)))
    else:
        report.show(diagnosis, tables.console(), out or run / "flow")


def _opened(path: Path) -> "tuple[Task, Run]":
    from elman.io.run_folder import open_run
    from elman.tasks.registry import task_of_run

    run = open_run(path)
    return task_of_run(run), run


COMMANDS = (evaluate, predict, generate, flow)
