"""The map of credit for the page: which loss is told of which step, and a row of it by itself."""

import math
from typing import Any

from elman.flow.credit import Credit
from elman.report.page.charts import Axis, Chart, Line, layout_of, lines, numbers

STEPS = 64  # whose losses are followed
POWERS = ("≤ 10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "most")  # of the largest, that the map has colours for
FAINTEST = 1 - len(POWERS)


def charts(found: Credit) -> tuple[Chart, Chart]:
    """The map, and the row of the last loss; the page goes from row to row."""
    norms = [numbers([v if v > 0 else None for v in row], 3) for row in found.norms.tolist()]
    most = max((v for row in norms for v in row if v), default=1.0)
    return _map(found, norms, most), _row(found, norms[-1], most)


def _what(found: Credit) -> str:
    return f"norm of the gradient at {found.name}"


def _map(found: Credit, norms: list[list[float | None]], most: float) -> Chart:
    pointed = (
        f"loss at step t = %{{y}}<br>state after step k = %{{x}}<br>{_what(found)}: %{{customdata}}<extra></extra>"
    )
    ticks = {"tickvals": list(range(FAINTEST, 1)), "ticktext": POWERS}
    heat = {
        "type": "heatmap",
        "x": list(range(found.norms.shape[1])),
        "y": found.steps,
        "z": [numbers([_power(v, most) for v in row], 3) for row in norms],
        "customdata": norms,
        "zmin": FAINTEST,
        "zmax": 0,
        "colorscale": "Cividis",
        "hoverongaps": False,
        "hovertemplate": pointed,
        "colorbar": ticks | {"orientation": "h", "y": -0.2, "yanchor": "top", "thickness": 10, "outlinewidth": 0},
    }
    layout = layout_of(Axis("k: step of the state"), Axis(""))
    title = layout["xaxis"]["title"] | {"text": "t: step of the loss"}
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False, "title": title}
    layout["shapes"] = [_mark("y", "x", found.steps[-1])]
    return Chart(
        "credit",
        "How far each loss reaches back",
        f"Row t: how much of the loss at step t arrives at {found.name} after step k, on its way back.",
        f"Colour: {_what(found)}, as a part of the largest, {most:.2g}",
        {"data": [heat], "layout": layout},
    )


def _power(value: float | None, most: float) -> float | None:
    return max(math.log10(value / most), FAINTEST) if value else None


def _row(found: Credit, norms: list[float | None], most: float) -> Chart:
    T = len(norms)
    says = f"How much of the loss at step t, the dashed line, arrives at {found.name} after each step k before it."
    y = Axis(_what(found), log=True, limits=(most * 10**FAINTEST, 2 * most), format=".2e")
    x = Axis("k: step of the state", "step", limits=(-1, T))
    row = lines("credit-row", "One row of it", says, x, y, [Line(found.name, range(T), norms)])
    row.figure["layout"]["shapes"] = [_mark("x", "y", found.steps[-1])]
    return row


def _mark(axis: str, other: str, at: int) -> dict[str, Any]:
    """A dashed line through the whole chart."""
    line = {"color": "var(--accent)", "width": 1.5, "dash": "3px,2px"}
    ends = {f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1}
    return {"type": "line", f"{other}ref": f"{other} domain", "line": line, **ends}
