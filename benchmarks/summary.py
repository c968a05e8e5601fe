"""The summary of the league table in results/: `python benchmarks/summary.py`.

Prints the table of README.md and docs/benchmarks.md, and draws results/benchmarks.png.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, NullFormatter

from elman.bench.run import geometric_mean

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOT = RESULTS / "benchmarks.png"
LEAGUE = RESULTS / "league.md"
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN (tanh)", "layer_norm_gru": "layer-norm GRU"}


class Comparison(NamedTuple):
    """An engine to compare with, in one direction.

    Attributes:
        engine: as in the league table.
        direction: "forward", or "both".
        color: in the plot.
    """

    engine: str
    direction: str
    color: str

    @property
    def title(self) -> str:
        """For readers."""
        return f"{self.engine}, {'forward' if self.direction == 'forward' else 'forward and backward'}"


COMPARISONS = (
    Comparison("torch.nn", "forward", "#f0b37e"),
    Comparison("torch.nn", "both", "#c2571a"),
    Comparison("JAX", "forward", "#8fb8de"),
    Comparison("JAX", "both", "#24476b"),
    Comparison("ONNX Runtime", "forward", "#6aa36f"),
    Comparison("OpenVINO", "forward", "#b9a3cf"),
)


@cache
def rows() -> list[dict[str, str]]:
    """Return the rows of the league table on one thread."""
    _, section, *_ = LEAGUE.read_text(encoding="utf-8").split("\n## ")
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    head, *body = ([field.strip() for field in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, fields, strict=True)) for fields in body]


def ratios(comparison: Comparison, cell: str) -> list[float]:
    """Return the ratios of a cell, one for each shape: how many times as long the other takes."""
    selected = [row for row in rows() if row["cell"] == cell and row["direction"] == comparison.direction]
    return [float(row[comparison.engine]) / float(row["elman"]) for row in selected if row[comparison.engine]]


def table() -> str:
    """Return the geometric means of the ratios and their range, in Markdown."""
    lines = [f"| | {' | '.join(CELLS.values())} |", "|---" * (len(CELLS) + 1) + "|"]
    for comparison in COMPARISONS:
        cells = [ratios(comparison, cell) for cell in CELLS]
        texts = (
            f"{geometric_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
            for values in cells
        )
        lines.append(f"| {comparison.title} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def draw(path: Path) -> None:
    """Draw every ratio, and the geometric means."""
    figure, axes = plt.subplots(figsize=(8, 3.4), dpi=130, layout="constrained")
    width = 0.8 / len(COMPARISONS)
    for i, comparison in enumerate(COMPARISONS):
        for k, cell in enumerate(CELLS):
            if not (values := ratios(comparison, cell)):
                continue
            x = k + (i - (len(COMPARISONS) - 1) / 2) * width
            label = comparison.title if k == 0 else None
            axes.bar(x, geometric_mean(values) - 1, width * 0.85, bottom=1, color=comparison.color, label=label)
            axes.scatter([x] * len(values), values, s=7, color="0.2", linewidths=0, zorder=3)
    axes.axhline(1, color="0.2", linewidth=1)
    axes.set(yscale="log", ylabel="time, elman = 1", xticks=range(len(CELLS)), xticklabels=CELLS.values())
    axes.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    axes.set_ylim(0.7, 120)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    print(table(), end="")
    draw(PLOT)
