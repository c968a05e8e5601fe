"""The summary of the benchmarks, from the files in results/: `python benchmarks/summary.py`.

Prints the table of README.md and docs/benchmarks.md, and draws results/benchmarks.png.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullFormatter

from elman.bench.run import geometric_mean

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOT = RESULTS / "benchmarks.png"
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn-tanh": "RNN (tanh)"}


class Comparison(NamedTuple):
    """One column of a file of results.

    Attributes:
        title: what elman is compared with.
        file: the name of the file.
        column: the number of the column that has the ratios, other's time divided by elman's.
        color: in the plot.
    """

    title: str
    file: str
    column: int
    color: str


COMPARISONS = (
    Comparison("torch.nn, forward", "layers-1-thread.txt", 4, "#f0b37e"),
    Comparison("torch.nn, forward and backward", "layers-1-thread.txt", 8, "#c2571a"),
    Comparison("ONNX Runtime, forward", "onnx-runtime-1-thread.txt", 5, "#6aa36f"),
    Comparison("JAX, forward", "jax-1-thread.txt", 4, "#8fb8de"),
    Comparison("JAX, forward and backward", "jax-1-thread.txt", 7, "#24476b"),
)


def rows(file: str) -> Iterator[list[str]]:
    """Yield the rows of a file of results that are about a cell and a shape."""
    for line in (RESULTS / file).read_text(encoding="utf-8").splitlines():
        if re.match(r"\s*[\w-]+\s+\d+,\d+,\d+,\d+\s", line):
            yield line.split()


def ratios(comparison: Comparison, cell: str) -> list[float]:
    """Return the ratios of a cell, one for each shape: how many times as long the other takes."""
    return [float(row[comparison.column]) for row in rows(comparison.file) if row[0] == cell]


def table() -> str:
    """Return the geometric means of the ratios and their range, in Markdown."""
    lines = [f"| | {' | '.join(CELLS.values())} |", "|---" * (len(CELLS) + 1) + "|"]
    for comparison in COMPARISONS:
        cells = [ratios(comparison, cell) for cell in CELLS]
        texts = (f"{geometric_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in cells)
        lines.append(f"| {comparison.title} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def draw(path: Path) -> None:
    """Draw every ratio, and the geometric means."""
    figure, axes = plt.subplots(figsize=(8, 3.4), dpi=130, layout="constrained")
    width = 0.8 / len(COMPARISONS)
    for i, comparison in enumerate(COMPARISONS):
        for k, cell in enumerate(CELLS):
            values, x = ratios(comparison, cell), k + (i - (len(COMPARISONS) - 1) / 2) * width
            label = comparison.title if k == 0 else None
            axes.bar(x, geometric_mean(values) - 1, width * 0.85, bottom=1, color=comparison.color, label=label)
            axes.scatter([x] * len(values), values, s=7, color="0.2", linewidths=0, zorder=3)
    axes.axhline(1, color="0.2", linewidth=1)
    axes.set(yscale="log", ylabel="time, elman = 1", xticks=range(len(CELLS)), xticklabels=CELLS.values())
    axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    axes.set_ylim(0.3, 60)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    print(table(), end="")
    draw(PLOT)
