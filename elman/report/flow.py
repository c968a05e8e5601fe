"""How the gradient goes back through time, in the terminal and as pictures."""

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
    """How far the gradient of a state reaches.

    Attributes:
        state: its name.
        horizon: the steps after which less than 1 % of it is left; None: more than `steps`.
        steps: that were followed.
        rate: its growth factor per step back.
        first: its norm at the first step.
        last: at the last step.
    """

    state: str
    horizon: int | None
    steps: int
    rate: float
    first: float
    last: float


class Diagnosis(NamedTuple):
    """A backward pass, diagnosed and drawn."""

    verdict: Verdict
    rows: list[StateRow]
    plots: list[Path]


def diagnose(recording: Recording, folder: Path, history: Path) -> Diagnosis:
    """Diagnose a backward pass, and draw plots of it.

    Args:
        recording: of a backward pass.
        folder: of the plots.
        history: the flow.csv of the training, which may not be there: it says how often the gradient was clipped.

    Raises:
        BadInput: if no folder can be there.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out {folder}: expected a folder, got a file")
    folder.mkdir(parents=True, exist_ok=True)
    progress = tables.progress_console()
    with progress.status("working out how far a gradient reaches"):
        verdict = recording.verdict(clipped(history), steps=None)
        rows = list(_rows(recording))
    with progress.status("drawing"):
        return Diagnosis(verdict, rows, _pictures(recording, folder))


def show(diagnosis: Diagnosis, console: Console, folder: Path) -> None:
    """Print a diagnosis, and a table of all states."""
    console.print(str(diagnosis.verdict))
    console.print(_table(diagnosis.rows))
    console.print(f"drawn into {folder}: {', '.join(path.name for path in diagnosis.plots)}")


def clipped(history: Path) -> float | None:
    """Which part of the updates was clipped, of those that a flow.csv tells of; None where it tells of none.

    Raises:
        BadInput: if it cannot be read.
    """
    rows = columns.read(history, ["clipped"]) if history.exists() else []
    told = [value for value in columns.numbers(history, rows, ["clipped"])["clipped"] if value is not None]
    return sum(told) / len(told) if told else None


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
    for column in ("1 % left after", "times per step", "at first step", "at last"):
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
