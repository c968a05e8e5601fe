"""A backward pass through the trained model, for the page."""

from dataclasses import dataclass

from elman.flow import Recording
from elman.flow.diagnosis import Finding
from elman.flow.jacobians import HORIZON_SHARE, Jacobians
from elman.report.page import credit
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing, Recorded

STEP = Axis("step of the sequence", "step")
FAINTEST = 1e-8  # part of a gradient, below which nobody looks


@dataclass(frozen=True)
class Flow:
    """A recording as the page shows it.

    Args:
        of: what it went through.
        findings: the verdict.
        rows: of every state: its name, horizon, growth, and the gradient at both ends.
        charts: what arrives, how long it lives, what the gates do.
        credit: the map, and a row of it.
        ends: of every gate: its name, and how many of its values are at either end.
    """

    of: str
    findings: tuple[Finding, ...]
    rows: list[list[str]]
    charts: list[Chart]
    credit: tuple[Chart, Chart] | None
    ends: list[list[str]]

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
    findings = recording.verdict(clipped, steps=None).findings
    if recording.first_non_finite is not None:
        return Flow(found.of, findings, [], [], None, [])
    jacobians = [recording.jacobians(name) for name in recording.calls]
    charts = [_arriving(recording), _decay(jacobians), *([_gates(recording)] if recording.gates else [])]
    ends = [[name, f"{gate.low:.1%}", f"{gate.high:.1%}"] for name, gate in recording.gates.items()]
    told = credit.charts(recording.credit(steps=credit.STEPS))
    return Flow(found.of, findings, _rows(recording, jacobians), charts, told, ends)


def _rows(recording: Recording, jacobians: list[Jacobians]) -> list[list[str]]:
    rows = []
    for found in jacobians:
        for state, horizon in found.horizon.items():
            norms = recording.over_sequences(state)
            reach = "more is left" if horizon is None else f"{horizon} steps"
            rows.append([state, reach, f"{found.rate(state):.3f} times", f"{norms[0]:.2g}", f"{norms[-1]:.2g}"])
    return rows


def _line(name: str, values: list[float]) -> Line:
    """Over steps from 0; what is zero has no place on a logarithmic axis."""
    return Line(name, range(len(values)), [v or None for v in values])


def _arriving(recording: Recording) -> Chart:
    drawn = [_line(name, recording.over_sequences(name).tolist()) for name in recording.state_gradients]
    says = "The gradient of the loss at the state after each step: from the steps after it, and from the loss itself."
    y = Axis("norm of the gradient, root mean square over the pieces", log=True, format=".2e")
    return lines("arriving", "What arrives at each state", says, STEP, y, drawn)


def _decay(jacobians: list[Jacobians]) -> Chart:
    drawn = [_line(name, left.tolist()) for found in jacobians for name, left in found.decay.items()]
    values = [v for line in drawn for v in line.y if v]
    limits = max(min(values) / 2, FAINTEST), 2 * max(values)
    drawn.append(level(f"{HORIZON_SHARE:.0%}: the horizon", max((line.x for line in drawn), key=len), HORIZON_SHARE))
    says = "Of a gradient that begins at the last step, the part that is left after so many steps back."
    y = Axis("part of the gradient that is left", log=True, limits=limits, format=".2e")
    return lines("decay", "How long a gradient lives", says, Axis("steps back", "steps back:"), y, drawn)


def _gates(recording: Recording) -> Chart:
    drawn = [Line(name, range(len(gate.mean)), gate.mean.tolist()) for name, gate in recording.gates.items()]
    says = "The mean over units and pieces. A gate is shut at 0 and open at 1; what has a sign lies between -1 and 1."
    return lines("gates", "Gates and other bounded values", says, STEP, Axis("mean value", format=".3f"), drawn)
