"""Tables in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from elman.report import facts
from elman.runs import Run


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
        table.add_row(name, *map(in_words, values.values()))
    console.print(table)


def in_words(value: float) -> str:
    """A score with as many digits as can be of interest.

    >>> in_words(1.5868), in_words(1234.5678)
    ('1.5868', '1,234.6')
    """
    return f"{value:,.4f}" if value < 100 else f"{value:,.1f}"


def describe(run: Run, console: Console) -> None:
    """Print what a run is."""
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    table.add_row("run", str(run.path))
    table.add_row("task", facts.task(run))
    for key, values in facts.settings(run).items():
        table.add_row(key, ", ".join(f"{name} {value}" for name, value in values.items()))
    table.add_row("ended", facts.ended(run))
    table.add_row("files", "\n".join(facts.files(run)))
    console.print(table)
    if run.config.get("scores"):
        scores(run.config["scores"], console)
