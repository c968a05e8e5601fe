"""Charts as JSON for plotly.js. Colors are CSS variables of the page, so that they follow light and dark mode."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

# Lines also differ in dashes (in pixels) and markers (with SVG outlines), not only in color.
DASHES = ("solid", "7px,4px", "2px,3px", "9px,3px,2px,3px", "14px,4px", "4px,2px")
MARKS = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "square": "M-3.5,-3.5h7v7h-7z",
    "triangle-up": "M0,-4.5L4.5,3.5H-4.5z",
    "diamond": "M0,-5L5,0L0,5L-5,0z",
    "triangle-down": "M0,4.5L4.5,-3.5H-4.5z",
    "cross": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}
MAX_MARKERS = 9  # maximum number of markers on a line
COLOURS = 6
POINTER = {"spikecolor": "var(--ink-soft)", "spikethickness": 1, "spikedash": "solid"}
MAX_POINTS = 1500  # maximum number of points on a line; screens have about as many pixels


class Axis(NamedTuple):
    """An axis.

    Attributes:
        title: title of the axis.
        unit: unit that follows a value when the pointer is over it.
        log: whether the axis is logarithmic.
        limits: lower and upper limit; None for automatic limits.
        format: number format of d3.
    """

    title: str
    unit: str = ""
    log: bool = False
    limits: tuple[float, float] | None = None
    format: str = ".4~g"


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: name in the legend.
        x: horizontal coordinates.
        y: vertical coordinates; None interrupts the line.
        faint: whether the line is thin and pale.
        every: whether every point has a marker.
        level: whether the line is a reference level, without markers.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    faint: bool = False
    every: bool = False
    level: bool = False


class Key(NamedTuple):
    """An entry of the legend.

    Attributes:
        name: name of the line.
        colour: CSS color.
        dash: dash pattern.
        mark: SVG outline of the marker; "" for none.
        faint: whether the line is thin and pale.
    """

    name: str
    colour: str
    dash: str
    mark: str
    faint: bool


@dataclass(frozen=True)
class Chart:
    """A chart with its title, description and legend.

    Args:
        name: id of the chart in the page.
        title: title above the chart.
        description: description in a sentence.
        axis_label: label of the vertical axis or of the colors, with the unit.
        figure: data and layout for plotly.js.
        keys: the legend.
    """

    name: str
    title: str
    description: str
    axis_label: str
    figure: dict[str, Any]
    keys: tuple[Key, ...] = field(default=())


def lines(name: str, title: str, description: str, x: Axis, y: Axis, drawn: Sequence[Line]) -> Chart:
    """Create a line chart in which every line has its own dashes, marker and color.

    Args:
        name: id of the chart in the page.
        title: title above the chart.
        description: description in a sentence.
        x: horizontal axis.
        y: vertical axis.
        drawn: the lines.
    """
    traces, keys = [], []
    for line, dash, mark, number in zip(drawn, cycle(DASHES), cycle(MARKS), cycle(range(COLOURS)), strict=False):
        colour = f"var(--series-{number + 1})"
        has_markers = not (line.faint or line.level)
        max_markers = 0 if line.every else MAX_MARKERS  # 0 means no maximum
        traces.append(
            {
                "type": "scatter",
                "name": escape(line.name),
                "x": numbers(thinned(line.x)),
                "y": numbers(thinned(line.y)),
                "mode": "lines+markers" if has_markers else "lines",
                "line": {"color": colour, "dash": dash, "width": 1 if line.faint else 2.2},
                "marker": {"color": colour, "symbol": mark, "size": 8, "maxdisplayed": max_markers},
                "opacity": 0.45 if line.faint else 1,
                "hovertemplate": f"%{{y:{y.format}}} {escape(y.unit)}",
                "showlegend": False,
            }
        )
        keys.append(Key(line.name, colour, dash, MARKS[mark] if has_markers else "", line.faint))
    if y.log and y.limits is None:
        y = y._replace(limits=_decades([v for line in drawn for v in line.y if v]))
    layout = layout_of(x, y) | {"hovermode": "x unified"}
    return Chart(name, title, description, f"↑ {y.title}", {"data": traces, "layout": layout}, tuple(keys))


def level(name: str, x: Sequence[float], value: float) -> Line:
    """Create a horizontal reference line across the chart, dense enough to have a point near the pointer.

    Args:
        name: name in the legend.
        x: horizontal coordinates of the other lines.
        value: the level.
    """
    low, high = min(x, default=0.0), max(x, default=1.0)
    return Line(name, [low + (high - low) * i / 60 for i in range(61)], [value] * 61, level=True)


def _decades(values: list[float]) -> tuple[float, float] | None:
    """Return the powers of ten that enclose the positive values; None if there are none."""
    exponents = [math.log10(v) for v in values if v > 0 and math.isfinite(v)]
    return (10.0 ** math.floor(min(exponents)), 10.0 ** (math.floor(max(exponents)) + 1)) if exponents else None


def layout_of(x: Axis, y: Axis) -> dict[str, Any]:
    """Return the plotly.js layout that all charts share."""
    text = {"color": "var(--ink-soft)", "size": 13, "family": "system-ui, sans-serif"}
    axis = {"gridcolor": "var(--grid)", "zeroline": False, "linecolor": "var(--edge)", "automargin": True}
    title = {"standoff": 8, "font": text}
    return {
        "font": text,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 40, "r": 12, "t": 8, "b": 40},
        "hoverlabel": {
            "bgcolor": "var(--card)", "bordercolor": "var(--edge)", "font": text | {"color": "var(--ink)"},
        },
        "xaxis": axis | _axis(x) | {"title": title | {"text": x.title}, "showgrid": False, **POINTER},
        "yaxis": axis | _axis(y) | ({} if y.log else {"nticks": 7}),
    }  # fmt: skip


def _axis(axis: Axis) -> dict[str, Any]:
    kind, size = ("log", 11) if axis.log else ("linear", 12)  # plotly.js draws powers of ten larger
    settings: dict[str, Any] = {"type": kind, "exponentformat": "power", "tickfont": {"size": size}}
    if axis.limits is not None:
        settings["range"] = [math.log10(v) if axis.log else v for v in axis.limits]
        if axis.log and settings["range"][1] - settings["range"][0] <= 2:
            settings["dtick"] = "D2"  # 1, 2, 5
    if axis.unit:
        settings["unifiedhovertitle"] = {"text": f"{escape(axis.unit)} %{{x:,}}"}
    return settings


def numbers(values: Iterable[float | None], digits: int = 5) -> list[float | int | None]:
    """Round numbers for JSON.

    Args:
        values: the numbers.
        digits: number of significant digits.

    Returns:
        The rounded numbers; values that are not finite become None, which interrupts the line.

    >>> numbers([1 / 3, float("nan"), None, 7])
    [0.33333, None, None, 7]
    """
    return [
        None if v is None or not math.isfinite(v) else v if isinstance(v, int) else float(f"{v:.{digits}g}")
        for v in values
    ]


def thinned(values: Sequence[T]) -> list[T]:
    """Keep every n-th value, including the last, so that at most `MAX_POINTS` are left.

    >>> len(thinned(range(10_000))) <= MAX_POINTS, thinned(range(10_000))[-1]
    (True, 9999)
    """
    every = max(-(-len(values) // MAX_POINTS), 1)
    return list(values)[::-every][::-1]
