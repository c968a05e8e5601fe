"""Growth, decay and singular values of sequences of different lengths, each from its own end."""

import pytest
import torch

import elman
from elman import flow
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from elman.flow import Recording
from tests.tolerances import close

T, D, H = 15, 3, 4
LENGTHS = [6, 15, 0, 9]  # multiples of a window of 3: it ends where they do
CASES: list[tuple[Mode, int | None]] = [(Full(), None), (Full(), 7), (Checkpointed(4), None), (Truncated(5, 15), None)]

every_executor = pytest.mark.parametrize("executor", EXECUTORS)


def recorded(layer: elman.LSTM, x: torch.Tensor, lengths: list[int] | None = None) -> Recording:
    with flow.record(layer) as found:
        layer(x, lengths=lengths)[0].sin().sum().backward()
    return found


@pytest.mark.sample(2)
@every_executor
@pytest.mark.sample(1)
@pytest.mark.parametrize(("mode", "steps"), CASES, ids=str)
def test_a_ragged_batch_is_its_rows_one_by_one(mode: Mode, steps: int | None, executor: str) -> None:
    layer = elman.LSTM(D, H, bidirectional=True, executor=executor, bptt=mode).double()
    x = torch.randn(T, len(LENGTHS), D).double()
    recording = recorded(layer, x, LENGTHS)
    for name in ("c_l0", "h_l0_reverse"):
        found = recording.jacobians(name, steps=steps)
        ordered = sorted(((length, b) for b, length in enumerate(LENGTHS) if length), reverse=True)
        alone = [recorded(layer, x[:length, b : b + 1]).jacobians(name, steps=steps) for length, b in ordered]
        assert found.steps.tolist() == [min(length, steps or length) for length, _ in ordered]
        close(found.exponents[:, 0], torch.cat([one.exponents[:, 0] for one in alone]), "gradients")
        for state, left in found.decay.items():
            assert len(left) == int(found.steps.max()) + 1
            for k in range(len(left)):
                having = torch.stack([one.decay[state][k] for one in alone if k < len(one.decay[state])])
                close(left[k], having.square().mean().sqrt(), "gradients")
        for values, one in zip(found.singular_values(3).unbind(1), alone, strict=True):
            whole = one.singular_values(3)[:, 0]
            close(values[: len(whole)], whole, "gradients")
            assert values[len(whole) :].isnan().all()


def test_growth_counts_every_step_once() -> None:
    """Half of the sequences are short, and in them nothing grows."""
    layer = elman.Recurrent(lambda x, h: h * x, state_size=1)
    x = torch.ones(40, 2, 1).double()
    x[:, 0] = 2.0
    with flow.record(layer) as found:
        layer(x.requires_grad_(), torch.ones(2, 1).double(), lengths=[30, 10])[0].sum().backward()
    assert found.jacobians().growth == pytest.approx(2 ** (30 / 40))


def test_growth_is_that_of_the_largest_eigenvalue_whatever_the_directions() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
        W = Q @ torch.diag(torch.tensor([0.2, 0.3, 0.9], dtype=torch.float64)) @ Q.T
        layer = elman.Recurrent(lambda x, h, W: x + h @ W.T, state_size=3, parameters={"W": W})
        with flow.record(layer) as found:
            layer(torch.randn(50, 1, 3, dtype=torch.float64))[1].sum().backward()
        exponents = found.jacobians().exponents[0].exp().tolist()
        assert exponents == pytest.approx([0.9, 0.3, 0.2], rel=1e-3)
        decay, horizon = found.jacobians().decay["h"], found.jacobians().horizon["h"]
        assert horizon is not None
        assert found.jacobians().rate("h") ** horizon == pytest.approx(float(decay[horizon]))
        assert f"after {horizon} of 50 steps back ({found.jacobians().rate('h'):.3g} times per step)" in str(
            found.verdict()
        )
