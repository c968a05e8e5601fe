"""Small calls with lengths: prepared, they return the same bits as without preparation."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

import elman
from elman import cells, flow
from elman.engine import EXECUTORS
from elman.engine.cpu import call_rows, prepared_call
from elman.layers import _prepared_calls
from tests.cases import in_a_row, in_form, random_states
from tests.tolerances import all_close

D, H = 3, 5
LENGTHS = [2, 5, 0, 3, 5, 1]
pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each call that a layer tried to prepare, whether it was prepared."""
    seen, call = list[bool](), _prepared_calls.PreparedCalls.__call__

    def counting(*arguments: Any) -> Any:
        result = call(*arguments)
        seen.append(result is not None)
        return result

    monkeypatch.setattr(_prepared_calls.PreparedCalls, "__call__", counting)
    return seen


def results(layer: Any, x: Tensor, states: Sequence[Tensor], lengths: Any) -> list[Tensor]:
    """The results with gradients, the gradients of all inputs, and the results without gradients."""
    inputs = [x.detach().requires_grad_(), *(state.detach().requires_grad_() for state in states)]
    state = in_form(inputs[1:])
    values = in_a_row(layer(inputs[0], state, lengths=lengths))
    torch.manual_seed(1)
    cotangents = [torch.randn(value.shape, dtype=value.dtype) for value in values]
    gradients = torch.autograd.grad(values, [*inputs, *layer.parameters()], cotangents)
    with torch.no_grad():
        return [*values, *gradients, *in_a_row(layer(x, state, lengths=lengths))]


def agree(layer: Any, x: Tensor, states: Sequence[Tensor], lengths: Any, ran: list[bool]) -> None:
    ran.clear()
    prepared = results(layer, x, states, lengths)
    assert ran == [True, True]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_prepared_calls.PreparedCalls, "__call__", lambda *_: None)
        assert all(map(torch.equal, prepared, results(layer, x, states, lengths)))


@pytest.mark.sample(3)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "slstm", "projected_lstm"])
def test_the_same_bits(cell: str, both: bool, ran: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk of rows and several; one thread, and two that share the copies."""
    monkeypatch.setattr(call_rows, "MIN_SHARED", 1)
    layer = elman.Stack(D, H, 2, cell_type=cells.by_name(cell), bidirectional=both, executor="native")
    for T, B, threads in ((5, 6, 1), (5, 6, 2), (40, 33, 1), (40, 33, 2)):
        lengths = LENGTHS if T == 5 else torch.randint(T + 1, (B,))
        torch.set_num_threads(threads)
        try:
            agree(layer, torch.randn(T, B, D), random_states(layer, (B,), torch.float32), lengths, ran)
        finally:
            torch.set_num_threads(1)


def test_other_lengths(ran: list[bool]) -> None:
    """All equal, shorter than the input; sorted both ways; one sequence alone; all as long as the input; none."""
    layer = elman.LSTM(D, H, bidirectional=True, executor="native")
    x, states = torch.randn(5, 6, D), random_states(layer, (6,), torch.float32)
    for lengths in ([3] * 6, [1, 2, 3, 4, 5, 5], [5, 4, 3, 2, 1, 0], [0, 0, 4, 0, 0, 0], [5] * 6):
        agree(layer, x, states, lengths, ran)
    agree(layer, x[:, :1], [state[:, :1] for state in states], [3], ran)
    ran.clear()
    outputs, (h, c) = layer(x, (states[0], states[1]), lengths=[0] * 6)
    assert ran == [False]
    assert not outputs.any()
    assert torch.equal(h, states[0])
    assert torch.equal(c, states[1])


def test_padding_is_not_read(ran: list[bool]) -> None:
    """Padding may be NaN, of the input and of the cotangent, in any strides; its gradient is zero."""
    layer = elman.GRU(D, H, 2, bidirectional=True, executor="native")
    behind = torch.arange(5).unsqueeze(1) >= torch.tensor(LENGTHS)
    whole = torch.randn(6, 5, 2 * D).transpose(0, 1)
    for x in (torch.randn(5, 6, D), whole[..., :D], torch.randn(D, 5, 6).movedim(0, 2)):
        x[behind] = torch.nan
        x.requires_grad_()
        outputs, _ = layer(x, lengths=LENGTHS)
        assert not outputs[behind].any()
        cotangent = torch.randn(outputs.shape).masked_fill(behind.unsqueeze(-1), torch.nan)
        gradients = torch.autograd.grad(outputs, [x, *layer.parameters()], cotangent)
        assert not any(gradient.isnan().any() for gradient in gradients)
        assert not gradients[0][behind].any()
        assert gradients[0][~behind].all()
    assert ran == [True] * 3


@pytest.mark.parametrize("wanted", ["p", "x", "s"])
@pytest.mark.parametrize("which", [slice(1), slice(1, None)], ids=["outputs", "states"])
def test_some_inputs_and_some_results(wanted: str, which: slice, ran: list[bool]) -> None:
    found = []
    for executor in ("native", "loop"):
        torch.manual_seed(0)
        layer = elman.LSTM(D, H, 2, bidirectional=True, dtype=torch.float64, executor=executor)
        x, *states = torch.randn(5, 6, D).double(), *random_states(layer, (6,))
        of: list[Tensor] = {"p": list[Tensor](layer.parameters()), "x": [x], "s": states}[wanted]
        layer.requires_grad_(wanted == "p")
        for tensor in of:
            tensor.requires_grad_()
        values = in_a_row(layer(x, in_form(states), lengths=LENGTHS))[which]
        loss = torch.stack([value.square().sum() for value in values]).sum()
        found.append(torch.autograd.grad(loss, of, allow_unused=True))
    gradients, expected = ([torch.zeros(1) if g is None else g for g in of] for of in found)
    all_close(gradients, expected, "gradients")
    assert ran == [True, False]


def test_calls_with_and_without_lengths_in_turn(ran: list[bool]) -> None:
    """One preparation serves all; several forward passes come before the backward passes."""
    layer, prepared = elman.GRU(D, H, 2, bidirectional=True, executor="native"), set[int]()
    x = [torch.randn(T, 6, D, requires_grad=True) for T in (5, 5, 7, 8, 6)]
    lengths = [LENGTHS, None, [7, 1, 2, 0, 7, 3], None, [6, 6, 1, 1, 1, 1]]
    states = torch.zeros(4, 6, H)
    calls = list(zip(x, lengths, strict=True))
    alone = [results(layer, inputs, [states], of) for inputs, of in calls]
    losses = [layer(inputs, states, lengths=of) for inputs, of in calls]
    torch.manual_seed(1)
    for (inputs, _), (outputs, h), expected in reversed(list(zip(calls, losses, alone, strict=True))):
        torch.manual_seed(1)
        cotangents = [torch.randn(value.shape) for value in (outputs, h)]
        gradients = torch.autograd.grad((outputs, h), [inputs, *layer.parameters()], cotangents)
        assert torch.equal(outputs, expected[0])
        assert all(map(torch.equal, gradients, (expected[2], *expected[4:-2])))
        prepared.add(len(layer._prepared_calls._free))
    assert all(ran)
    assert prepared == {2}  # with gradients and without


@pytest.mark.parametrize("late", [False, True])
def test_observers_see_every_call(late: bool, ran: list[bool]) -> None:
    x, found = torch.randn(5, 6, D).double(), []
    for executor in ("native", "loop"):
        torch.manual_seed(0)
        layer = elman.LSTM(D, H, 2, bidirectional=True, dtype=torch.float64, executor=executor)
        with nullcontext() if late else flow.record(layer) as early:
            loss = layer(x, lengths=LENGTHS)[0].square().sum()
            with flow.record(layer) if late else nullcontext() as lately:
                loss.backward()
        recording: Any = lately if late else early
        found.append([*recording.state_gradients.values(), *recording.weight_gradients.values()])
    all_close(found[0], found[1], "gradients")
    assert ran == [True, False]


def test_gradients_of_gradients_and_of_many_cotangents(ran: list[bool]) -> None:
    found = []
    for executor in ("native", "loop"):
        torch.manual_seed(0)
        layer = elman.GRU(D, H, bidirectional=True, batch_first=True, dtype=torch.float64, executor=executor)
        x, parameters = torch.randn(6, 5, D).double().requires_grad_(), list(layer.parameters())
        outputs, h = layer(x, lengths=LENGTHS)
        once = torch.autograd.grad(outputs.square().sum() + h.sum(), [x, *parameters], create_graph=True)
        twice = torch.autograd.grad(torch.stack([g.square().sum() for g in once]).sum(), [x, *parameters])
        outputs, _ = layer(x, lengths=LENGTHS)
        several = torch.randn(3, *outputs.shape).double()
        found.append([*once, *twice, *torch.autograd.grad(outputs, parameters, several, is_grads_batched=True)])
    all_close(found[0], found[1], "gradients")
    assert ran == [True, False] * 2 or ran == [True, True, False, False]


@pytest.mark.parametrize("batch_first", [False, True])
def test_any_cell(batch_first: bool, ran: list[bool]) -> None:
    layer = elman.Recurrent(torch.nn.LSTMCell(D, H), batch_first=batch_first, executor="native")
    x = torch.randn(6, 5, D) if batch_first else torch.randn(5, 6, D)
    agree(layer, x, random_states(layer, (6,), torch.float32), torch.tensor(LENGTHS), ran)


def test_bfloat16(ran: list[bool]) -> None:
    layer = elman.LSTM(D, H, executor="native").bfloat16()
    agree(layer, torch.randn(5, 6, D).bfloat16(), random_states(layer, (6,), torch.bfloat16), LENGTHS, ran)


def test_bad_lengths_leave_the_prepared_call(ran: list[bool]) -> None:
    layer, x = elman.GRU(D, H, executor="native"), torch.randn(5, 6, D)
    outputs, _ = layer(x, lengths=LENGTHS)
    prepared = [call for calls in layer._prepared_calls._free.values() for call in calls]
    with pytest.raises(ValueError, match="GRU: lengths: expected 6 integers from 0 to 5, got"):
        layer(x, lengths=[6, 5, 4, 3, 2, 1])
    assert torch.equal(layer(x, lengths=LENGTHS)[0], outputs)
    assert [call for calls in layer._prepared_calls._free.values() for call in calls] == prepared
    assert isinstance(prepared[0], prepared_call.DifferentiableCall)
