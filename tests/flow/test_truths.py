"""Known truths: what theory says of a gradient's way back is what a recording shows, on every executor."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import flow
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from tests.tolerances import close

T, B, D, H = 50, 2, 3, 4

every_executor = pytest.mark.parametrize("executor", EXECUTORS)


def linear(rho: float, executor: str) -> elman.Recurrent:
    """h_t = x_t + rho Q h_{t-1} with Q orthogonal."""
    torch.manual_seed(0)
    Q = torch.linalg.qr(torch.randn(H, H).double()).Q
    return elman.Recurrent(lambda x, h, W: x + h @ W.T, state_size=H, parameters={"W": rho * Q}, executor=executor)


@every_executor
@pytest.mark.parametrize("rho", [0.9, 1.0, 1.9])
def test_a_linear_network_shows_rho_to_the_k(rho: float, executor: str) -> None:
    layer = linear(rho, executor)
    _, h = layer(torch.randn(T + 1, B, H).double())
    with flow.record(layer) as found:
        h.sum().backward()
    gradients = found.state_gradients["h"]
    powers = rho ** torch.arange(T, -1, -1).double()
    close(gradients, (H**0.5 * powers).unsqueeze(1).expand(-1, B), "gradients")
    assert float(gradients[0, 0] / gradients[-1, 0]) == pytest.approx(rho**50)  # 0.9^50 = 0.005, 1.9^50 = 9e13
    jacobians = found.jacobians()
    close(jacobians.decay["h"] / rho ** torch.arange(T + 2).double(), torch.ones(T + 2).double(), "gradients")
    assert jacobians.growth == pytest.approx(rho)
    assert jacobians.horizon["h"] == (44 if rho == 0.9 else None)  # log 0.01 / log 0.9 = 43.7
    values = jacobians.singular_values(window=25)
    close(values, torch.full_like(values, rho**25), "gradients")


@pytest.mark.sample(2)
@every_executor
@pytest.mark.parametrize("bias", [1.0, 3.0])
def test_the_horizon_of_an_lstm_is_that_of_its_forget_gate(bias: float, executor: str) -> None:
    layer = elman.LSTM(D, H, executor=executor, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[H : 2 * H] = bias
    _, (_, c) = layer(torch.randn(120, B, D).double())
    with flow.record(layer) as found:
        c.sum().backward()
    f = torch.tensor(bias).double().sigmoid()
    powers = f ** torch.arange(119, -1, -1)
    close(found.state_gradients["c_l0"], (H**0.5 * powers).unsqueeze(1).expand(-1, B), "gradients")
    assert found.jacobians("c_l0").horizon["c_l0"] == int(torch.tensor(0.01).double().log() / f.log()) + 1
    assert found.jacobians("h_l0").horizon["h_l0"] == 1  # cut off


class OwnOutput(nn.Module):
    """An output that is no state, and two states of different widths."""

    state_size = (H, 1)

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(D + H, H) * 0.4)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step."""
        h, n = state
        h = torch.tanh(torch.cat((x, h), 1) @ self.W)
        return torch.sin(2 * h + n), (h, n / 2 + h[:, :2].sum(1, keepdim=True))


LAYERS: dict[str, Callable[..., Any]] = {
    "RNN": lambda **options: elman.RNN(D, H, nonlinearity="relu", num_layers=2, dropout=0.5, **options),
    "GRU": lambda **options: elman.GRU(D, H, num_layers=2, bidirectional=True, dropout=0.3, **options),
    "LSTM": lambda **options: elman.LSTM(D, H, num_layers=3, **options),
    "own": lambda **options: elman.Recurrent(OwnOutput(), **options),
}
MODES: list[Mode] = [Full(), Checkpointed(3), Truncated(4), Truncated(2, 5)]


@pytest.mark.sample(4)
@every_executor
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("lengths", [None, [3, 8, 5]], ids=["even", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_terms_add_up_to_the_gradient(name: str, lengths: list[int] | None, mode: Mode, executor: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name](executor=executor, bptt=mode).double()
    outputs, final = layer(torch.randn(8, 3, D).double(), lengths=lengths)
    finals = final if isinstance(final, tuple) else (final,)
    with flow.record(layer) as found:
        (outputs.square().sum() + sum(s.cos().sum() for s in finals)).backward()
    gradients = {key: value.grad for key, value in layer.named_parameters()}
    told = set()
    for key in found.calls:
        terms = found.credit(key, weights=True).weights
        for of, value in terms.items():
            total = gradients[of]
            assert total is not None
            close(value.sum((0, 1)), total, "gradients")
            told.add(of)
            if mode == Full():
                of_steps = torch.linalg.vector_norm(value.sum(0).flatten(1), dim=1)
                close(found.weight_gradients[of], of_steps, "gradients")
    assert told == set(gradients)


@pytest.mark.sample(4)
@every_executor
@pytest.mark.parametrize("mode", [Full(), Checkpointed(3)], ids=str)
@pytest.mark.parametrize("lengths", [None, [3, 7, 0]], ids=["even", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_credit_is_what_arrives_from_one_step_alone(
    name: str, lengths: list[int] | None, mode: Mode, executor: str
) -> None:
    """Of every state of every layer and direction: the loss of step t by itself, sent back by autograd."""
    torch.manual_seed(0)
    layer = LAYERS[name](executor=executor, bptt=mode).double()
    if name == "LSTM":
        layer.locked_dropout = 0.2
    outputs, _ = layer(torch.randn(8, 3, D).double(), lengths=lengths)
    loss = (outputs.square() * torch.randn_like(outputs)).flatten(1).sum(1)
    with flow.record(layer) as every:
        loss.sum().backward(retain_graph=True)
    T = len(loss) if lengths is None else max(lengths)
    told = {key: every.credit(key) for key in every.state_gradients}
    for t in range(T):
        with flow.record(layer) as one:
            loss[t].backward(retain_graph=True)
        for key, norms in one.state_gradients.items():
            assert told[key].steps == tuple(range(T))
            close(told[key].norms[t], torch.linalg.vector_norm(norms, dim=1)[:T], "gradients")
