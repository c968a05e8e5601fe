"""Gradient-flow charts of a backward pass of the trained model."""

from dataclasses import dataclass

from elman.flow import Recording
from elman.flow.diagnosis import Finding
from elman.flow.jacobians import HORIZON_SHARE, Jacobians
from elman.report.page import credit
from elman.report.page.charts import Axis, Chart, Line, level, lines
from elman.report.shown import Missing, Recorded

STEP = Axis("step of the sequence", "step")
MIN_DECAY = 1e-8  # smallest fraction of a gradient that is shown


@dataclass(frozen=True)
class Flow:
    """Charts and tables of a recording.

    Args:
        batch: description of the batch.
        findings: the findings of the diagnosis.
        rows: for every state: name, horizon, growth, and the gradient norm at the first and the last step.
        charts: charts of gradient norms, gradient decay and gates.
        credit: heatmap of credit assignment, and a row of it.
        saturation: for every gate: name, and the fractions of its values at the lower and the upper end of the range.
    """

    batch: str
    findings: tuple[Finding, ...]
    rows: list[list[str]]
    charts: list[Chart]
    credit: tuple[Chart, Chart] | None
    saturation: list[list[str]]

    @property
    def kinds(self) -> str:
        """The kinds of all findings, separated by commas."""
        return ", ".join(dict.fromkeys(finding.kind for finding in self.findings))


def flow(recorded: Recorded | Missing, clipped: float | None) -> Flow | Missing:
    """Create diagnosis, tables and charts of a backward pass.

    Args:
        recorded: the recorded backward pass, or the reason why there is none.
        clipped: fraction of the training updates whose gradient was clipped; None if unknown.
    """
    if isinstance(recorded, Missing):
        return recorded
    recording = recorded.recording
    findings = recording.verdict(clipped, steps=None).findings
    if recording.first_non_finite is not None:
        return Flow(recorded.batch, findings, [], [], None, [])
    jacobians = [recording.jacobians(name) for name in recording.calls]
    charts = [_arriving(recording), _decay(jacobians), *([_gates(recording)] if recording.gates else [])]
    saturation = [[name, f"{gate.low:.1%}", f"{gate.high:.1%}"] for name, gate in recording.gates.items()]
    credit_charts = credit.charts(recording.credit(steps=credit.STEPS))
    return Flow(recorded.batch, findings, _rows(recording, jacobians), charts, credit_charts, saturation)


def _rows(recording: Recording, jacobians: list[Jacobians]) -> list[list[str]]:
    rows = []
    for cell in jacobians:
        for state, horizon in cell.horizon.items():
            norms = recording.over_sequences(state)
            reach = "no step" if horizon is None else f"{horizon} steps"
            rows.append([state, reach, f"{cell.rate(state):.3f} times", f"{norms[0]:.2g}", f"{norms[-1]:.2g}"])
    return rows


def _line(name: str, values: list[float]) -> Line:
    """Create a line over steps from 0; zeros become None, since the axis is logarithmic."""
    return Line(name, range(len(values)), [v or None for v in values])


def _arriving(recording: Recording) -> Chart:
    curves = [_line(name, recording.over_sequences(name).tolist()) for name in recording.state_gradients]
    text = (
        "Norm of the gradient of the loss with respect to the state after each step: through later steps, and directly."
    )
    y = Axis("gradient norm, root mean square over sequences", log=True, format=".2e")
    return lines("arriving", "Gradient norms", text, STEP, y, curves)


def _decay(jacobians: list[Jacobians]) -> Chart:
    curves = [_line(name, left.tolist()) for cell in jacobians for name, left in cell.decay.items()]
    values = [v for line in curves for v in line.y if v]
    limits = max(min(values) / 2, MIN_DECAY), 2 * max(values)
    curves.append(level(f"{HORIZON_SHARE:.0%}: horizon", max((line.x for line in curves), key=len), HORIZON_SHARE))
    text = "Share of a gradient from the last step that remains, by number of steps back."
    y = Axis("remaining share of the gradient", log=True, limits=limits, format=".2e")
    return lines("decay", "Gradient decay", text, Axis("steps back", "steps back:"), y, curves)


def _gates(recording: Recording) -> Chart:
    curves = [Line(name, range(len(gate.mean)), gate.mean.tolist()) for name, gate in recording.gates.items()]
    text = "Mean over units and sequences. A gate is closed at 0 and open at 1; signed values lie between -1 and 1."
    return lines("gates", "Gates and other bounded values", text, STEP, Axis("mean value", format=".3f"), curves)
