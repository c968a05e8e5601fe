"""The commands that use a trained model. Imports nothing heavy, so that `--help` is fast."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import Field

from elman import options as shared
from elman.io.terminal import note
from elman.options import Whole, declared, with_parameters
from elman.tasks.backtest_options import BacktestOptions
from elman.tasks.overrides import NAMES as READING
from elman.tasks.overrides import TOP_K_HELP, reading, readings, with_top_k
from elman.tasks.sampling_options import PathOptions, SamplingOptions

if TYPE_CHECKING:
    from elman.io.run_folder import Run
    from elman.tasks.task import Loaded, Task

Data = Annotated[
    list[Path] | None,
    typer.Argument(help="Data instead of that of the run; -: standard input.", metavar="DATA", show_default=False),
]
Format = Literal["table", "csv", "tsv", "json", "jsonl", "parquet"]


@with_parameters(readings())
def evaluate(
    run: shared.RunFolder,
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Data in the format of the training data; -: standard input.", metavar="DATA", show_default=False
        ),
    ],
    accelerator: shared.Accelerator = "auto",
    as_json: shared.AsJson = False,
    **how: Any,
) -> None:
    """Score a trained model and its baselines on other data."""
    from elman.report import as_json as report
    from elman.report import tables

    task, loaded = _loaded(run, accelerator)
    scores = task.evaluate(reading(loaded, how), data, tables.progress_console())
    if as_json:
        details = {"margins": scores.margins, "scored": scores.counted}
        details |= {"by_label": scores.by_label} if scores.by_label else {}
        print(report.text({"run": run, "task": task.name, "data": data, "scores": scores, **details}))
    else:
        tables.scores(scores, tables.console())


@with_parameters([*declared(PathOptions), *readings()])
def predict(
    run: shared.RunFolder,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files or texts. A file of texts has the format of the training data; -: such a file on standard "
            "input. "
            "Without INPUT: lines of standard input; for forecast, the series of the training data.",
            metavar="INPUT",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        Format | None,
        Field(description="Output format"),
        typer.Option(show_default="table; for a file, by its suffix"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output file.", metavar="FILE", show_default="standard output")
    ] = None,
    top_k: Annotated[
        Whole | None, Field(ge=1, description=TOP_K_HELP), typer.Option(show_default="the best alone")
    ] = None,
    accelerator: shared.Accelerator = "auto",
    **how: Any,
) -> None:
    """Predict with a trained model."""
    from elman.data.validation import parse_arguments
    from elman.io.files import STDOUT
    from elman.report.rows import format_of, write

    out = None if out == STDOUT else out
    output_format = format_of(format, out)
    task, loaded = _loaded(run, accelerator)
    samples, seed = how.pop("samples"), how.pop("seed")
    loaded = with_top_k(reading(loaded, how), top_k)
    if samples:
        loaded = task.sampling(loaded, samples, seed)
    inputs_read = task.parse_inputs(loaded, parse_arguments(inputs, task.accepts_texts) if inputs else None)
    write(task.predict(loaded, inputs_read), output_format, out)


@with_parameters([*declared(BacktestOptions), *readings(READING)])
def backtest(
    run: shared.RunFolder,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the forecasts and their plot.", metavar="FOLDER", show_default="RUN/backtest"
        ),
    ] = None,
    accelerator: shared.Accelerator = "auto",
    as_json: shared.AsJson = False,
    **how: Any,
) -> None:
    """Forecast from several cutoffs near the end of data, each from what is before it alone, and score that."""
    from elman.io.files import check_new_folder, check_no_link
    from elman.report import as_json as report
    from elman.report import tables

    options = {name: how.pop(name) for name in BacktestOptions.model_fields}
    folder = out or run / "backtest"
    if out is None:
        check_no_link(folder)
    else:
        check_new_folder(folder, "--out ")
    task, loaded = _loaded(run, accelerator)
    result = task.backtest(reading(loaded, how), data or None, BacktestOptions(**options), tables.progress_console())
    files, scores = result.save(folder, overwrite=out is None), result.scores
    if as_json:
        details = {"margins": scores.margins, "scored": scores.counted, "files": files}
        print(report.text({"run": run, "task": task.name, "data": data, "scores": scores, **details}))
    else:
        tables.scores(scores, tables.console())
        note(f"forecasts: {files[0]}")
        note(f"plot: {files[1]}")


@with_parameters(declared(SamplingOptions))
def generate(
    run: shared.RunFolder,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Text to continue, or a text file; for music, a file of notes.",
            metavar="PROMPT",
            show_default="nothing",
        ),
    ] = None,
    length: Annotated[
        Whole | None,
        Field(ge=1, description="Number of steps to generate: tokens, frames or events."),
        typer.Option(show_default="500; for frames, 64 quarter notes"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Output file.", metavar="FILE", show_default="standard output; for music, a new file in RUN"),
    ] = None,
    accelerator: shared.Accelerator = "auto",
    **how: Any,
) -> None:
    """Generate with a trained model, in the style of its training data."""
    from elman.data.validation import is_file
    from elman.io.files import STDOUT, read_text

    task, loaded = _loaded(run, accelerator)
    if task.accepts_texts and prompt is not None and is_file(prompt):
        prompt = read_text(Path(prompt), loaded.options.encoding)
    if task.accepts_texts and out == STDOUT:
        out = None
    task.generate(loaded, prompt, length, out, sys.stdout, **how)


@with_parameters(readings(READING))
def flow(
    run: shared.RunFolder,
    data: Data = None,
    steps: Annotated[Whole, Field(ge=2, description="Time steps of the backward pass.")] = 128,
    sequences: Annotated[Whole, Field(ge=1, description="Batch size.")] = 16,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the plots.", metavar="FOLDER", show_default="RUN/flow")
    ] = None,
    as_json: shared.AsJson = False,
    **how: Any,
) -> None:
    """Gradient-flow diagnostics of a trained model: norms per step, a diagnosis, plots."""
    from elman.io.files import check_no_link
    from elman.report import as_json as json
    from elman.report import flow as report
    from elman.report import tables

    task, opened = _opened(run)
    if out is None:
        check_no_link(run / "flow")
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


def _loaded(path: Path, accelerator: str) -> "tuple[Task, Loaded]":
    from elman.training.devices import find_device

    device = find_device(accelerator)
    task, run = _opened(path)
    return task, task.load(run, device)


COMMANDS = (evaluate, backtest, predict, generate, flow)
