"""Where numbers stop being numbers, and which of them is named."""

import math

import pytest
import torch
from torch import Tensor

import elman
from elman import flow
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from elman.flow import NonFinite, Recording

T, B, D, H = 7, 3, 4, 5
every_executor = pytest.mark.parametrize("executor", EXECUTORS)


@every_executor
def test_where_a_network_explodes(executor: str) -> None:
    layer = elman.RNN(D, H, nonlinearity="relu", executor=executor)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.get_parameter("weight_hh_l0").copy_(1e10 * torch.eye(H))
        layer.get_parameter("weight_ih_l0").fill_(1.0)
    x = torch.zeros(T, B, D)
    x[1, 2] = 0.25
    outputs, _ = layer(x)
    with flow.record(layer) as found:
        outputs[-1].sum().backward()
    bad = found.first_non_finite
    assert bad is not None
    assert bad[:4] == ("forward", "h_l0", 5, 2)  # 1e10^4 at step 5
    assert "mm" in bad.operation
    verdict = found.verdict()
    assert verdict.kinds == ("non-finite",)
    assert "h_l0 is not finite at step 5 of sequence 2, produced by" in str(verdict)
    assert "clip_grad_norm_" in str(verdict)


@every_executor
def test_where_a_gradient_explodes(executor: str) -> None:
    layer = elman.RNN(D, H, nonlinearity="relu", executor=executor)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.get_parameter("weight_hh_l0").copy_(1e10 * torch.eye(H))
        layer.get_parameter("weight_ih_l0").fill_(2e-38)
    outputs, _ = layer(torch.ones(5, B, D), lengths=[4, 5, 3])
    with flow.record(layer) as found:
        (outputs * 1e9).sum().backward()
    bad = found.first_non_finite
    assert bad is not None
    assert bad[:4] == ("backward", "h_l0", 1, 1)  # 1e9 at step 4, 1e39 at step 1
    assert bad.operation


@every_executor
@pytest.mark.parametrize("where", ["input", "loss"])
def test_what_comes_from_elsewhere(where: str, executor: str) -> None:
    layer, x = elman.GRU(D, H, executor=executor), torch.randn(T, B, D)
    weight = torch.ones(T, B, H)
    (x if where == "input" else weight)[3, 1, 0] = math.nan
    outputs, _ = layer(x)
    with flow.record(layer) as found:
        (outputs * weight).sum().backward()
    bad = found.first_non_finite
    assert bad is not None
    assert bad[:4] == (where, "h_l0", 3, 1)
    assert not bad.operation


def test_an_output_that_is_no_number() -> None:
    layer = elman.Recurrent(lambda x, h: (torch.log(x - 10), h + x), state_size=D)
    x = torch.randn(T, B, D, requires_grad=True)
    outputs, h = layer(x)
    with flow.record(layer) as found:
        (outputs.sum() + h.sum()).backward()
    bad = found.first_non_finite
    assert bad is not None
    assert bad[:4] == ("forward", "the output of the cell of h", 0, 0)
    assert bad.operation == "log"
    assert "the output of the cell of h is not finite at step 0 of sequence 0, produced by log" in str(found.verdict())


@every_executor
def test_the_state_that_a_batch_begins_with(executor: str) -> None:
    layer = elman.LSTM(D, H, executor=executor)
    c = torch.zeros(1, B, H)
    c[0, 1, 2] = math.inf
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D), (torch.zeros(1, B, H), c))[0].sum().backward()
    assert found.first_non_finite == NonFinite("state", "c_l0", None, 1, "", "h_l0")
    assert "c_l0 is not finite in the initial state of sequence 1. Try a finite initial state" in str(found.verdict())


@every_executor
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_an_update_has_spoiled(value: float, executor: str) -> None:
    layer = elman.LSTM(D, H, num_layers=2, executor=executor)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l1")[0, 0] = value
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0].sum().backward()
    assert found.first_non_finite == NonFinite("parameter", "weight_hh_l1", cell="h_l1")
    assert "non-finite: the parameter weight_hh_l1 is not finite. Try" in str(found.verdict())


def test_a_gate_that_is_shut_for_ever_is_finite() -> None:
    layer = elman.LSTM(D, H)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[:H] = -math.inf
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0].sum().backward()
    assert found.first_non_finite is None


def summed(x: Tensor, d: float, executor: str, mode: Mode) -> tuple[Recording, elman.Recurrent]:
    """W x at each step, whose gradient d is the same at all of them; nothing is remembered."""
    parameters = {"W": torch.ones(1, 1, dtype=x.dtype)}
    layer = elman.Recurrent(lambda x, h, W: x @ W + 0 * h, 1, parameters=parameters, executor=executor, bptt=mode)
    with flow.record(layer) as found:
        (layer(x)[0] * d).sum().backward()
    return found, layer


OVERFLOWS = [("loop", 200.0, 100.0, torch.float16), *((executor, 1e19, 1e19, torch.float32) for executor in EXECUTORS)]


@pytest.mark.parametrize("mode", [Full(), Checkpointed(3), Truncated(2)], ids=str)
@pytest.mark.parametrize(("executor", "x", "d", "dtype"), OVERFLOWS, ids=str)
def test_where_the_gradient_of_weights_overflows(
    executor: str, x: float, d: float, dtype: torch.dtype, mode: Mode
) -> None:
    found, layer = summed(torch.full((T, 1, 1), x, dtype=dtype), d, executor, mode)
    gradient = layer.get_parameter("cell.W").grad
    assert gradient is not None
    assert gradient.isinf().all()
    bad = NonFinite("weights", "cell.W", 3, None, "", "h")  # steps 6, 5, 4, 3: the largest numbers are 65504 and 3.4e38
    assert found.first_non_finite == bad
    assert str(bad) == "the gradient of cell.W, summed from the last step back, is not finite at step 3"
    assert "non-finite: the gradient of cell.W, summed from the last step back" in str(found.verdict())
    # What is no longer there may have been infinite.
    layer.zero_grad()
    del found.__dict__["first_non_finite"]
    assert found.first_non_finite == bad


@every_executor
def test_a_single_step_whose_contribution_overflows(executor: str) -> None:
    x = torch.ones(T, 1, 1)
    x[2] = 1e30
    found, _ = summed(x, 1e10, executor, Full())
    assert found.first_non_finite == NonFinite("weights", "cell.W", 2, None, "mm", "h")


@every_executor
def test_gradients_that_are_finite_are_not_added_up_again(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = summed(torch.ones(T, 1, 1), 1.0, executor, Full())
    monkeypatch.setattr("elman.flow._nonfinite._check_weight_gradients", lambda call: pytest.fail("summed"))
    assert found.first_non_finite is None
