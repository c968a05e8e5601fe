"""How the gradient goes back through time, in the terminal and as pictures."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from elman.errors import BadInput
from elman.flow import Recording, plots
from elman.report import columns, tables


def show(recording: Recording, console: Console, folder: Path, history: Path) -> None:
    """Print a verdict and a table of all cells, and draw the pictures into a folder.

    Args:
        recording: of a backward pass.
        console: where to print.
        folder: of the pictures.
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
        table = _table(recording)
    console.print(str(verdict))
    console.print(table)
    with progress.status("drawing"):
        pictures = _pictures(recording, folder)
    console.print(f"drawn into {folder}: {', '.join(path.name for path in pictures)}")


def clipped(history: Path) -> float | None:
    """Which part of the updates was clipped, of those that a flow.csv tells of; None where it tells of none.

    Raises:
        BadInput: if it cannot be read.
    """
    rows = columns.read(history, ["clipped"]) if history.exists() else []
    told = [value for value in columns.numbers(history, rows, ["clipped"])["clipped"] if value is not None]
    return sum(told) / len(told) if told else None


def _table(recording: Recording) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("gradient of", min_width=max(map(len, recording.state_gradients)))
    for column in ("1 % left after", "times per step", "at first step", "at last"):
        table.add_column(column, justify="right")
    for name in recording.calls:
        found = recording.jacobians(name)
        for state, left in found.decay.items():
            norms = recording.over_sequences(state)
            horizon = found.horizon[state]
            table.add_row(
                state, f"{'> ' * (horizon is None)}{horizon or len(left) - 1} steps",
                f"{found.rate(state):.3f}", f"{float(norms[0]):.2g}", f"{float(norms[-1]):.2g}",
            )  # fmt: skip
    return table


def _pictures(recording: Recording, folder: Path) -> list[Path]:
    paths = {name: folder / f"{name}.png" for name in ("gradients", "decay", "credit", "gates")}
    plots.gradients(recording, paths["gradients"])
    plots.decay([recording.jacobians(name) for name in recording.calls], paths["decay"])
    plots.credit(recording.credit(steps=64), paths["credit"])
    if recording.gates:
        plots.gates(recording, paths["gates"])
    return [path for path in paths.values() if path.exists()]
