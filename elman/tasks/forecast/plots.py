"""Plot of forecasts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.io.files import write_figure
from elman.tasks.forecast.data import Window
from elman.tasks.forecast.options import MEDIAN
from elman.tasks.forecast.windows import ForecastCodec
from elman.tasks.supervised import Evaluation, Plot

MAX_WINDOWS = 6
MAX_PAST = 3  # seasons, or horizons, of the context to plot


def plot(evaluation: Evaluation, path: Path) -> None:
    """Plot some windows of the test part, with the forecasts of the model and of the best baseline."""
    task, codec, examples = evaluation.task, evaluation.codec, evaluation.examples
    targets = evaluation.targets
    best = min(
        evaluation.baselines, key=lambda baseline: task.metrics(codec, baseline.predict(examples), targets)["mase"]
    )
    at = sorted(set(np.linspace(0, len(targets) - 1, MAX_WINDOWS).round().astype(int).tolist()))
    lines = best.predict([examples[i] for i in at])
    plot_windows([targets[i] for i in at], [evaluation.predictions[i] for i in at], lines, best.title, codec, path)


FORECAST = Plot("forecast.png", "Some windows of the test part: the context, the forecast, and the true values.", plot)


def plot_windows(
    windows: Sequence[Window],
    quantiles: Sequence[Any],
    baseline: Sequence[Any],
    title: str,
    codec: ForecastCodec,
    path: Path,
) -> None:
    """Plot forecasts of windows.

    Args:
        windows: windows with their true values.
        quantiles: the model's quantiles for each window, (F, Q).
        baseline: the baseline's quantiles for each window, (F, Q).
        title: the title of the baseline.
        codec: the codec.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    rows, median = -(-len(windows) // 2), codec.levels.index(MEDIAN)
    inside = f"{100 * (codec.levels[-1] - codec.levels[0]):g} % interval"
    figure = Figure(figsize=(11, 2.6 * rows), dpi=120, layout="constrained")
    for axes, window, fan, line in zip(
        figure.subplots(rows, 2, squeeze=False).flat, windows, quantiles, baseline, strict=False
    ):
        past = window.past[-MAX_PAST * max(codec.season, window.horizon) :]
        before, after = np.arange(-len(past), 0), np.arange(window.horizon)
        axes.plot(before, past, color="0.35", linewidth=1)
        axes.plot(after, window.future, color="black", linewidth=1.4, label="actual")
        axes.fill_between(after, fan[:, 0], fan[:, -1], color="C0", alpha=0.25, linewidth=0, label=inside)
        axes.plot(after, fan[:, median], color="C0", linewidth=1.4, label="forecast")
        axes.plot(after, line[:, median], color="C1", linestyle="--", linewidth=1, label=title)
        axes.axvline(-0.5, color="0.7", linewidth=0.8)
        axes.set_title(str(window), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(windows) :]:
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=9, loc="outside upper center", ncols=4)
    figure.supxlabel("steps from the beginning of the forecast", fontsize=9)
    write_figure(path, figure)
