"""Plots the loss curves of a run."""

from pathlib import Path

import polars as pl

from elman.errors import BadInput
from elman.io.files import read_bytes, write_figure
from elman.io.metrics_csv import MAX_BYTES

MAX_MARKERS = 60  # with more validations, the curve has no markers
MAX_LOSS = 1e300
LOG_SCALE_RATIO = 30.0  # ratio of the highest to the lowest loss above which the axis is logarithmic


def draw(metrics: Path, picture: Path, ylabel: str, baseline: tuple[str, float] | None = None) -> None:
    """Plot training and validation loss over epochs, with the loss of a baseline.

    Args:
        metrics: path of the run's metrics.csv.
        picture: path of the PNG file to write.
        ylabel: name and unit of the loss.
        baseline: name and loss of the baseline.

    Raises:
        BadInput: if metrics.csv is no table of numbers.
    """
    from matplotlib.figure import Figure

    try:
        texts = pl.read_csv(read_bytes(metrics, MAX_BYTES), infer_schema=False)
        rows = texts.select(pl.col("epoch", "train_loss", "val_loss").cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{metrics}: expected a table of numbers: {str(error).splitlines()[0]:.200}") from None
    train = rows.drop_nulls("train_loss").select(
        "epoch", "train_loss", smooth=pl.col("train_loss").ewm_mean(half_life=max(rows.height / 100, 1))
    )
    validation = rows.drop_nulls("val_loss")
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(train["epoch"], train["train_loss"], color="C0", alpha=0.25, linewidth=0.8)
    axes.plot(train["epoch"], train["smooth"], color="C0", label="training")
    best = f", best {min(validation['val_loss']):.3f}" if len(validation) else ""
    mark = "o-" if len(validation) <= MAX_MARKERS else "-"
    axes.plot(validation["epoch"], validation["val_loss"], mark, color="C1", markersize=4, label=f"validation{best}")
    if baseline is not None:
        name, loss = baseline
        axes.axhline(loss, color="0.4", linestyle="--", linewidth=1, label=f"{name} {loss:.3f}")
    axes.set(xlabel="epoch", ylabel=ylabel, xlim=(0, None))
    shown = [*train["smooth"].slice(len(train) // 50), *validation["val_loss"], *([baseline[1]] if baseline else [])]
    losses = [loss for loss in shown if abs(loss) < MAX_LOSS]  # neither NaN nor infinite, with room for a margin
    if losses:
        low, high = min(losses), max(losses)
        if 0 < LOG_SCALE_RATIO * low < high:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.3, high * 1.3)
        else:
            axes.set_ylim(*limits(losses))
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    write_figure(picture, figure)


def limits(losses: list[float]) -> tuple[float, float]:
    """Return axis limits around losses, with a margin.

    Leave out the losses of the first steps: they are so large that the rest of the curve would appear flat.

    Args:
        losses: the losses to show.

    Returns:
        The lower and the upper limit.
    """
    margin = 0.08 * (max(losses) - min(losses)) + 0.01
    low = min(losses) - 1.5 * margin
    return max(low, 0.0) if min(losses) >= 0 else low, max(losses) + margin
