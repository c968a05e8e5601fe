"""Plots of forecasts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.files import write_figure
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Series, Window
from elman.tasks.supervised import Evaluation, Plot

MAX_WINDOWS = 6
MAX_BACKTESTED, MAX_CUTOFFS = 4, 12  # series, and cutoffs of each, in the plot of a backtest
MAX_PAST = 3  # seasons, or horizons, of the past to plot


def plot_next(evaluation: Evaluation, path: Path) -> None:
    """Plot the forecasts of what follows the data, behind the data, for some of the series."""
    task, codec = evaluation.task, evaluation.codec
    options = task.options_of(evaluation.run)
    series = list({id(example.input.series): example.input.series for example in evaluation.examples}.values())
    examples = [example for item in _spread(series) if (example := _next(evaluation, item, options)) is not None]
    predictions = task.predictions(evaluation.model, codec, examples, options.batch)
    _plot_windows([example.input for example in examples], predictions, codec, path, columns=1)


def _next(evaluation: Evaluation, series: Series, options: Any) -> Example | None:
    """Return the window after the end of a series; None if the covariates of its horizon are unknown."""
    try:
        return evaluation.task.parse_input(series, options)
    except BadInput:
        return None


def plot_test(evaluation: Evaluation, path: Path) -> None:
    """Plot some windows of the test part, with the forecasts of the model and of the best baseline."""
    task, codec, examples = evaluation.task, evaluation.codec, evaluation.examples
    targets = evaluation.targets
    best = min(
        evaluation.baselines, key=lambda baseline: task.metrics(codec, baseline.predict(examples), targets)["mase"]
    )
    at = _spread(range(len(targets)))
    lines = [line[:, codec.median] for line in best.predict([examples[i] for i in at])]
    windows, predictions = [targets[i] for i in at], [evaluation.predictions[i] for i in at]
    _plot_windows(windows, predictions, codec, path, columns=2, baseline=(best.title, lines))


PLOTS = (
    Plot("forecast.png", "The end of the data, and the forecast of what follows, with its interval.", plot_next),
    Plot("windows.png", "Some windows of the test part: the past, the forecast, and the true values.", plot_test),
)


def _spread(items: Sequence[Any]) -> list[Any]:
    """Return at most `MAX_WINDOWS` items, evenly spaced, the first and the last among them."""
    return [items[i] for i in sorted(set(np.linspace(0, len(items) - 1, MAX_WINDOWS).round().astype(int).tolist()))]


def _plot_windows(
    windows: Sequence[Window],
    quantiles: Sequence[Any],
    codec: ForecastCodec,
    path: Path,
    columns: int,
    baseline: tuple[str, Sequence[Any]] | None = None,
) -> None:
    """Plot forecasts of windows.

    Args:
        windows: windows, with their true values if they are known.
        quantiles: the model's quantiles for each window, (F, Q).
        codec: the codec.
        path: the PNG file to write.
        columns: number of plots side by side.
        baseline: title of a baseline, and its forecast for each window, (F,).
    """
    from matplotlib.figure import Figure

    rows = max(-(-len(windows) // columns), 1)
    figure = Figure(figsize=(11, 2.6 * rows), dpi=100, layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flat
    for i, (axes, window, fan) in enumerate(zip(plots, windows, quantiles, strict=False)):
        past = window.past[-MAX_PAST * max(codec.season, window.horizon) :]
        begin, end = window.origin - len(past), window.origin + window.horizon
        times = _times(window.series, begin, end)
        before, after = times[: len(past)], times[len(past) :]
        axes.plot(before, past, color="0.35", linewidth=1)
        if not np.isnan(window.future).all():
            axes.plot(after, window.future, color="black", linewidth=1.4, label="actual")
        _plot_fan(axes, after, fan, codec)
        if baseline:
            axes.plot(after, baseline[1][i], color="C1", linestyle="--", linewidth=1, label=baseline[0])
        axes.axvline(after[0], color="0.7", linewidth=0.8)
        axes.set_title(str(window), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
    for axes in figure.axes[len(windows) :]:
        axes.set_axis_off()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=9, loc="outside upper center", ncols=4)
    write_figure(path, figure)


def plot_backtest(windows: Sequence[Window], quantiles: Sequence[Any], codec: ForecastCodec, path: Path) -> None:
    """Plot the forecasts of the last cutoffs behind the data, for some of the series.

    Args:
        windows: the windows, with the true values of the horizon.
        quantiles: the model's quantiles for each window, (F, Q).
        codec: the codec.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    shown = _spread(list(dict.fromkeys(window.series for window in windows)))[-MAX_BACKTESTED:]
    figure = Figure(figsize=(11, 2.6 * len(shown)), dpi=100, layout="constrained")
    for axes, series in zip(figure.subplots(len(shown), 1, squeeze=False).flat, shown, strict=True):
        at = [i for i, window in enumerate(windows) if window.series is series][-MAX_CUTOFFS:]
        horizon, first = len(quantiles[at[0]]), windows[at[0]].origin
        begin = max(0, first - max(codec.season, horizon))
        end = windows[at[-1]].origin + horizon
        axes.plot(_times(series, begin, end), series.values[begin:end], color="black", linewidth=1, label="actual")
        for i in at:
            times = _times(series, windows[i].origin, windows[i].origin + horizon)
            _plot_fan(axes, times, quantiles[i], codec)
            axes.axvline(times[0], color="0.7", linewidth=0.8)
        axes.set_title(series.name, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
    labels = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))  # one of each
    figure.legend(labels.values(), labels.keys(), fontsize=9, loc="outside upper center", ncols=4)
    write_figure(path, figure)


def _plot_fan(axes: Any, times: Any, fan: Any, codec: ForecastCodec) -> None:
    """Plot the median of quantiles (F, Q), and the intervals from the outermost to the innermost."""
    for k in range(codec.median):
        inside = f"{100 * (codec.levels[-1 - k] - codec.levels[k]):g} % interval" if k < len(fan[0]) - 1 - k else ""
        axes.fill_between(times, fan[:, k], fan[:, -1 - k], color="C0", alpha=0.2, linewidth=0, label=inside)
    axes.plot(times, fan[:, codec.median], color="C0", linewidth=1.4, label="forecast")


def _times(series: Series, begin: int, end: int) -> Any:
    """Return the times of steps for an axis."""
    times = series.moments(begin, end)
    return times.astype("datetime64[us]") if series.grid.clock.unit else times
