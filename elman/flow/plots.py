"""Plots of a recording, as PNG or SVG by the suffix of the file name."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from elman.errors import BadInput
from elman.extras import needs
from elman.flow.credit import Credit
from elman.flow.jacobians import HORIZON_SHARE, Jacobians
from elman.io.files import PICTURES, check_place, read_bytes, save_picture
from elman.io.metrics_csv import MAX_BYTES
from elman.io.schema import MAX_INT

if TYPE_CHECKING:
    from elman.flow.recording import Recording

STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MARKERS_PER_LINE = 8
MAX_LINES_INSIDE = 6  # with more lines, the legend is outside the axes
MIN_SHARE = 1e-6  # of the largest value of a map, or of a gradient at its start: color scale and axis end there
MIN_LINE_SHARE = 1e-12  # of the largest value of all lines: the axis ends there


def gradients(recording: "Recording", path: str | Path) -> None:
    """Plot the norm of the gradient that arrives at each state over time: root mean square over sequences.

    Args:
        recording: a recorded backward pass.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        BadInput: for another suffix, a folder that does not exist, or a file that elman did not write.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.flow.plots.gradients(flow, f"{folder}/gradients.png")
    """
    lines = {name: recording.over_sequences(name) for name in recording.state_gradients}
    y = "gradient norm at the state"
    _plot_lines(path, lines, "step", y, lower_limit=MIN_LINE_SHARE * _largest(lines))


def gates(recording: "Recording", path: str | Path) -> None:
    """Plot the mean of every gate over time.

    Args:
        recording: a recorded backward pass.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        ValueError: for a recording without gates.
        BadInput: for another suffix, a folder that does not exist, or a file that elman did not write.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.flow.plots.gates(flow, f"{folder}/gates.svg")
    """
    if not recording.gates:
        raise ValueError("flow.plots.gates: expected gates, or states between -1 and 1, got a recording without")
    _plot_lines(path, {name: gate.mean for name, gate in recording.gates.items()}, "step", "mean value")


def decay(jacobians: Jacobians | Sequence[Jacobians], path: str | Path) -> None:
    """Plot the share of a gradient that is left over the number of steps back, for one call or for several.

    Args:
        jacobians: of one call, or of several, from `Recording.jacobians`.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        BadInput: for another suffix, a folder that does not exist, or a file that elman did not write.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.flow.plots.decay(flow.jacobians(), f"{folder}/decay.png")
    """
    all_jacobians = [jacobians] if isinstance(jacobians, Jacobians) else jacobians
    lines = {name: values for call in all_jacobians for name, values in call.decay.items()}
    _plot_lines(
        path, lines, "steps back", "remaining share of the gradient", lower_limit=MIN_SHARE, level=HORIZON_SHARE
    )


def credit(credit: Credit, path: str | Path) -> None:
    """Plot how much of the loss at step t arrives at the state after step k, as a heat map.

    Args:
        credit: from `Recording.credit`.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        BadInput: for another suffix, a folder that does not exist, or a file that elman did not write.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.flow.plots.credit(flow.credit("h_l0"), f"{folder}/credit.png")
    """
    figure, axes = _make_figure(path, 6.4, 5.2)
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    norms = credit.norms.double().cpu()
    largest = float(norms.nan_to_num(0, 0, 0).max()) or 1.0
    positive, smallest = norms > 0, MIN_SHARE * largest
    values = norms.where(positive, float("nan")).numpy()
    # All rows have the same height, even if the steps of their losses are not evenly spaced.
    scale = LogNorm(smallest, largest)
    image = axes.imshow(values, norm=scale, cmap="cividis", aspect="auto", interpolation="nearest")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda row, _: str(credit.steps[int(row)]) if row in range(len(values)) else "")
    extend = "min" if (positive & (norms < smallest)).any() else "neither"
    figure.colorbar(image, label=f"norm of dL$_t$/d {credit.name} after step k", extend=extend)
    axes.set(xlabel="k: step of the state", ylabel="t: step of the loss")
    save_picture(figure, Path(path))


def singular_values(jacobians: Jacobians, path: str | Path, window: int = 1) -> None:
    """Plot the largest, median and smallest singular value of the Jacobian of each step, or of each window of steps.

    Args:
        jacobians: from `Recording.jacobians`.
        path: the file to write, with the suffix .png or .svg.
        window: number of steps in a window.

    Raises:
        ValueError: for a window that is not 1 to T steps; for states too wide.
        BadInput: for another suffix, a folder that does not exist, or a file that elman did not write.
        MissingPackage: without matplotlib.

    >>> import elman, tempfile, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     elman.flow.plots.singular_values(flow.jacobians(), f"{folder}/values.png", window=2)
    """
    values = jacobians.singular_values(window).nanmean(1)
    lines = {"largest": values[:, 0], "median": values.median(1).values, "smallest": values[:, -1]}
    over = "of the Jacobian" if window == 1 else f"of the Jacobian of {window} steps"
    x = "step" if window == 1 else f"window of {window} steps"
    _plot_lines(path, lines, x, f"singular values {over}", lower_limit=MIN_LINE_SHARE * _largest(lines))


def history(table: str | Path, path: str | Path) -> None:
    r"""Plot how many steps back gradients reached during training, from a flow.csv: one line per cell.

    Args:
        table: the file `flow.csv` of a run that was trained with `--flow-every`.
        path: the file to write, with the suffix .png or .svg.

    Raises:
        BadInput: if `table` cannot be read; as for `gradients`.
        MissingPackage: without matplotlib or polars.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "flow.csv")
    ...     _ = table.write_text("step,name,steps,horizon\n1,h_l0,10,4\n2,h_l0,10,9\n")
    ...     history(table, f"{folder}/horizon.png")
    """
    with needs("tasks", "flow.csv"):
        import polars as pl

    numbers = {"step": pl.Float64, "steps": pl.Float64, "horizon": pl.Float64}
    try:
        texts = pl.read_csv(read_bytes(Path(table), MAX_BYTES), infer_schema=False)
        rows = texts.select(pl.col("name"), *(pl.col(name).cast(kind) for name, kind in numbers.items()))
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{table}: expected the table of a gradient flow: {str(error).splitlines()[0]:.200}") from None
    if not len(rows) or rows.null_count().sum_horizontal().sum():
        raise BadInput(f"{table}: expected rows with a name and numbers, got none or empty cells")
    for name in numbers:
        outside = rows[name].filter(~rows[name].is_between(0, MAX_INT))  # NaN, too
        if len(outside):
            raise BadInput(f"{table}: {name}: expected a number from 0 to {MAX_INT:,}, got {outside[0]:g}")
    figure, axes = _make_figure(path, 7.2, 4.2)
    names = rows["name"].unique(maintain_order=True)
    for name, style, marker in zip(names, cycle(STYLES), cycle(MARKERS), strict=False):
        cell = rows.filter(pl.col("name") == name)
        every = max(len(cell) // MARKERS_PER_LINE, 1)
        label = str(name).replace("$", r"\$")  # no formula
        axes.plot(cell["step"], cell["horizon"], style, marker=marker, markevery=every, markersize=4.5, label=label)
    steps = max(rows["steps"])
    _draw_level(axes, f"all {steps:g} steps", steps)
    axes.set(xlabel="training step", ylabel="gradient horizon (steps back to 1 %)", ylim=(0, 1.08 * steps))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    save_picture(figure, Path(path))


def _plot_lines(
    path: str | Path,
    lines: dict[str, Tensor],
    x: str,
    y: str,
    lower_limit: float | None = None,
    level: float | None = None,
) -> None:
    """Plot values over steps, on a logarithmic axis that ends at `lower_limit` or above; linear without it."""
    figure, axes = _make_figure(path, 7.2 if len(lines) <= MAX_LINES_INSIDE else 9.0, 4.2)
    for (name, line), style, marker in zip(lines.items(), cycle(STYLES), cycle(MARKERS), strict=False):
        values = line.double().cpu()
        values = values if lower_limit is None else values.where(values > 0, float("nan"))
        every = max(len(values) // MARKERS_PER_LINE, 1)
        axes.plot(values.numpy(), style, marker=marker, markevery=every, markersize=4.5, label=name)
    if level is not None:
        _draw_level(axes, f"{level:.0%}", level)
    if lower_limit is not None:
        axes.set_yscale("log")
        if any(((values > 0) & (values < lower_limit)).any() for values in lines.values()):
            axes.set_ylim(lower_limit, 3 * _largest(lines))
            y += f"\n(cut off below {lower_limit:.0e})"
    last = max(map(len, lines.values())) - 1
    # Explicit limits on x, since all values may be missing.
    axes.set(xlabel=x, ylabel=y, xlim=(-0.03 * last - 0.1, 1.03 * last + 0.1))
    axes.grid(alpha=0.3)
    if len(lines) <= MAX_LINES_INSIDE:
        axes.legend(fontsize="small")
    else:
        figure.legend(fontsize="small", loc="outside right upper")  # inside, it would hide the lines
    save_picture(figure, Path(path))


def _largest(lines: dict[str, Tensor]) -> float:
    return max(float(values[values.isfinite()].amax()) if values.isfinite().any() else 0.0 for values in lines.values())


def _draw_level(axes: Any, text: str, y: float) -> None:
    """Draw a labeled horizontal line."""
    axes.axhline(y, color="0.4", linewidth=0.8)
    axes.annotate(text, (1, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.3")


def _make_figure(path: str | Path, width: float, height: float) -> tuple[Any, Any]:
    check_place(Path(path), PICTURES)
    with needs("draw", "a picture"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    return figure, figure.subplots()
