"""Gradient-flow diagnostics on the terminal and as plots."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from elman.errors import BadInput
from elman.flow import Recording, plots
from elman.flow.diagnosis import Verdict
from elman.report import columns, tables


class StateRow(NamedTuple):
    """Reach of the gradient of a state.

    Attributes:
        state: name of the state.
        horizon: number of steps back after which less than 1 % of the gradient is left; None if more than `steps`.
        steps: number of steps back that were measured.
        rate: growth factor of the gradient per step back.
        first: norm of the gradient at the first step.
        last: norm of the gradient at the last step.
    """

    state: str
    horizon: int | None
    steps: int
    rate: float
    first: float
    last: float


class Diagnosis(NamedTuple):
    """Diagnosis of a backward pass: the findings, a row per state, and the paths of the plots."""

    verdict: Verdict
    rows: list[StateRow]
    plots: list[Path]


def diagnose(recording: Recording, folder: Path, history: Path) -> Diagnosis:
    """Diagnose a backward pass and plot it.

    Args:
        recording: the recorded backward pass.
        folder: folder for the plots; it is created if it does not exist.
        history: path of the flow.csv of the training, which has the fraction of clipped updates; it may not exist.

    Raises:
        BadInput: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder}: expected a folder, got a file")
    folder.mkdir(parents=True, exist_ok=True)
    progress = tables.progress_console()
    with progress.status("computing gradient-flow diagnostics"):
        verdict = recording.verdict(clipped(history), steps=None)
        rows = list(_rows(recording))
    with progress.status("plotting"):
        return Diagnosis(verdict, rows, _pictures(recording, folder))


def show(diagnosis: Diagnosis, console: Console, folder: Path) -> None:
    """Print a diagnosis and a table of all states."""
    console.print(diagnosis.verdict.with_options())
    console.print(_table(diagnosis.rows))
    console.print(f"plots in {folder}: {', '.join(path.name for path in diagnosis.plots)}")


def clipped(history: Path) -> float | None:
    """Return the fraction of recorded updates whose gradient was clipped; None if none is recorded.

    Args:
        history: path of a flow.csv, which may not exist.

    Raises:
        BadInput: if the file cannot be read.
    """
    rows = columns.read(history, ["clipped"]) if history.exists() else []
    values = [value for value in columns.numbers(history, rows, ["clipped"])["clipped"] if value is not None]
    return sum(values) / len(values) if values else None


def _rows(recording: Recording) -> Iterator[StateRow]:
    for name in recording.calls:
        jacobians = recording.jacobians(name)
        for state, left in jacobians.decay.items():
            norms = recording.over_sequences(state)
            yield StateRow(
                state, jacobians.horizon[state], len(left) - 1, jacobians.rate(state), float(norms[0]), float(norms[-1])
            )


def _table(rows: Iterable[StateRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("gradient of", no_wrap=True)
    for column in ("below 1 % after", "rate per step", "first norm", "last norm"):
        table.add_column(column, justify="right")
    for row in rows:
        horizon = f"> {row.steps}" if row.horizon is None else str(row.horizon)
        table.add_row(row.state, f"{horizon} steps", f"{row.rate:.3f}", f"{row.first:.2g}", f"{row.last:.2g}")
    return table


def _pictures(recording: Recording, folder: Path) -> list[Path]:
    paths = {name: folder / f"{name}.png" for name in ("gradients", "decay", "credit", "gates")}
    plots.gradients(recording, paths["gradients"])
    plots.decay([recording.jacobians(name) for name in recording.calls], paths["decay"])
    plots.credit(recording.credit(steps=64), paths["credit"])
    if recording.gates:
        plots.gates(recording, paths["gates"])
    return [path for path in paths.values() if path.exists()]
