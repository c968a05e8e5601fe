"""The command `elman export`. Imports nothing heavy, so that `--help` is fast."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import Field

from elman.options import RunFolder, with_parameters

Format = Literal["onnx", "c", "torch"]


@with_parameters()
def export(
    run: RunFolder,
    format: Annotated[Format, Field(description="The format")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder, new or empty.", metavar="FOLDER", show_default="RUN/export-FORMAT"),
    ] = None,
) -> None:
    """Export a trained model to use it without elman: a folder with its parts, checked in their own runtime."""
    from elman.io.run_folder import open_run
    from elman.io.terminal import show
    from elman.tasks.export_run import export_run
    from elman.tasks.registry import task_of_run

    opened = open_run(run)
    task = task_of_run(opened)
    exported = export_run(task, task.load(opened), format, out)
    for name, check in exported.checks.items():
        differences = ", ".join(f"{kind} {value:.1e}" for kind, value in check._asdict().items() if value is not None)
        show(f"{name}: largest difference from the model {check.largest:.1e} ({differences})")
    show(f"export: {exported.path}")
