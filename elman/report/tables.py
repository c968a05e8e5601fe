"""Tables in the terminal."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from elman.runs import Run
from elman.words import clock_time


def console() -> Console:
    """The terminal, or the file that output goes to: there lines are left as long as they are."""
    return Console(highlight=False, soft_wrap=True)


def scores(rows: dict[str, dict[str, float]], console: Console) -> None:
    """Print a line of numbers under each name's columns."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in next(iter(rows.values())):
        table.add_column(column.replace("_", " "), justify="right")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:,.4f}" if value < 100 else f"{value:,.1f}" for value in values.values()))
    console.print(table)


def describe(run: Run, console: Console) -> None:
    """Print what a run is."""
    config = run.config
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    table.add_row("run", str(run.path))
    table.add_row("task", f"{config['task']}, by elman {config['elman']}")
    for key in ("data", "model", "options", "training"):
        table.add_row(
            key, ", ".join(f"{name} {_value(value)}" for name, value in config[key].items() if value is not None)
        )
    ended = config.get("ended")
    if ended:
        table.add_row("ended", f"after {ended['steps']:,} steps, {clock_time(ended['seconds'])} of training")
    else:
        table.add_row("ended", f"not yet; go on with: elman train {config['task']} --resume {run.path}")
    files = sorted(f"{p.relative_to(run.path)} ({_size(p.stat().st_size)})" for p in run.path.rglob("*") if p.is_file())
    table.add_row("files", "\n".join(files))
    console.print(table)
    if config.get("scores"):
        scores(config["scores"], console)


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            break
        size, unit = size / 1000, {"B": "kB", "kB": "MB", "MB": "GB"}[unit]
    return f"{size:.0f} {unit}"
