"""The diagnosis of a recording: findings in words, and remedies."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from elman import cells
from elman.cells._cell import Cell
from elman.flow._nonfinite import NonFinite
from elman.flow._recorded_call import RecordedCall
from elman.flow.jacobians import HORIZON_SHARE, Jacobians, count_sequences
from elman.flow.units import find_dead_units, summarize_gates
from elman.layers import Stack

if TYPE_CHECKING:
    from elman.flow.recording import Recording

Kind = Literal[
    "healthy", "fading", "vanishing", "growing", "exploding", "saturated", "dead", "non-finite", "clipped", "short"
]

NUM_STEPS = 256  # followed back from the end of each sequence, by default
NUM_SEQUENCES = 4
HEALTHY_SHARE = 0.1  # of a gradient that is left after all steps
MIN_FADING_STEPS = 64  # a gradient that reaches the horizon earlier is vanishing
MIN_FADING_SHARE = 0.25  # of all steps: the same
GROWING_FACTOR = 10  # over the whole way back
EXPLODING_FACTOR = 1e3
MAX_STUCK_STATE = 0.5  # share of the values of a state, through which all gradients pass
MAX_STUCK_GATE = 0.9  # share of the values of a gate, or of another named value
MAX_DEAD = 0.1  # share of the units of a state
MAX_CLIPPED = 0.9  # share of the updates


class Remedy(NamedTuple):
    """A remedy for a finding.

    Attributes:
        python: in Python.
        option: with `elman train`; "" if no option does it.
    """

    python: str
    option: str


SMALLER_RATE = Remedy("a smaller learning rate", "a smaller learning rate (--lr)")
CLIPPING = Remedy("clipping (torch.nn.utils.clip_grad_norm_ with 1 or less)", "clipping (--clip 1 or less)")
SHORTER_BPTT = Remedy("elman.bptt.Truncated with fewer steps", "a shorter --bptt")


@dataclass(frozen=True)
class Finding:
    """One finding of a verdict. `str` gives a line with remedies in Python.

    Args:
        kind: the finding in one word.
        name: the state or gate.
        text: a description with numbers.
        remedies: what to try, the most suitable first.
    """

    kind: Kind
    name: str
    text: str
    remedies: tuple[Remedy, ...] = ()

    def __str__(self) -> str:
        return self._line([remedy.python for remedy in self.remedies])

    def with_options(self) -> str:
        """Return the line with remedies as options of `elman train`."""
        return self._line(self.options)

    @property
    def options(self) -> list[str]:
        """The remedies as options of `elman train`, without those that have none."""
        return [remedy.option for remedy in self.remedies if remedy.option]

    def _line(self, remedies: list[str]) -> str:
        tried = f" Try {'; '.join(remedies)}." if remedies else ""
        return f"{self.kind}: {self.text}.{tried}"


@dataclass(frozen=True)
class Verdict:
    """The diagnosis of a recording: `str` gives one line per finding, with remedies in Python.

    Attributes:
        findings: what was diagnosed; empty if no sequence of the batch has a step.
    """

    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the findings, each once."""
        return tuple(dict.fromkeys(finding.kind for finding in self.findings))

    def __str__(self) -> str:
        return self._lines(map(str, self.findings))

    def with_options(self) -> str:
        """Return the lines with remedies as options of `elman train`."""
        return self._lines(map(Finding.with_options, self.findings))

    def _lines(self, lines: Iterable[str]) -> str:
        return "\n".join(lines) or "nothing to diagnose: all sequences of the batch are empty"


def diagnose(recording: "Recording", clipped: float | None, steps: int | None) -> Verdict:
    """Diagnose a recording; for the arguments see `Recording.verdict`."""
    bad = recording.first_non_finite
    if bad is not None:
        remedies = _remedies_for_overflow(recording.calls[bad.cell], bad)
        return Verdict((Finding("non-finite", bad.name, str(bad), remedies),))
    calls = [call for call in recording.calls.values() if count_sequences(call)]
    findings = [finding for call in calls if call.T > 1 for finding in _diagnose_call(recording, call, steps)]
    findings += _diagnose_single_steps([call for call in calls if call.T == 1])
    if clipped is not None and clipped > MAX_CLIPPED:
        text = f"{clipped:.0%} of the updates were clipped: clipping, not the learning rate, sets their size"
        findings.append(
            Finding("clipped", "", text, (SMALLER_RATE, Remedy("a larger norm for clipping", "a larger --clip")))
        )
    return Verdict(tuple(findings))


def _diagnose_call(recording: "Recording", call: RecordedCall, steps: int | None) -> Iterator[Finding]:
    yield _diagnose_decay(call, recording.jacobians(call.names[0], NUM_SEQUENCES, steps))
    for name, gate in summarize_gates(call).items():
        # A named value that is not a state is known to be a gate only in registered cells.
        limit = MAX_STUCK_STATE if name in call.names else MAX_STUCK_GATE if _registered_cell(call) else 1.0
        if gate.stuck > limit:
            ends = f"{gate.low:.0%} at the lower end of the range, {gate.high:.0%} at the upper"
            text = f"{gate.stuck:.0%} of the values of {name} are saturated ({ends})"
            yield Finding("saturated", name, text, _remedies_for_saturation(call))
    for (name, units), d in zip(find_dead_units(call).items(), call.d_states, strict=True):
        if len(units) > MAX_DEAD * d.shape[-1]:
            text = f"{len(units)} of the {d.shape[-1]} units of {name} are zero at every step of every sequence"
            tanh = _unset(call, nonlinearity="tanh") if _registered_cell(call) is cells.RNN else []
            yield Finding("dead", name, text, (SMALLER_RATE, *tanh))


def _diagnose_single_steps(calls: list[RecordedCall]) -> Iterator[Finding]:
    """Diagnose calls of one step, in which no gradient flows through time; together they may be one sequence."""
    if calls:
        first, *others = (call.names[0] for call in calls)
        more = f" and {len(others)} more have" if others else " has"
        text = f"{first}{more} one step per call, as with layer.step, so no gradient flows through time"
        yield Finding("short", first, text, (Remedy("one call with the whole sequence", ""),))


def _diagnose_decay(call: RecordedCall, jacobians: Jacobians) -> Finding:
    """Diagnose how a gradient that starts at the last step grows or decays on its way back.

    Judged by the state that keeps it longest, by its largest growth and by what is left at the first step:

    - exploding: it grows more than 1000 times; growing: more than 10 times;
    - healthy: at least 10 % is left;
    - fading: 1 % to 10 % is left; or less than 1 %, after at least 64 steps and a quarter of the steps looked at;
    - vanishing: less than 1 % is left, after fewer steps.
    """
    name, decay = jacobians.longest
    steps, horizon, largest = len(decay) - 1, jacobians.horizon[name], float(decay.max())
    back = int(decay.argmax()) if largest > GROWING_FACTOR else horizon or steps
    rate = f"{float(decay[back]) ** (1 / back):.3g} times per step"
    if steps < call.T:
        rate += f"; measured over the last {steps} of {call.T} steps"
    if largest > GROWING_FACTOR:
        kind: Kind = "exploding" if largest > EXPLODING_FACTOR else "growing"
        text = f"the gradient of {name} grows {_times(largest)} within {back} steps back ({rate})"
        return Finding(kind, name, text, _remedies_for_growth(call))
    if horizon is not None:
        kind = "vanishing" if horizon < max(MIN_FADING_STEPS, MIN_FADING_SHARE * steps) else "fading"
        share = f"{HORIZON_SHARE:.0%}"
        text = f"the gradient of {name} falls below {share} of its norm after {horizon} of {steps} steps back"
        return Finding(kind, name, f"{text} ({rate})", _remedies_for_vanishing(call, horizon))
    reach = f"{float(decay[-1]):.2g} of its norm after all {steps} steps back ({rate})"
    if float(decay[-1]) < HEALTHY_SHARE:
        text = f"the gradient of {name} decays to {reach}"
        return Finding("fading", name, text, _remedies_for_vanishing(call, None))
    return Finding("healthy", name, f"the gradient of {name} keeps {reach}")


def _times(factor: float) -> str:
    return f"{factor:.1e} times" if factor > EXPLODING_FACTOR else f"{factor:.3g} times"


def _remedies_for_vanishing(call: RecordedCall, horizon: int | None) -> tuple[Remedy, ...]:
    """Return remedies for a gradient that is lost at the horizon, or weak after all steps."""
    cell, shorter = _registered_cell(call), list[Remedy]()
    if horizon is not None and 2 * horizon < call.T:
        reason = f"beyond {2 * horizon} steps hardly anything is learned"
        shorter.append(
            Remedy(f"elman.bptt.Truncated({2 * horizon}): {reason}", f"--bptt {2 * horizon} or less: {reason}")
        )
    if cell is cells.RNN:
        gates = Remedy("a cell with gates (elman.LSTM, elman.GRU)", "a cell with gates (--cell lstm, --cell gru)")
        return gates, *_unset(call, init="orthogonal"), *shorter
    if cell is not None and "f" in cell.gates:
        higher = float(getattr(call.label.layer, "forget_bias", None) or 0) + 2
        return Remedy(f"forget_bias={higher:g} or more", ""), *_unset(call, init="chrono"), *shorter
    return Remedy("elman.LSTM with forget_bias=2", "--cell lstm"), *shorter


def _remedies_for_growth(call: RecordedCall) -> tuple[Remedy, ...]:
    cell = _registered_cell(call)
    if cell is cells.RNN:
        gates = Remedy("elman.LSTM or elman.GRU", "--cell lstm or --cell gru")
        return CLIPPING, *_unset(call, init="orthogonal"), gates, SHORTER_BPTT
    return CLIPPING, *_layer_norm(cell), *_unset(call, init="orthogonal"), SHORTER_BPTT


def _remedies_for_overflow(call: RecordedCall, bad: NonFinite) -> tuple[Remedy, ...]:
    growth = _remedies_for_growth(call)
    if bad.where == "input":
        return _same("finite inputs with mean 0 and standard deviation 1"), _smaller_rate(
            "these values come from the layer below"
        )
    if bad.where == "state":
        return _same("a finite initial state"), _smaller_rate("the state comes from an earlier batch"), *growth
    if bad.where == "parameter":
        return _same("the weights of an earlier checkpoint"), SMALLER_RATE, *growth
    return SMALLER_RATE, *growth


def _remedies_for_saturation(call: RecordedCall) -> tuple[Remedy, ...]:
    inputs = _same("inputs with mean 0 and standard deviation 1")
    return *_layer_norm(_registered_cell(call)), SMALLER_RATE, _same("weight decay"), inputs


def _same(text: str) -> Remedy:
    """A remedy that is the same in Python and on the command line."""
    return Remedy(text, text)


def _smaller_rate(condition: str) -> Remedy:
    return Remedy(*(f"{text}, if {condition}" for text in SMALLER_RATE))


def _layer_norm(cell: type[Cell] | None) -> list[Remedy]:
    names = {cells.LSTM: "layer_norm_lstm", cells.GRU: "layer_norm_gru"}
    return [Remedy("layer_norm=True", f"--cell {names[cell]}")] if cell in names else []


def _unset(call: RecordedCall, **options: str) -> list[Remedy]:
    """Of options of the layer, which tasks do not have, those that do not have these values already."""
    layer = call.label.layer
    return [Remedy(f'{name}="{value}"', "") for name, value in options.items() if getattr(layer, name, None) != value]


def _registered_cell(call: RecordedCall) -> type[Cell] | None:
    layer = call.label.layer
    return layer.cell_type if isinstance(layer, Stack) else None
