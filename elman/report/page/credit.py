"""Charts of credit assignment: the gradient of each step's loss at every earlier step."""

import math
from typing import Any

from elman.flow.credit import Credit
from elman.report.page.charts import Axis, Chart, Line, layout_of, lines, numbers

STEPS = 64  # number of steps whose losses are propagated back
POWERS = ("≤ 10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "max")  # ticks of the color scale, relative to the maximum
MIN_POWER = 1 - len(POWERS)  # exponent of the smallest value that has its own color


def charts(credit: Credit) -> tuple[Chart, Chart]:
    """Create the heatmap, and a line chart of its last row; the page can show the other rows in it."""
    norms = [numbers([v if v > 0 else None for v in row], 3) for row in credit.norms.tolist()]
    largest = max((v for row in norms for v in row if v), default=1.0)
    return _map(credit, norms, largest), _row(credit, norms[-1], largest)


def _quantity(credit: Credit) -> str:
    return f"norm of the gradient at {credit.name}"


def _map(credit: Credit, norms: list[list[float | None]], largest: float) -> Chart:
    hover_text = (
        f"loss at step t = %{{y}}<br>state after step k = %{{x}}<br>{_quantity(credit)}: %{{customdata}}<extra></extra>"
    )
    ticks = {"tickvals": list(range(MIN_POWER, 1)), "ticktext": POWERS}
    heat = {
        "type": "heatmap",
        "x": list(range(credit.norms.shape[1])),
        "y": credit.steps,
        "z": [numbers([_power(v, largest) for v in row], 3) for row in norms],
        "customdata": norms,
        "zmin": MIN_POWER,
        "zmax": 0,
        "colorscale": "Cividis",
        "hoverongaps": False,
        "hovertemplate": hover_text,
        "colorbar": ticks | {"orientation": "h", "y": -0.2, "yanchor": "top", "thickness": 10, "outlinewidth": 0},
    }
    layout = layout_of(Axis("k: step of the state"), Axis(""))
    title = layout["xaxis"]["title"] | {"text": "t: step of the loss"}
    layout["yaxis"] |= {"autorange": "reversed", "showgrid": False, "title": title}
    layout["shapes"] = [_mark("y", "x", credit.steps[-1])]
    return Chart(
        "credit",
        "Credit assignment",
        f"Row t: norm of the gradient of the loss at step t with respect to {credit.name} after step k.",
        f"Color: {_quantity(credit)}, relative to the maximum, {largest:.2g}",
        {"data": [heat], "layout": layout},
    )


def _power(value: float | None, largest: float) -> float | None:
    return max(math.log10(value / largest), MIN_POWER) if value else None


def _row(credit: Credit, norms: list[float | None], largest: float) -> Chart:
    T = len(norms)
    text = (
        f"Norm of the gradient of the loss at step t, the dashed line, with respect to {credit.name} after each step k."
    )
    y = Axis(_quantity(credit), log=True, limits=(largest * 10**MIN_POWER, 2 * largest), format=".2e")
    x = Axis("k: step of the state", "step", limits=(-1, T))
    row = lines("credit-row", "One row", text, x, y, [Line(credit.name, range(T), norms)])
    row.figure["layout"]["shapes"] = [_mark("x", "y", credit.steps[-1])]
    return row


def _mark(axis: str, other: str, position: int) -> dict[str, Any]:
    """Return a dashed line across the chart at a position on one axis."""
    line = {"color": "var(--accent)", "width": 1.5, "dash": "3px,2px"}
    ends = {f"{axis}0": position, f"{axis}1": position, f"{other}0": 0, f"{other}1": 1}
    return {"type": "line", f"{other}ref": f"{other} domain", "line": line, **ends}
