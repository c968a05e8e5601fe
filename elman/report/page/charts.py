"""Charts in the JSON of plotly.js. Colours are names in the page's style sheet: so they follow light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import cycle
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

# How lines differ, apart from their colours: dashes in pixels, and marks with their outlines in SVG.
DASHES = ("solid", "7px,4px", "2px,3px", "9px,3px,2px,3px", "14px,4px", "4px,2px")
MARKS = {
    "circle": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "square": "M-3.5,-3.5h7v7h-7z",
    "triangle-up": "M0,-4.5L4.5,3.5H-4.5z",
    "diamond": "M0,-5L5,0L0,5L-5,0z",
    "triangle-down": "M0,4.5L4.5,-3.5H-4.5z",
    "cross": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}
MARKED = 9  # marks on a line
COLOURS = 6
POINTER = {"spikecolor": "var(--ink-soft)", "spikethickness": 1, "spikedash": "solid"}
POINTS = 1500  # of a line; the screens that show them have no more


class Axis(NamedTuple):
    """What an axis shows, and how a value is told: `unit` follows it."""

    title: str
    unit: str = ""
    log: bool = False
    limits: tuple[float, float] | None = None
    format: str = ".4~g"


class Line(NamedTuple):
    """A line of a chart: `faint` behind others, with marks at `every` point, a `level` without any."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    faint: bool = False
    every: bool = False
    level: bool = False


class Key(NamedTuple):
    """An entry of the legend, as the page draws it."""

    name: str
    colour: str
    dash: str
    mark: str  # outline in SVG; "" for none
    faint: bool


@dataclass(frozen=True)
class Chart:
    """A chart, and what the page writes around it.

    Args:
        name: its id in the page.
        title: above it.
        says: what it shows, in a sentence.
        up: what goes up along its vertical axis, or what its colours are, with the unit.
        figure: data and layout for plotly.js.
        keys: the legend.
    """

    name: str
    title: str
    says: str
    up: str
    figure: dict[str, Any]
    keys: tuple[Key, ...] = field(default=())


def lines(name: str, title: str, says: str, x: Axis, y: Axis, drawn: Sequence[Line]) -> Chart:
    """Lines over a common axis, each with its own dashes, mark and colour."""
    traces, keys = [], []
    for line, dash, mark, number in zip(drawn, cycle(DASHES), cycle(MARKS), cycle(range(COLOURS)), strict=False):
        colour = f"var(--series-{number + 1})"
        marked = not (line.faint or line.level)
        traces.append(
            {
                "type": "scatter",
                "name": escape(line.name),
                "x": numbers(thinned(line.x)),
                "y": numbers(thinned(line.y)),
                "mode": "lines+markers" if marked else "lines",
                "line": {"color": colour, "dash": dash, "width": 1 if line.faint else 2.2},
                "marker": {"color": colour, "symbol": mark, "size": 8, "maxdisplayed": 0 if line.every else MARKED},
                "opacity": 0.45 if line.faint else 1,
                "hovertemplate": f"%{{y:{y.format}}} {escape(y.unit)}",
                "showlegend": False,
            }
        )
        keys.append(Key(line.name, colour, dash, MARKS[mark] if marked else "", line.faint))
    if y.log and y.limits is None:
        y = y._replace(limits=_decades([v for line in drawn for v in line.y if v]))
    layout = layout_of(x, y) | {"hovermode": "x unified"}
    return Chart(name, title, says, f"↑ {y.title}", {"data": traces, "layout": layout}, tuple(keys))


def level(name: str, x: Sequence[float], value: float) -> Line:
    """A level across the whole chart; its points are close enough for one to be near the pointer."""
    low, high = min(x, default=0.0), max(x, default=1.0)
    return Line(name, [low + (high - low) * i / 60 for i in range(61)], [value] * 61, level=True)


def _decades(values: list[float]) -> tuple[float, float] | None:
    """The whole powers of ten around them."""
    found = [math.log10(v) for v in values if v > 0 and math.isfinite(v)]
    return (10.0 ** math.floor(min(found)), 10.0 ** (math.floor(max(found)) + 1)) if found else None


def layout_of(x: Axis, y: Axis) -> dict[str, Any]:
    """What all charts have in common: calm lines, room for the numbers, text in the colours of the page."""
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
    kind, size = ("log", 11) if axis.log else ("linear", 12)  # plotly.js makes powers of ten larger
    made: dict[str, Any] = {"type": kind, "exponentformat": "power", "tickfont": {"size": size}}
    if axis.limits is not None:
        made["range"] = [math.log10(v) if axis.log else v for v in axis.limits]
        if axis.log and made["range"][1] - made["range"][0] <= 2:
            made["dtick"] = "D2"  # 1, 2, 5
    if axis.unit:
        made["unifiedhovertitle"] = {"text": f"{escape(axis.unit)} %{{x:,}}"}
    return made


def numbers(values: Iterable[float | None], digits: int = 5) -> list[float | int | None]:
    """For JSON: as many digits as can be seen; what is no number is left out of the line.

    >>> numbers([1 / 3, float("nan"), None, 7])
    [0.33333, None, None, 7]
    """
    return [
        None if v is None or not math.isfinite(v) else v if isinstance(v, int) else float(f"{v:.{digits}g}")
        for v in values
    ]


def thinned(values: Sequence[T]) -> list[T]:
    """Every so many of them, so that few enough are left; always the last.

    >>> len(thinned(range(10_000))) <= POINTS, thinned(range(10_000))[-1]
    (True, 9999)
    """
    every = max(-(-len(values) // POINTS), 1)
    return list(values)[::-every][::-1]
