"""Plot of predicted numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from elman.io.files import write_figure
from elman.tasks.supervised import Evaluation

Draw = Callable[[Evaluation, Path], None]


def of_labels(draw: Draw) -> Draw:
    """Return a plot that is drawn only if labels are predicted."""
    return lambda evaluation, path: draw(evaluation, path) if evaluation.codec.labels else None


def of_numbers(draw: Draw) -> Draw:
    """Return a plot that is drawn only if numbers are predicted."""
    return lambda evaluation, path: None if evaluation.codec.labels else draw(evaluation, path)


def plot_numbers(evaluation: Evaluation, path: Path) -> None:
    """Plot predicted over true numbers, with the interval between the lowest and the highest quantile."""
    from matplotlib.figure import Figure

    y = np.array(evaluation.targets)
    low, median, high = np.stack(evaluation.predictions).T
    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    errors = np.maximum([median - low, high - median], 0)
    axes.errorbar(y, median, errors, fmt="o", markersize=3, elinewidth=0.7, alpha=0.6)
    ends = [min(y.min(), median.min()), max(y.max(), median.max())]
    axes.plot(ends, ends, color="0.5", linewidth=1)
    axes.set(xlabel="true number", ylabel="prediction, 80 % interval")
    axes.grid(alpha=0.3)
    write_figure(path, figure)
