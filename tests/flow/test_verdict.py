"""What is said of a recording: what counts as memory, and how much was looked at."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import flow
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from elman.flow import Recording
from elman.flow.history import rows_of

T, B, D, H = 40, 2, 3, 4
every_executor = pytest.mark.parametrize("executor", EXECUTORS)
Pair = tuple[Tensor, Tensor]


class Cell(nn.Module):
    """A tanh cell that forgets quickly, beside a second state."""

    state_size = (H, H)
    state_names = ("h", "s")

    def __init__(self, second: Callable[[Tensor, Tensor, Tensor], Tensor], read: float) -> None:
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(D, H)), nn.Parameter(0.1 * torch.eye(H))
        self.register_buffer("tick", torch.ones(()))
        self.second, self.read = second, read

    def forward(self, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
        """One step: h reads s, and `second` makes of (h, s, tick) the next s."""
        h, s = state
        new = torch.tanh(x @ self.W + h @ self.U + self.read * s)
        return new, (new, self.second(h, s, self.get_buffer("tick")))


def recorded(second: Callable[[Tensor, Tensor, Tensor], Tensor], executor: str, read: float = 0.1) -> Recording:
    layer = elman.Recurrent(Cell(second, read), executor=executor)
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0][-1].sum().backward()
    return found


HIDES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], float]] = {
    "a constant": (lambda h, s, tick: s, 0.1),
    "a clock": (lambda h, s, tick: s + 0.01 * tick, 0.1),
    "a sum that nobody reads": (lambda h, s, tick: s + h, 0.0),
    "what grows by itself": (lambda h, s, tick: 1.5 * s + tick, 0.0),
}


@pytest.mark.parametrize("name", HIDES)
def test_what_teaches_nothing_is_no_memory(name: str) -> None:
    second, read = HIDES[name]
    found = recorded(second, "loop", read)
    (finding,) = (finding for finding in found.verdict().findings if finding.kind in ("vanishing", "healthy"))
    assert (finding.kind, finding.name) == ("vanishing", "h")
    jacobians = found.jacobians()
    assert jacobians.memory == ("h",)
    assert jacobians.growth < 0.2
    assert jacobians.horizon["s"] is None  # it is told all the same


@every_executor
def test_what_is_read_and_written_is_memory(executor: str) -> None:
    found = recorded(lambda h, s, tick: s + 0.1 * h, executor)
    assert found.verdict().findings[0].name == "s"
    assert found.verdict().findings[0].kind == "healthy"
    clock = recorded(lambda h, s, tick: s + 0.01 * tick, executor)
    assert clock.verdict().findings[0].name == "h"
    delay = recorded(lambda h, s, tick: h, "loop").jacobians()
    assert delay.memory == ("h", "s")  # by way of h, a step later
    assert delay.longest[0] == "h"


def test_a_sum_counts_if_it_is_in_the_loss() -> None:
    layer = elman.Recurrent(Cell(lambda h, s, tick: s + h, 0.0), executor="loop")
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[1][1].sum().backward()
    assert found.verdict().findings[0].name == "s"


@every_executor
def test_both_states_of_an_lstm_are_memory(executor: str) -> None:
    layer = elman.LSTM(D, H, executor=executor, forget_bias=2.0)
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0][-1].sum().backward()
    assert found.jacobians().memory == ("h_l0", "c_l0")
    assert found.jacobians().longest[0] == "c_l0"


def test_without_anything_to_learn_all_is_memory() -> None:
    layer = elman.Recurrent(lambda x, h: h * 0.5, state_size=H)
    h = torch.ones(B, H, requires_grad=True)
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D), h)[0].sum().backward()
    assert found.jacobians().memory == ("h",)


@pytest.mark.slow
def test_as_many_steps_are_judged_as_are_asked_for() -> None:
    """A slow leak, which the last steps do not show."""
    layer = elman.Recurrent(
        lambda x, h, a: a * h + x, state_size=1, parameters={"a": torch.tensor(0.95)}, executor="loop"
    )
    with flow.record(layer) as found:
        layer(torch.randn(600, 1, 1))[0].sum().backward()
    few, usual, all_of_them = found.verdict(steps=80), found.verdict(), found.verdict(steps=None)
    assert few.kinds == usual.kinds == ("fading",)  # 1.7 % is left, and less than 1 % after 90 steps
    assert "after all 80 steps back (0.95 times per step; measured over the last 80 of 600 steps)." in str(few)
    assert "; measured over the last 256 of 600 steps)." in str(usual)
    assert all_of_them.kinds == ("vanishing",)
    assert "falls below 1% of its norm after 90 of 600 steps back (0.95 times per step)." in str(all_of_them)
    with pytest.raises(ValueError, match=r"^flow.verdict: steps: expected an integer of at least 1, got 0"):
        found.verdict(steps=0)


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("mode", [Full(), Checkpointed(2), Truncated(3)], ids=str)
@pytest.mark.parametrize("lengths", [None, [], [0, 0]], ids=str)
def test_without_a_sequence_there_is_nothing_to_judge(lengths: list[int] | None, mode: Mode, executor: str) -> None:
    layer = elman.LSTM(D, H, executor=executor, bptt=mode)
    with flow.record(layer) as found:
        layer(torch.randn(5, len(lengths or ()), D), lengths=lengths)[0].sum().backward()
    verdict = found.verdict()
    assert verdict.kinds == ()
    assert str(verdict) == "nothing to diagnose: all sequences of the batch are empty"
    assert not list(rows_of(found, 0.0, 0.0))
    assert not found.dead["h_l0"].numel()
    assert not found.gates or lengths == [0, 0]  # of which the engine is given a step to forget
    with pytest.raises(ValueError, match=r"^flow.jacobians: expected a batch with at least one time step, got empty"):
        found.jacobians()


def test_verdicts() -> None:
    torch.manual_seed(0)
    found = {}
    for name, scale in (("vanishing", 0.3), ("healthy", 1.0), ("exploding", 1.5)):
        Q = torch.linalg.qr(torch.randn(H, H)).Q
        layer = elman.Recurrent(lambda x, h, W: x + h @ W.T, state_size=H, parameters={"W": scale * Q})
        with flow.record(layer) as found[name]:
            layer(torch.randn(60, B, H))[1].sum().backward()
    for kind, recording in found.items():
        assert recording.verdict().kinds == (kind,)
    text = str(found["healthy"].verdict(clipped=0.97))
    assert "clipped: 97% of the updates were clipped" in text
    assert "clipped" not in found["healthy"].verdict(clipped=0.5).kinds


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("factor", "steps", "kind"),
    [
        (0.5, 50, "vanishing"),
        (0.9, 50, "vanishing"),  # 0.005 is left
        (0.9, 30, "fading"),  # 0.04
        (0.95, 50, "fading"),  # 0.08
        (0.98, 50, "healthy"),  # 0.36
        (0.94, 100, "fading"),  # 0.002, but only after 75 steps less than 0.01
        (0.94, 400, "vanishing"),  # of so many these are few
        (1.0, 50, "healthy"),
        (1.02, 50, "healthy"),  # 2.7 times
        (1.1, 50, "growing"),  # 117 times
        (1.9, 50, "exploding"),
    ],
)
def test_a_factor_per_step(factor: float, steps: int, kind: str) -> None:
    """The founding articles' own case: what is left is the factor to the power of the distance."""
    layer = elman.Recurrent(
        lambda x, h, a: a * h + x, state_size=1, parameters={"a": torch.tensor(factor)}, executor="loop"
    )
    with flow.record(layer) as found:
        layer(torch.randn(steps + 1, 1, 1))[0][-1].sum().backward()
    verdict = found.verdict(steps=None)
    assert verdict.kinds == (kind,)
    assert bool(verdict.findings[0].remedies) is (kind != "healthy")
    assert f"({factor:.3g} times per step)" in str(verdict)


def test_no_remedy_is_what_the_layer_has_already() -> None:
    """An LSTM with chrono initialization and a forget bias is told of a larger one alone."""
    torch.manual_seed(0)
    x = torch.randn(60, 4, 3)
    for options, expected in (
        ({}, ("forget_bias=2 or more", 'init="chrono"')),
        ({"forget_bias": 3.0}, ("forget_bias=5 or more", 'init="chrono"')),
    ):
        layer = elman.LSTM(3, 8, **options)  # type: ignore[arg-type]
        with torch.no_grad():
            for name, weight in layer.named_parameters():
                if "bias" in name:
                    weight.sub_(4)  # which closes the forget gate
        with elman.flow.record(layer) as recording:
            layer(x)[0][-1].sum().backward()
        (finding,) = [f for f in recording.verdict().findings if f.kind == "vanishing"]
        assert tuple(remedy.python for remedy in finding.remedies[:2]) == expected
        assert not finding.options[:1] or "--bptt" in finding.options[0]  # tasks have neither option
    rnn = elman.RNN(3, 8, init="orthogonal")
    with torch.no_grad():
        dict(rnn.named_parameters())["weight_hh_l0"].mul_(0.3)
    with elman.flow.record(rnn) as recording:
        rnn(x)[0][-1].sum().backward()
    (finding,) = [f for f in recording.verdict().findings if f.kind == "vanishing"]
    assert not any("orthogonal" in remedy.python for remedy in finding.remedies)
    assert "elman.LSTM" in str(finding)
    assert "--" not in str(finding)
    assert "--cell lstm" in finding.with_options()
