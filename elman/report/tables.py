"""Consoles and tables for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from elman.io.run_folder import Run
from elman.io.terminal import Verbosity, escaped, verbosity
from elman.report import facts
from elman.report.shown import Scores


class Screen(Console):
    """Console that prints text literally: no markup, no emoji codes, and control characters are escaped.

    All output with rich uses this class.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **how)

    def _stream(self) -> IO[str]:
        """Return the underlying stream, without the proxies that rich adds during a progress bar."""
        stream = super().file
        while (proxied := getattr(stream, "rich_proxied_file", None)) is not None:
            stream = proxied
        return stream

    file = property(_stream, Console.file.fset)  # type: ignore[attr-defined]

    def render_str(self, text: str, **how: Any) -> Text:
        """Escape control characters, then render; rich calls this for table cells too."""
        return super().render_str(escaped(text), **how)

    def status(self, status: Any, **how: Any) -> Status:
        """Show a status whose text is escaped."""
        return super().status(self.render_str(status) if isinstance(status, str) else status, **how)


def console(**how: Any) -> Console:
    """Create a console for the terminal or the file that output is redirected to. Lines are not wrapped.

    Args:
        **how: arguments of `rich.console.Console`, such as `stderr` and `quiet`.
    """
    return Screen(**how)


def progress_console() -> Console:
    """Create a console on standard error for progress and notes; it prints nothing with --quiet."""
    return console(stderr=True, quiet=verbosity() < Verbosity.NORMAL)


def scores(scores: Scores, console: Console) -> None:
    """Print a table of scores with their 95 % confidence intervals, what they were computed on, and those by label."""
    console.print(_score_table(next(iter(scores.values())), score_rows(scores)))
    if line := scored_on(scores):
        console.print(f"  {line}\n")
    if scores.by_label:
        console.print(_score_table(next(iter(scores.by_label.values())), label_rows(scores)))


def _score_table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def score_rows(scores: Scores) -> list[list[str]]:
    """Return the rows of a table of scores: the title of the model or baseline, then the text of each score."""
    return [
        [title, *(with_margin(value, scores.margins.get(title, {}).get(name)) for name, value in row.items())]
        for title, row in scores.items()
    ]


def label_rows(scores: Scores) -> list[list[str]]:
    """Return the rows of a table of the model's scores by label: the label, then the text of each score.

    >>> label_rows(Scores(by_label={"PER": {"f1": 0.5, "spans": 1200}}))
    [['PER', '0.5000', '1,200']]
    """
    return [
        [label, *(f"{value:,}" if isinstance(value, int) else in_words(value) for value in row.values())]
        for label, row in scores.by_label.items()
    ]


def scored_on(scores: Scores) -> str:
    r"""Return a line on what scores were computed on; "" if that is not known.

    >>> scored_on(Scores({"GRU": {"accuracy": 0.9}}, {"GRU": {"accuracy": 0.02}}, "180 images"))
    'on 180 images; \xb1 is the 95 % confidence interval'
    """
    explanation = "; ± is the 95 % confidence interval" if any(scores.margins.values()) else ""
    return f"on {scores.counted}{explanation}" if scores.counted else ""


def with_margin(value: float, margin: float | None) -> str:
    r"""Format a score with half the width of its confidence interval, to two digits.

    >>> with_margin(0.975, 0.0213), with_margin(27.31, 1.21), with_margin(1234.5, 25), with_margin(0.975, None)
    ('0.9750 \xb1.021', '27.3100 \xb11.2', '1,234.5 \xb125', '0.9750')
    """
    if margin is None:
        return in_words(value)
    digits = f"{margin:#.2g}".rstrip(".") if margin < 100 else f"{margin:,.0f}"
    return f"{in_words(value)} ±{digits.removeprefix('0')}"


def trials(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a table of the trials of a hyperparameter search.

    Args:
        rows: the trials, with `validation_loss`; columns in which all are None are left out.
        console: the console to print to.
    """
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in columns))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    return in_words(value) if name == "validation_loss" else f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(value: float) -> str:
    """Format a score with one or four decimals, depending on its magnitude.

    >>> in_words(1.5868), in_words(1234.5678)
    ('1.5868', '1,234.6')
    """
    return f"{value:,.4f}" if value < 100 else f"{value:,.1f}"


def describe(run: Run, console: Console) -> None:
    """Print a description of a run."""
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
        scores(facts.scores(run), console)
