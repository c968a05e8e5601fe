"""Tables in the terminal."""

from typing import IO, Any

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from elman.io.run_folder import Run
from elman.io.terminal import Verbosity, escaped, verbosity
from elman.report import facts


class Screen(Console):
    """A terminal on which text is text: no markup, no emoji codes; control characters are shown, not obeyed.

    All that is printed with rich goes through one of these.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **how)

    def _stream(self) -> IO[str]:
        """What is written to, under all that guards it or waits for a progress bar."""
        found = super().file
        while (proxied := getattr(found, "rich_proxied_file", None)) is not None:
            found = proxied
        return found

    file = property(_stream, Console.file.fset)  # type: ignore[attr-defined]

    def render_str(self, text: str, **how: Any) -> Text:
        """As of every console; cells of tables come here too."""
        return super().render_str(escaped(text), **how)

    def status(self, status: Any, **how: Any) -> Status:
        """As of every console."""
        return super().status(self.render_str(status) if isinstance(status, str) else status, **how)


def console(**how: Any) -> Console:
    """The terminal, or the file that output goes to: there lines are left as long as they are.

    Args:
        how: goes to rich's: `stderr`, `quiet`.
    """
    return Screen(**how)


def progress_console() -> Console:
    """Standard error, for progress and notes; nothing is printed there with --quiet."""
    return console(stderr=True, quiet=verbosity() < Verbosity.NORMAL)


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
