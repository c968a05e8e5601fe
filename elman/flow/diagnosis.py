"""The diagnosis of a recording: findings in words, and remedies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from elman import cells
from elman.cells._cell import Cell
from elman.flow._nonfinite import NonFinite
from elman.flow._recorded_call import RecordedCall
from elman.flow.jacobians import ARRIVES, Jacobians, sequences_of
from elman.flow.units import dead, gates
from elman.layers import Stack

if TYPE_CHECKING:
    from elman.flow.recording import Recording

Kind = Literal[
    "healthy", "fading", "vanishing", "growing", "exploding", "saturated", "dead", "non-finite", "clipped", "short"
]

STEPS = 256  # of each sequence from the last one back, that are looked at where nothing else is said
SEQUENCES = 4
ENOUGH = 0.1  # of a gradient: where this is left after all steps, it is healthy
FAR = 64  # steps: a gradient that lives as long is not vanishing, but fading,
SHORT = 0.25  # unless it is gone within this part of the steps
GROWS = 10  # times that a gradient grows on its way back
EXPLODES = 1e3
SATURATED = 0.5  # of the values of a state are stuck, through which all gradients go
SHUT = 0.9  # of those of a gate, or of another value within the step
DEAD = 0.1  # of the units of a state
RULES = 0.9  # of the updates that were clipped


@dataclass(frozen=True)
class Finding:
    """One sentence of a verdict.

    Args:
        kind: in one word.
        name: of the state or gate.
        text: with the numbers.
        remedies: options to set, those that fit best first.
    """

    kind: Kind
    name: str
    text: str
    remedies: tuple[str, ...] = ()

    def __str__(self) -> str:
        tried = f" Try {'; '.join(self.remedies)}." if self.remedies else ""
        return f"{self.kind}: {self.text}.{tried}"


@dataclass(frozen=True)
class Verdict:
    """What a recording means: `str` gives it line by line. Without findings, there was nothing to judge."""

    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Each kind that was found, once."""
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "nothing to judge: no sequence of the batch has a step"


def verdict(recording: "Recording", clipped: float | None, steps: int | None) -> Verdict:
    """As `Recording.verdict`."""
    bad = recording.first_non_finite
    if bad is not None:
        return Verdict((Finding("non-finite", bad.name, str(bad), _against_overflow(recording.calls[bad.cell], bad)),))
    calls = [call for call in recording.calls.values() if sequences_of(call)]
    findings = [finding for call in calls if call.T > 1 for finding in _of_call(recording, call, steps)]
    findings += _of_single_steps([call for call in calls if call.T == 1])
    if clipped is not None and clipped > RULES:
        text = f"{clipped:.0%} of the updates were clipped: clipping rules the training, and not the learning rate"
        findings.append(Finding("clipped", "", text, ("a smaller learning rate (--lr)", "a larger --clip")))
    return Verdict(tuple(findings))


def _of_call(recording: "Recording", call: RecordedCall, steps: int | None) -> Iterator[Finding]:
    yield _through_time(call, recording.jacobians(call.names[0], SEQUENCES, steps))
    for name, gate in gates(call).items():
        # What is no state is known to be a gate only in cells of the shelf.
        limit = SATURATED if name in call.names else SHUT if _cell(call) else 1.0
        if gate.stuck > limit:
            ends = f"{gate.low:.0%} at its lower end, {gate.high:.0%} at its upper"
            text = f"{gate.stuck:.0%} of the values of {name} hardly pass a gradient on ({ends})"
            yield Finding("saturated", name, text, _against_saturation(call))
    for (name, units), d in zip(dead(call).items(), call.d_states, strict=True):
        if len(units) > DEAD * d.shape[-1]:
            text = f"{len(units)} of the {d.shape[-1]} units of {name} are zero at every step of every sequence"
            yield Finding("dead", name, text, ("a smaller learning rate (--lr)", 'nonlinearity="tanh"'))


def _of_single_steps(calls: list[RecordedCall]) -> Iterator[Finding]:
    """All of them are one sequence, perhaps; in a call of one step nothing goes through time."""
    if calls:
        first, *others = (call.names[0] for call in calls)
        more = f" and {len(others)} more have" if others else " has"
        text = f"{first}{more} one step per call, as layer.step has, in which no gradient goes through time"
        yield Finding("short", first, text, ("one call with the whole sequence",))


def _through_time(call: RecordedCall, found: Jacobians) -> Finding:
    """What becomes of a gradient that begins at the last step, on its way back over all steps that are looked at.

    The state in which it lives longest is judged, by the largest factor and by what is left at the first step:

    - exploding: it grows more than 1000 times; growing: more than 10 times;
    - healthy: at least 10 % is left;
    - fading: 1 % to 10 % is left; or less, but only after 64 steps or more, and a quarter of all steps;
    - vanishing: less than 1 % is left, and that sooner.
    """
    name, left = found.longest
    steps, horizon, most = len(left) - 1, found.horizon[name], float(left.max())
    back = int(left.argmax()) if most > GROWS else horizon or steps
    rate = f"{float(left[back]) ** (1 / back):.3g} times per step"
    if steps < call.T:
        rate += f"; of {call.T} steps the last {steps} were looked at"
    if most > GROWS:
        kind: Kind = "exploding" if most > EXPLODES else "growing"
        text = f"on its way back a gradient of {name} becomes {_times(most)} as large within {back} steps ({rate})"
        return Finding(kind, name, text, _against_growth(call))
    if horizon is not None:
        kind = "vanishing" if horizon < max(FAR, SHORT * steps) else "fading"
        if horizon < SHORT * steps:
            text = f"of a gradient of {name}, less than {ARRIVES:.0%} is left after {horizon} of {steps} steps back"
        else:
            text = f"a gradient of {name} fades on its way: {ARRIVES:.0%} of it after {horizon} of {steps} steps"
        return Finding(kind, name, f"{text} ({rate})", _against_vanishing(call, horizon))
    reach = f"{float(left[-1]):.2g} of it after all of {steps} steps ({rate})"
    if float(left[-1]) < ENOUGH:
        return Finding("fading", name, f"a gradient of {name} loses strength: {reach}", _against_vanishing(call, None))
    return Finding("healthy", name, f"a gradient of {name} reaches back: {reach}")


def _times(factor: float) -> str:
    return f"{factor:.1e} times" if factor > EXPLODES else f"{factor:.3g} times"


def _against_vanishing(call: RecordedCall, horizon: int | None) -> tuple[str, ...]:
    """Remedies for a gradient that is gone at the horizon, or weak after all steps."""
    cell, shorter = _cell(call), tuple[str, ...]()
    if horizon is not None and 2 * horizon < call.T:
        shorter = (f"a shorter --bptt: beyond {2 * horizon} steps hardly anything is learned",)
    if cell is cells.RNN:
        return "a cell with gates (--cell lstm, --cell gru)", 'init="orthogonal"', *shorter
    if cell is not None and "f" in cell.gates:
        return "forget_bias=2 or more", 'init="chrono"', *shorter
    return "--cell lstm, in Python with forget_bias=2", *shorter


def _against_growth(call: RecordedCall) -> tuple[str, ...]:
    cell = _cell(call)
    if cell is cells.RNN:
        return "clipping (--clip 1 or less)", 'init="orthogonal"', "--cell lstm or --cell gru", "a shorter --bptt"
    normed = ("layer_norm=True",) if cell in (cells.LSTM, cells.GRU) else ()
    return "clipping (--clip 1 or less)", *normed, 'init="orthogonal"', "a shorter --bptt"


def _against_overflow(call: RecordedCall, bad: NonFinite) -> tuple[str, ...]:
    growth = _against_growth(call)
    if bad.where == "input":
        return "finite inputs of mean 0 and deviation 1", "if a layer below makes them, a smaller learning rate (--lr)"
    if bad.where == "state":
        return (
            "a finite state to begin with",
            "if an earlier batch has made it, a smaller learning rate (--lr)",
            *growth,
        )
    if bad.where == "parameter":
        return "the weights of an earlier checkpoint", "a smaller learning rate (--lr)", *growth
    return "a smaller learning rate (--lr)", *growth


def _against_saturation(call: RecordedCall) -> tuple[str, ...]:
    normed = ("layer_norm=True",) if _cell(call) in (cells.LSTM, cells.GRU) else ()
    return *normed, "a smaller learning rate (--lr)", "weight decay", "inputs of mean 0 and deviation 1"


def _cell(call: RecordedCall) -> type[Cell] | None:
    layer = call.label.layer
    return layer.cell_type if isinstance(layer, Stack) else None
