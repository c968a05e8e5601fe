"""Other ways to a gradient than a call in single precision and one backward pass."""

import pytest
import torch

import elman
from elman import flow
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from tests.tolerances import close

T, B, D, H = 7, 3, 4, 5
every_executor = pytest.mark.parametrize("executor", EXECUTORS)


@pytest.mark.sample(6)
@every_executor
@pytest.mark.parametrize("mode", [Full(), Checkpointed(3)], ids=str)
@pytest.mark.parametrize("part", ["states", "named", "all"])
def test_a_loss_on_a_trajectory(part: str, mode: Mode, executor: str) -> None:
    torch.manual_seed(0)
    layer = elman.LSTM(D, H, num_layers=2, bidirectional=True, executor=executor, bptt=mode).double()
    found = layer.trajectory(torch.randn(T, B, D).double(), lengths=[4, 7, 1])
    losses = {"states": found.states, "named": tuple(found.named.values())}
    losses["all"] = (*losses["states"], *losses["named"], found.outputs)
    with flow.record(layer) as recording:
        sum((value.sin().sum() for value in losses[part]), torch.zeros(())).backward()
    assert set(recording.state_gradients) == {
        f"{letter}_l{k}{back}" for letter in "hc" for k in "01" for back in ("", "_reverse")
    }
    for key in recording.calls:
        for name, value in recording.credit(key, weights=True).weights.items():
            gradient = layer.get_parameter(name).grad
            assert gradient is not None
            close(value.sum((0, 1)), gradient, "gradients")


@every_executor
def test_a_loss_on_a_trajectory_is_one_on_the_outputs(executor: str) -> None:
    torch.manual_seed(0)
    layer, x = elman.GRU(D, H, num_layers=2, executor=executor).double(), torch.randn(T, B, D).double()
    with flow.record(layer) as expected:
        layer(x)[0].sin().sum().backward()
    with flow.record(layer) as found:
        layer.trajectory(x).states[:, 1].sin().sum().backward()
    for name, norms in expected.state_gradients.items():
        close(found.state_gradients[name], norms, "gradients")
    close(found.credit("h_l1").norms, expected.credit("h_l1").norms, "gradients")


@every_executor
def test_steps_one_by_one(executor: str) -> None:
    layer, h, loss = elman.LSTM(D, H, executor=executor).double(), None, torch.zeros(())
    x = torch.randn(T, B, D).double()
    for x_t in x:
        y, h = layer.step(x_t, h)
        loss = loss + y.sin().sum()
    with flow.record(layer) as found:
        loss.backward()
    with flow.record(layer) as whole:
        layer(x)[0].sin().sum().backward()
    for t in range(T):
        for letter in "hc":
            norms = found.state_gradients[f"{letter}_l0{f'#{t + 1}' if t else ''}"]
            close(norms[0], whole.state_gradients[f"{letter}_l0"][t], "gradients")
    assert str(found.verdict()) == (
        f"short: h_l0 and {T - 1} more have one step per call, as with layer.step, so no gradient flows through "
        "time. Try one call with the whole sequence."
    )


@every_executor
def test_a_gradient_of_a_gradient(executor: str) -> None:
    layer = elman.GRU(D, H, executor=executor, zoneout=0.5).double()
    x = torch.randn(T, B, D).double().requires_grad_()
    loss = layer(x)[0].sin().sum()
    names = [name for name, _ in layer.named_parameters()]
    with flow.record(layer) as found:
        gradients = torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=True)
    for name, value in zip(names, gradients[1:], strict=True):
        close(found.credit(weights=True).weights[name].sum((0, 1)), value.detach(), "gradients")
    with flow.record(layer) as both:
        torch.autograd.grad(layer(x)[0].sum(), layer.all_weights[0])  # another call
        torch.autograd.grad(loss, x, create_graph=True)
        with flow.record(layer) as found:
            torch.autograd.grad(loss + gradients[0].square().sum(), layer.all_weights[0])
    assert found.state_gradients["h_l0"].shape == (T, B)
    assert found.verdict().kinds
    with pytest.raises(
        RuntimeError, match=r"^flow.weight_gradients: not available after a backward pass with create_graph=True"
    ):
        found.weight_gradients  # noqa: B018
    with pytest.raises(RuntimeError, match=r"^flow.credit: not available after a backward pass with create_graph=True"):
        found.credit()
    with pytest.raises(RuntimeError, match=r"^flow.credit: not available after a backward pass with create_graph=True"):
        both.credit("h_l0")
    assert both.credit("h_l0#2").norms.isfinite().all()


@every_executor
@pytest.mark.parametrize("asked_in", [True, False])  # autocast
@pytest.mark.parametrize("mode", [Truncated(1), Full()], ids=str)
def test_steps_in_the_precision_that_they_had(mode: Mode, asked_in: bool, executor: str) -> None:
    layer = elman.RNN(D, H, executor=executor, bptt=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = layer(torch.randn(T, B, D))
    with flow.record(layer) as found:
        outputs.float().square().sum().backward()
    (call,) = found.calls.values()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=asked_in):
        terms = [
            replay.parameter_gradients(t, [d[t] for d in replay.d_states], replay.own_d_outputs(t))
            for replay, t, _ in call.steps()
        ]
        assert found.credit().norms.isfinite().all()
    for name, parameter in layer.named_parameters():
        total, gradient = torch.stack([of_step[name.removesuffix("_l0")] for of_step in terms]).sum(0), parameter.grad
        assert gradient is not None
        if mode == Full() or executor == "native":  # whose sums, at least, round to half precision
            assert (total - gradient).abs().max() / gradient.abs().max() <= torch.finfo(torch.bfloat16).eps
        else:
            close(total, gradient, "gradients")
