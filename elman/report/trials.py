"""Plots the trials of a hyperparameter search."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from elman.io.files import save_picture
from elman.report.curves import LOG_SCALE_RATIO

COLUMNS = 3  # of panels
MARKS = {"complete": ("o", "C0"), "pruned": ("x", "0.55")}  # state to marker and color
MAX_OUTLIER = 4.0  # times the distance of the median from the best: higher losses are at the upper edge


def draw(rows: Sequence[Mapping[str, Any]], log_scaled: Mapping[str, bool], path: Path, label: str) -> None:
    """Plot the validation loss of each trial, and the validation loss over each option.

    Args:
        rows: the trials: `trial`, `state`, `validation_loss`, and the options.
        log_scaled: the options, and whether the axis of each is logarithmic.
        path: the file, with the suffix .svg or .png.
        label: name and unit of the loss.
    """
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["validation_loss"] is not None and math.isfinite(row["validation_loss"])]
    panels = 1 + len(log_scaled)
    columns = min(panels, COLUMNS)
    lines = -(-panels // columns)
    figure = Figure(figsize=(3.2 * columns + 0.6, 2.7 * lines), layout="constrained")
    all_axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for axes in all_axes[panels:]:
        axes.set_visible(False)
    first, *others = all_axes[:panels]
    _draw_best(first, shown)
    _scatter(first, shown, [row["trial"] for row in shown])
    first.set(xlabel="trial")
    first.legend(fontsize="small")
    for axes, (name, is_log) in zip(others, log_scaled.items(), strict=True):
        _draw_option(axes, shown, name, is_log)
    for axes in all_axes[:panels:columns]:
        axes.set_ylabel(f"validation\n{label}")
    _limit(first, [row["validation_loss"] for row in shown])
    save_picture(figure, path)


def _draw_best(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the lowest loss of complete trials so far as a line of steps."""
    complete = [row for row in rows if row["state"] == "complete"]
    best = list(accumulate((row["validation_loss"] for row in complete), min))
    axes.step([row["trial"] for row in complete], best, where="post", color="C1", linewidth=1, label="best so far")


def _scatter(axes: Any, rows: Sequence[Mapping[str, Any]], x: Sequence[Any]) -> None:
    for state, (marker, color) in MARKS.items():
        points = [(value, row["validation_loss"]) for value, row in zip(x, rows, strict=True) if row["state"] == state]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=color, markersize=4.5, label=state)
    axes.grid(alpha=0.3)


def _draw_option(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, is_log: bool) -> None:
    values = [row[name] for row in rows]
    if any(isinstance(value, str) for value in values):
        names = list(dict.fromkeys(values))
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
        values = [names.index(value) for value in values]
    elif is_log:
        axes.set_xscale("log")
    _scatter(axes, rows, values)
    axes.set(xlabel=name.replace("_", " "))


def _limit(axes: Any, losses: Sequence[float]) -> None:
    """Keep trials that are far worse than the others from making the others look alike."""
    best, worst = min(losses), max(losses)
    median = sorted(losses)[len(losses) // 2]
    highest = min(worst, best + MAX_OUTLIER * (median - best) or worst)
    if 0 < LOG_SCALE_RATIO * best < worst:
        axes.set_yscale("log")
    elif highest > best:
        margin = 0.08 * (highest - best)
        axes.set_ylim(best - margin, highest + margin)
