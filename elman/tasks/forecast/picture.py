"""Forecasts as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.io.files import write_figure
from elman.tasks.forecast.data import Window

SHOWN = 6  # windows
PAST = 3  # seasons, or horizons, of the context that are drawn


def chosen(count: int) -> list[int]:
    """The numbers of some windows, from the first to the last."""
    return sorted(set(np.linspace(0, count - 1, SHOWN).round().astype(int).tolist()))


def draw(
    windows: Sequence[Window], said: Sequence[Any], best: Sequence[Any], title: str, season: int, path: Path
) -> None:
    """Windows with what was said of them, what came, and what a baseline said.

    Args:
        windows: a few.
        said: quantiles (F, 3) of each.
        best: those of the baseline.
        title: of the baseline.
        season: steps.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    rows = -(-len(windows) // 2)
    figure = Figure(figsize=(11, 2.6 * rows), dpi=120, layout="constrained")
    for axes, window, fan, line in zip(figure.subplots(rows, 2, squeeze=False).flat, windows, said, best, strict=False):
        past = window.context[-PAST * max(season, window.horizon) :]
        before, after = np.arange(-len(past), 0), np.arange(window.horizon)
        low, median, high = np.transpose(fan)
        axes.plot(before, past, color="0.35", linewidth=1)
        axes.plot(after, window.future, color="black", linewidth=1.4, label="what came")
        axes.fill_between(after, low, high, color="C0", alpha=0.25, linewidth=0, label="80 %")
        axes.plot(after, median, color="C0", linewidth=1.4, label="median")
        axes.plot(after, np.transpose(line)[1], color="C1", linestyle="--", linewidth=1, label=title)
        axes.axvline(-0.5, color="0.7", linewidth=0.8)
        axes.set_title(str(window), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(windows) :]:
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=9, loc="outside upper center", ncols=4)
    figure.supxlabel("steps from the beginning of the forecast", fontsize=9)
    write_figure(path, figure)
