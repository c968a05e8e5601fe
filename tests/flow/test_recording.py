"""What a recording tells, and what it says to those who cannot have one."""

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import flow
from elman.bptt import RTRL, Checkpointed, Mode, Truncated
from elman.engine import EXECUTORS
from tests.tolerances import close

T, B, D, H = 7, 3, 4, 5
every_executor = pytest.mark.parametrize("executor", EXECUTORS)


class Model(nn.Module):
    """Two layers of elman's in a model, of which one runs twice."""

    def __init__(self, executor: str) -> None:
        super().__init__()
        self.encoder = elman.LSTM(D, H, bidirectional=True, executor=executor)
        self.decoder = elman.Recurrent(nn.GRUCell(2 * H, H), executor=executor)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """The sum of two passes of the decoder."""
        outputs, _ = self.encoder(x, lengths=lengths)
        one, _ = self.decoder(outputs)
        other, _ = self.decoder(outputs.flip(0))
        total: Tensor = one.sum() + other.square().sum()
        return total


@every_executor
def test_names_and_shapes(executor: str) -> None:
    torch.manual_seed(0)
    model = Model(executor)
    loss = model(torch.randn(T, B, D), [T, 2, 0])
    with flow.record(model) as found:
        loss.backward()
    assert list(found.state_gradients) == [
        "encoder.h_l0", "encoder.c_l0", "encoder.h_l0_reverse", "encoder.c_l0_reverse", "decoder.h", "decoder.h#2",
    ]  # fmt: skip
    for norms in found.state_gradients.values():
        assert norms.shape == (T, B)
        assert norms.dtype == torch.float64  # norms of what nearly vanishes are squares of it
    for name in ("encoder.h_l0", "encoder.h_l0_reverse"):
        assert found.state_gradients[name][2:, 1].abs().max() == 0  # behind the end
        assert found.state_gradients[name][:, 2].abs().max() == 0
        assert found.state_gradients[name][0, 1] > 0
    names = dict(model.named_parameters())
    assert {name.partition("#")[0] for name in found.weight_gradients} == set(names)
    assert set(found.gates) == {f"encoder.{gate}_l0{back}" for gate in "ifgo" for back in ("", "_reverse")} | {
        "decoder.h", "decoder.h#2",
    }  # fmt: skip
    assert found.first_non_finite is None
    assert {finding.name for finding in found.verdict().findings} >= {"decoder.h", "decoder.h#2"}


@every_executor
def test_a_ragged_batch_is_its_rows_one_by_one(executor: str) -> None:
    torch.manual_seed(0)
    layer = elman.GRU(D, H, bidirectional=True, executor=executor).double()
    x, lengths = torch.randn(T, B, D).double(), [4, 7, 1]
    with flow.record(layer) as together:
        layer(x, lengths=lengths)[0].sin().sum().backward()
    for b, length in enumerate(lengths):
        with flow.record(layer) as alone:
            layer(x[:length, b : b + 1])[0].sin().sum().backward()
        for name, norms in alone.state_gradients.items():
            close(together.state_gradients[name][:length, b], norms[:, 0], "gradients")


@every_executor
def test_windows_of_a_stack(executor: str) -> None:
    torch.manual_seed(0)
    layer = elman.LSTM(D, H, num_layers=2, executor=executor).double()
    x = torch.randn(T, B, D).double()
    found = {}
    for mode in (layer.bptt, Checkpointed(2), Truncated(2, 4)):
        outputs, _ = layer(x, bptt=mode)
        with flow.record(layer) as found[mode]:
            outputs.sin().sum().backward()
        assert set(found[mode].state_gradients) == {"h_l0", "c_l0", "h_l1", "c_l1"}
        assert set(found[mode].weight_gradients) == {name for name, _ in layer.named_parameters()}
    full, again, cut = found.values()
    for name, norms in full.state_gradients.items():
        close(again.state_gradients[name], norms, "gradients")
        assert (cut.state_gradients[name] - norms).abs().max() > 1e-3
    assert cut.verdict().kinds


@every_executor
def test_the_optimizer_may_go_on(executor: str) -> None:
    torch.manual_seed(0)
    layer, x = elman.GRU(D, H, executor=executor).double(), torch.randn(T, B, D).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    with flow.record(layer) as found:
        layer(x)[0].sin().sum().backward()
    with flow.record(layer) as same:
        layer(x)[0].sin().sum().backward()
    expected = same.weight_gradients
    optimizer.step()
    for name, norms in found.weight_gradients.items():
        close(norms, expected[name], "gradients")


@every_executor
def test_dropout_is_what_it_was(executor: str) -> None:
    torch.manual_seed(0)
    layer = elman.GRU(D, H, executor=executor, zoneout=0.5).double()
    outputs, _ = layer(torch.randn(T, B, D).double())
    before = torch.get_rng_state()
    with flow.record(layer) as found:
        outputs.sin().sum().backward()
    total = found.credit(weights=True).weights["weight_hh_l0"].sum((0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    if executor == "native":  # which knows what was drawn
        expected = layer.get_parameter("weight_hh_l0").grad
        assert expected is not None
        close(total, expected, "gradients")


def test_units_and_gates() -> None:
    layer = elman.RNN(D, H, nonlinearity="relu")
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[1:3] = -100.0
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0].sum().backward()
    assert found.dead["h_l0"].tolist() == [1, 2]
    assert "dead" in found.verdict().kinds
    lstm = elman.LSTM(D, H, forget_bias=10.0)
    with torch.no_grad():
        lstm.get_parameter("bias_ih_l0")[3 * H :] = -10.0
    with flow.record(lstm) as found:
        lstm(torch.randn(T, B, D))[0].sum().backward()
    assert found.gates["f_l0"].high == 1
    assert found.gates["f_l0"].stuck == 0  # open: it remembers
    assert found.gates["o_l0"].stuck == 1
    assert [finding.name for finding in found.verdict().findings if finding.kind == "saturated"] == ["o_l0"]


@pytest.mark.slow
def test_what_cannot_be_recorded() -> None:
    with (
        pytest.raises(ValueError, match=r"^flow.record: Linear: expected a model with elman layers"),
        flow.record(nn.Linear(2, 3)),
    ):
        pass
    layer = elman.GRU(D, H)
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))
    with pytest.raises(RuntimeError, match=r"^flow.record: expected a backward pass through the model within"):
        found.state_gradients  # noqa: B018
    layer.bptt = RTRL()
    with flow.record(layer) as found:
        layer(torch.randn(T, B, D))[0].sum().backward()
    with pytest.raises(RuntimeError, match=r"got none; RTRL has no backward pass through time, use Full, which h"):
        found.state_gradients  # noqa: B018
    layer = elman.GRU(2, 3)
    with flow.record(layer) as found:
        layer(torch.randn(600, 1, 2))[0].sum().backward()
    with pytest.raises(ValueError, match=r"^flow.credit: steps: expected .* more than 512 steps, got none for 600"):
        found.credit()
    assert found.credit(steps=3).steps == (0, 300, 599)
    assert found.credit(steps=[-1, 5]).steps == (5, 599)
    with pytest.raises(ValueError, match=r"^flow.credit: steps: expected some of 0 to 599, got \[600\]"):
        found.credit(steps=[600])
    with pytest.raises(KeyError, match=r"flow.credit: name: expected one of h_l0, got 'h'"):
        found.credit("h")
    with pytest.raises(ValueError, match=r"^flow.jacobians: sequences: expected an integer of at least 1, got 0"):
        found.jacobians(sequences=0)
    with pytest.raises(ValueError, match=r"^singular_values: window: expected 1 to 600 steps, got 601"):
        found.jacobians().singular_values(601)


@pytest.mark.sample(3)
@every_executor
@pytest.mark.parametrize("mode", [Checkpointed(4), Truncated(5, 10)], ids=str)
def test_what_is_judged_is_the_whole_sequence(mode: Mode, executor: str) -> None:
    layer = elman.RNN(D, H, executor=executor).double()
    nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"), gain=0.7)
    x = torch.randn(40, B, D).double()
    with flow.record(layer) as full:
        layer(x)[0].sum().backward()
    with flow.record(layer) as found:
        layer(x, bptt=mode)[0].sum().backward()
    close(found.jacobians().decay["h_l0"], full.jacobians().decay["h_l0"], "gradients")
    close(found.jacobians().exponents, full.jacobians().exponents, "gradients")
    close(found.jacobians().singular_values(7), full.jacobians().singular_values(7), "gradients")
    assert str(found.verdict()) == str(full.verdict())


@every_executor
def test_two_passes_in_one_recording(executor: str) -> None:
    layer = elman.GRU(D, H, executor=executor, bptt=Checkpointed(3)).double()
    outputs, _ = layer(torch.randn(T, B, D).double())
    with flow.record(layer) as found:
        outputs.sin().sum().backward(retain_graph=True)
        once = found.state_gradients["h_l0"]
        outputs.sin().sum().backward()
    close(found.state_gradients["h_l0"], 2 * once, "gradients")
    for name, value in found.credit(weights=True).weights.items():
        gradient = layer.get_parameter(name).grad
        assert gradient is not None
        close(value.sum((0, 1)), gradient, "gradients")


@every_executor
def test_the_model_goes_on_into_evaluation(executor: str) -> None:
    layer = elman.GRU(D, H, executor=executor, zoneout=0.5, recurrent_dropout=0.5).double()
    x = torch.randn(T, B, D).double()
    outputs, _ = layer(x)
    with flow.record(layer) as found:
        outputs.sin().sum().backward()
    layer.eval()
    for name, value in found.credit(weights=True).weights.items():
        gradient = layer.get_parameter(name).grad
        assert gradient is not None
        close(value.sum((0, 1)), gradient, "gradients")
    assert not layer.training
    with flow.record(layer) as found:
        layer(x)[0].sum().backward()
    x.zero_()
    with pytest.raises(
        RuntimeError,
        match=r"^flow: expected the input and the initial state of the backward pass, got tensors that were changed",
    ):
        found.credit()
