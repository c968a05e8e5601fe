"""Output of `elman bench`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from elman.bench.run import Row, geometric_mean
from elman.report.tables import console

MIN_WIDTH = 132  # of the table, in characters


def with_progress(rows: Iterable[Row], total: int) -> Iterator[Row]:
    """Yield the rows as they are measured, with a progress bar on standard error.

    Args:
        rows: the measurements.
        total: number of rows.
    """
    text, left = TextColumn("{task.description}"), TextColumn("time left")
    columns = (text, BarColumn(), MofNCompleteColumn(), left, TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=total)
        for row in rows:
            progress.update(task, advance=1, description=f"{row.cell} {row.shape}")
            yield row


def table(rows: Sequence[Row], peak: dict[str, float], machine: dict[str, Any], dtype: str = "float32") -> None:
    """Print all rows, and for each cell the minimum and the mean ratio.

    Args:
        rows: the measurements.
        peak: GFLOP/s as `peak` measures them.
        machine: machine and versions, by name.
        dtype: of the layers.
    """
    screen = console()
    screen.width = max(screen.width, MIN_WIDTH)  # on a narrow terminal, rich would truncate the figures
    grid = Table(box=box.SIMPLE_HEAD)
    grid.add_column("layer", no_wrap=True)
    columns = "T,B,D,H", "forward ms", "torch.nn", "ratio", "GFLOP/s"
    for name in (*columns, "fwd+bwd ms", "torch.nn", "ratio", "GFLOP/s", "of peak"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(row.cell, str(row.shape), *_figures(row, max(peak.values())))
    screen.print(grid)
    for row in rows:
        if not row.agrees:
            bound = f"tolerance {row.bound:.0e}"
            screen.print(f"{row.cell} {row.shape}: no ratio, since the results differ by {row.error:.1e} ({bound})")
    for cell in dict.fromkeys(row.cell for row in rows):
        ratios = [row.ratios for row in rows if row.cell == cell and row.agrees]
        if ratios:
            least = [min(column) for column in zip(*ratios, strict=True)]
            mean = [geometric_mean(column) for column in zip(*ratios, strict=True)]
            screen.print(
                f"{cell}: forward minimum {least[0]:.2f}, mean {mean[0]:.2f}; "
                f"forward and backward minimum {least[1]:.2f}, mean {mean[1]:.2f} (geometric means)"
            )
    threads = rows[0].threads
    screen.print(
        f"{dtype}, {threads} thread{'s' if threads > 1 else ''}; matrix product: torch {peak['torch']:.0f}, "
        f"elman {peak['tile']:.0f} GFLOP/s; {', '.join(f'{k} {v}' for k, v in machine.items() if v)}"
    )


def _figures(row: Row, peak: float) -> list[str]:
    if not row.agrees:
        return ["-"] * 9
    assert row.forward
    assert row.both
    assert row.gflops
    figures: list[str] = []
    for (ours, theirs), ratio, speed in zip((row.forward, row.both), row.ratios, row.gflops, strict=True):
        figures += [f"{ours * 1e3:.2f}", f"{theirs * 1e3:.2f}", f"{ratio:.2f}", f"{speed:.0f}"]
    return [*figures, f"{row.gflops[1] / peak:.0%}"]
