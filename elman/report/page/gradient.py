"""The gradient's way back through time, for the page."""

from dataclasses import dataclass
from typing import Any

import torch

from elman.flow import Recording
from elman.flow.credit import Credit
from elman.flow.history import Row as HistoryRow
from elman.flow.jacobians import ARRIVES, Jacobians
from elman.flow.verdict import Finding
from elman.report.page import columns
from elman.report.page.charts import Axis, Chart, Line, layout_of, level, lines, numbers
from elman.report.shown import Missing, Recorded
from elman.runs import Run

CREDIT = 64  # steps whose losses are followed
FAINTEST = -6  # power of ten of the most, below which the map shows nothing
STEP = Axis("step of the sequence", "step")
POWERS = {0: "most", -1: "10⁻¹", -2: "10⁻²", -3: "10⁻³", -4: "10⁻⁴", -5: "10⁻⁵", -6: "10⁻⁶"}


@dataclass(frozen=True)
class Flow:
    """A recording as the page shows it."""

    of: str
    findings: tuple[Finding, ...]
    rows: list[list[str]]
    charts: list[Chart]
    credit: tuple[Chart, Chart] | None
    ends: list[list[str]]  # of gates: how many of their values are at either end

    @property
    def kinds(self) -> str:
        """All findings, in a word each."""
        return ", ".join(dict.fromkeys(finding.kind for finding in self.findings))


def flow(found: Recorded | Missing, clipped: float | None) -> Flow | Missing:
    """Verdict, tables and charts of a backward pass.

    Args:
        found: what was recorded.
        clipped: which part of the updates of the training was clipped, if anybody knows.
    """
    if isinstance(found, Missing):
        return found
    recording = found.recording
    findings = recording.verdict(clipped).findings
    if recording.first_non_finite is not None:
        return Flow(found.of, findings, [], [], None, [])
    jacobians = [recording.jacobians(name) for name in recording.calls]
    charts = [_arriving(recording), _decay(jacobians)]
    if recording.gates:
        charts.append(_gates(recording))
    ends = [[name, f"{gate.low:.1%}", f"{gate.high:.1%}"] for name, gate in recording.gates.items()]
    return Flow(found.of, findings, _rows(recording, jacobians), charts, _credit(recording.credit(steps=CREDIT)), ends)


def _rows(recording: Recording, jacobians: list[Jacobians]) -> list[list[str]]:
    rows = []
    for found in jacobians:
        for state, horizon in found.horizon.items():
            norms = recording.state_gradients[state].square().sum(1).sqrt()
            reach = "more is left" if horizon is None else f"{horizon} steps"
            rows.append([state, reach, f"{found.growth:.3f} times", f"{norms[0]:.2g}", f"{norms[-1]:.2g}"])
    return rows


def _arriving(recording: Recording) -> Chart:
    drawn = []
    for name, norms in recording.state_gradients.items():
        values = [v or None for v in norms.square().mean(1).sqrt().tolist()]
        drawn.append(Line(name, range(len(values)), values))
    return lines(
        "arriving", "What arrives at each state",
        "Norm of the gradient of the loss at the state after each step, from the steps after it and from the loss.",
        STEP, Axis("norm of the gradient, root mean square over the pieces", log=True, format=".2e"), drawn,
    )  # fmt: skip


def _decay(jacobians: list[Jacobians]) -> Chart:
    drawn = []
    for found in jacobians:
        for name, left in found.decay.items():
            values = [v if v > 0 else None for v in left.tolist()]
            drawn.append(Line(name, range(len(values)), values))
    longest = max((line.x for line in drawn), key=len)
    drawn.append(level(f"{ARRIVES:.0%}: the horizon", longest, ARRIVES))
    return lines(
        "decay", "How long a gradient lives",
        "Of a gradient that begins at the last step, the part that is left after so many steps back.",
        Axis("steps back", "steps back:"), Axis("part of the gradient that is left", log=True, format=".2e"), drawn,
    )  # fmt: skip


def _gates(recording: Recording) -> Chart:
    drawn = [Line(name, range(len(gate.mean)), gate.mean.tolist()) for name, gate in recording.gates.items()]
    says = "Mean value of each gate over units and pieces; 0 is shut, 1 is open."
    return lines("gates", "What the gates do", says, STEP, Axis("mean value", format=".3f"), drawn)


def _credit(found: Credit) -> tuple[Chart, Chart]:
    """A map of all losses that were followed, and the row of one of them."""
    rows, T = [numbers(row, 3) for row in found.norms.tolist()], found.norms.shape[1]
    reached = [[v or None for v in row] for row in rows]
    most = max((v for row in reached for v in row if v), default=1.0)
    logs = (found.norms / most).log10().clamp(min=FAINTEST)
    powers = [[None if not v else round(p, 3) for v, p in zip(*pair, strict=True)] for pair in zip(rows, logs.tolist(), strict=True)]
    what = f"norm of the gradient at {found.name}"
    k, t = Axis("k: step of the state"), found.steps[-1]
    layout = layout_of(k, Axis(""))
    layout["yaxis"] |= {"autorange": "reversed", "title": {"text": "t: step of the loss", "standoff": 4}}
    layout["shapes"] = [_mark("y", t, T - 1)]
    heat: dict[str, Any] = {
        "type": "heatmap", "x": list(range(T)), "y": list(found.steps), "z": powers, "customdata": reached,
        "zmin": FAINTEST, "zmax": 0, "colorscale": "Cividis", "hoverongaps": False,
        "hovertemplate": "loss at step t = %{y}<br>state after step k = %{x}<br>" + what + ": %{customdata}<extra></extra>",
        "colorbar": {"orientation": "h", "y": -0.22, "yanchor": "top", "thickness": 10, "len": 1, "outlinewidth": 0,
                     "tickvals": list(POWERS), "ticktext": list(POWERS.values())},
    }  # fmt: skip
    picture = Chart(
        "credit", "Which loss is told of which step",
        f"Row t: how much of the loss at step t arrives at {found.name} after step k, on its way back.",
        f"{what}, as a part of the largest, {most:.2g}", {"data": [heat], "layout": layout},
    )  # fmt: skip
    row = lines(
        "credit-row", "One row of the map", "", k, Axis(what, log=True, limits=(most * 10**FAINTEST, most * 2), format=".2e"),
        [Line(found.name, range(T), reached[-1])],
    )  # fmt: skip
    row.figure["layout"]["xaxis"]["range"] = [0, T - 1]
    row.figure["layout"]["shapes"] = [_mark("x", t, 1)]
    return picture, row


def _mark(axis: str, at: int, length: float) -> dict[str, Any]:
    other = "x" if axis == "y" else "y"
    return {
        "type": "line", f"{axis}0": at, f"{axis}1": at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": f"{other} domain",
        "line": {"color": "var(--accent)", "width": 1.5, "dash": "3px,2px"},
    }  # fmt: skip


@dataclass(frozen=True)
class History:
    """flow.csv as the page shows it; `clipped` is the part of its updates that were clipped."""

    charts: list[Chart]
    clipped: float


def history(run: Run) -> History | Missing:
    """How the gradient's way back changed in the course of the training.

    Raises:
        BadInput: if flow.csv cannot be read.
    """
    path, names = run.path / "flow.csv", ["step", *HistoryRow._fields]
    if not path.exists():
        return Missing("No history: the training was not asked to look at it, with --flow-every N.")
    rows = columns.read(path, names)
    if not rows:
        return Missing("No history yet: flow.csv has no rows.")
    of = list(dict.fromkeys(row["name"] for row in rows))
    tables = {name: columns.numbers(path, [r for r in rows if r["name"] == name], [n for n in names if n != "name"]) for name in of}
    return History([_horizon(tables), _growth(tables)], _mean(tables[of[0]]["clipped"]))


def _mean(values: list[float | None]) -> float:
    return float(torch.tensor([v or 0.0 for v in values]).mean())


TRAINING = Axis("training step", "step")


def _horizon(tables: dict[str, columns.Columns]) -> Chart:
    drawn = [Line(name, *columns.both(table, "step", "horizon")) for name, table in tables.items()]
    first = next(iter(tables.values()))
    drawn.append(level("all steps that were looked at", drawn[0].x, max(v or 0 for v in first["steps"])))
    return lines(
        "horizon", "How far a gradient reaches back",
        f"After how many steps back less than {ARRIVES:.0%} of it is left; at the upper line it reaches further than that.",
        TRAINING, Axis("steps back", "steps"), drawn,
    )  # fmt: skip


def _growth(tables: dict[str, columns.Columns]) -> Chart:
    drawn = [Line(name, *columns.both(table, "step", "growth")) for name, table in tables.items()]
    drawn.append(level("1: neither grows nor fades", drawn[0].x, 1.0))
    return lines(
        "growth", "Growth with each step back", "How many times larger a gradient becomes with each step back.",
        TRAINING, Axis("times per step back", "times", format=".4f"), drawn,
    )  # fmt: skip
