"""Plots of a recording, as PNG or SVG by the ending of the file name.

All raise BadInput for a name that ends with neither, or where there is no folder.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from elman.extras import needs
from elman.files import PICTURES, check_place, read_bytes, save_picture
from elman.flow.credit import Credit
from elman.flow.jacobians import ARRIVES, Jacobians

if TYPE_CHECKING:
    from elman.flow.recording import Recording

STYLES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
MARKED = 8  # marks on a line
FEW = 6  # lines whose names have room among them
SHOWN = 1e-6  # of the largest value of a map, or of a gradient at its beginning, the smallest that is told apart
LOWEST = 1e-12  # of the largest value of lines, where an axis ends


def gradients(recording: "Recording", path: Path) -> None:
    """The norm of the gradient that arrives at each state, over time: root mean square over sequences."""
    lines = {name: recording.over_sequences(name) for name in recording.state_gradients}
    _lines(path, lines, "step", "norm of the gradient that arrives at the state", down_to=LOWEST * _largest(lines))


def gates(recording: "Recording", path: Path) -> None:
    """The mean of every gate over time.

    Raises:
        ValueError: for a recording without any.
    """
    if not recording.gates:
        raise ValueError("flow.plots.gates: expected gates, or states between -1 and 1, got a recording without")
    _lines(path, {name: gate.mean for name, gate in recording.gates.items()}, "step", "mean value")


def decay(jacobians: Jacobians | Sequence[Jacobians], path: Path) -> None:
    """What is left of a gradient after so many steps back: through one layer, or through each of several."""
    several = [jacobians] if isinstance(jacobians, Jacobians) else jacobians
    lines = {name: left for one in several for name, left in one.decay.items()}
    _lines(path, lines, "steps back", "part of a gradient that is left", down_to=SHOWN, level=ARRIVES)


def credit(found: Credit, path: Path) -> None:
    """How much of the loss at step t arrives at the state after step k, as a map."""
    figure, axes = _figure(path, 6.4, 5.2)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    norms = found.norms.double().cpu()
    most = float(norms.nan_to_num(0, 0, 0).max()) or 1.0
    there, least = norms > 0, SHOWN * most
    shown = norms.where(there, float("nan")).numpy()
    # Each loss that was followed has a row of the same height, however far from the next one it is.
    image = axes.imshow(shown, norm=LogNorm(least, most), cmap="cividis", aspect="auto", interpolation="nearest")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda row, _: str(found.steps[int(row)]) if row in range(len(shown)) else "")
    fainter = "min" if (there & (norms < least)).any() else "neither"
    figure.colorbar(image, label=f"norm of dL$_t$/d {found.name} after step k", extend=fainter)
    axes.set(xlabel="k: step of the state", ylabel="t: step of the loss")
    save_picture(figure, Path(path))


def singular_values(jacobians: Jacobians, path: Path, window: int = 1) -> None:
    """Of the Jacobian of each step, or of products over a window: largest, median and smallest, over time."""
    values = jacobians.singular_values(window).nanmean(1)
    lines = {"largest": values[:, 0], "median": values.median(1).values, "smallest": values[:, -1]}
    over = "of the Jacobian" if window == 1 else f"of the Jacobian of {window} steps"
    x = "step" if window == 1 else f"window of {window} steps"
    _lines(path, lines, x, f"singular values {over}", down_to=LOWEST * _largest(lines))


def history(table: Path, path: Path) -> None:
    """How far a gradient reached in the course of a training, of a flow.csv: one line for every cell."""
    with needs("tasks", "flow.csv"):
        import polars as pl

    rows = pl.read_csv(read_bytes(table), infer_schema_length=None)
    figure, axes = _figure(path, 7.2, 4.2)
    names = rows["name"].unique(maintain_order=True)
    for name, style, mark in zip(names, cycle(STYLES), cycle(MARKS), strict=False):
        of = rows.filter(pl.col("name") == name)
        every = max(len(of) // MARKED, 1)
        axes.plot(of["step"], of["horizon"], style, marker=mark, markevery=every, markersize=4.5, label=name)
    most = max(rows["steps"])
    _note(axes, f"all {most} steps", most)
    axes.set(xlabel="step of the training", ylabel="steps back until 1 % of a gradient is left", ylim=(0, 1.08 * most))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    save_picture(figure, Path(path))


def _lines(
    path: Path, lines: dict[str, Tensor], x: str, y: str, down_to: float | None = None, level: float | None = None
) -> None:
    """Values over steps; on a logarithmic axis, if it is said how far down that goes at most."""
    figure, axes = _figure(path, 7.2 if len(lines) <= FEW else 9.0, 4.2)
    for (name, values), style, mark in zip(lines.items(), cycle(STYLES), cycle(MARKS), strict=False):
        shown = values.double().cpu()
        shown = shown if down_to is None else shown.where(shown > 0, float("nan"))
        axes.plot(shown.numpy(), style, marker=mark, markevery=max(len(shown) // MARKED, 1), markersize=4.5, label=name)
    if level is not None:
        _note(axes, f"{level:.0%}", level)
    if down_to is not None:
        axes.set_yscale("log")
        if any(((values > 0) & (values < down_to)).any() for values in lines.values()):
            axes.set_ylim(down_to, 3 * _largest(lines))
            y += f"\n(cut off below {down_to:.0e})"
    last = max(map(len, lines.values())) - 1
    axes.set(xlabel=x, ylabel=y, xlim=(-0.03 * last - 0.1, 1.03 * last + 0.1))  # also where there is nothing to draw
    axes.grid(alpha=0.3)
    if len(lines) <= FEW:
        axes.legend(fontsize="small")
    else:
        figure.legend(fontsize="small", loc="outside right upper")  # on the axes it would hide them
    save_picture(figure, Path(path))


def _largest(lines: dict[str, Tensor]) -> float:
    return max(float(values[values.isfinite()].amax()) if values.isfinite().any() else 0.0 for values in lines.values())


def _note(axes: Any, text: str, y: float) -> None:
    """A line at this height, and what it is."""
    axes.axhline(y, color="0.4", linewidth=0.8)
    axes.annotate(text, (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.3")


def _figure(path: Path, width: float, height: float) -> tuple[Any, Any]:
    check_place(Path(path), PICTURES)
    with needs("draw", "a picture"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    return figure, figure.subplots()
