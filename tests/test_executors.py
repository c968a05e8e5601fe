"""Law 12: an executor is an entry in the registry.

A toy one, NumPy and forward only, is registered, chosen, explained and refused like any other.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import elman
from elman.engine import EXECUTORS, UNAVAILABLE, CellSpec, Executor, Inputs, Output, State, Unsupported
from tests.tolerances import close

FORWARD_ONLY = "the numpy executor has no gradients"


class NumpyExecutor(Executor):
    """The Elman network with tanh, without gradients."""

    name = "numpy"

    def run(self, inputs: Inputs) -> tuple[Output, State] | Unsupported:
        cell, w, x, h = inputs.cell, inputs.parameters, inputs.x, inputs.state
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *w.values())):
            return Unsupported(FORWARD_ONLY, warn=False)
        spec = CellSpec(cell, w, x.shape[-1], 5)
        if reason := self.unsupported(spec) or ("packed sequences" if inputs.sizes is not None else ""):
            return Unsupported(reason)
        assert isinstance(h, torch.Tensor)
        p = {name: value.numpy() for name, value in w.items()}
        state, outputs = h.numpy(), []
        for x_t in x.numpy():
            product = x_t @ p["weight_ih"].T + p["bias_ih"] + state @ p["weight_hh"].T + p["bias_hh"]
            state = np.tanh(product)
            outputs.append(state)
        return torch.from_numpy(np.stack(outputs)), torch.from_numpy(state)

    def unsupported(self, spec: CellSpec) -> str:
        return "" if type(spec.cell) is elman.cells.RNN else f"the numpy executor has no {spec.cell._get_name()}"

    def describe(self, spec: CellSpec, shape: tuple[int, int] | None) -> Iterator[str]:
        yield "  NumPy, a step at a time"


@pytest.fixture
def toy() -> Iterator[NumpyExecutor]:
    """Registered, and preferred to all others."""
    executor, others = NumpyExecutor(), dict(EXECUTORS)
    EXECUTORS.clear()
    EXECUTORS.update({"numpy": executor, **others})
    yield executor
    EXECUTORS.clear()
    EXECUTORS.update(others)


def test_an_executor_is_chosen_by_name_and_by_auto(toy: NumpyExecutor) -> None:
    layer, x = elman.RNN(3, 5), torch.randn(4, 2, 3)
    expected = elman.RNN(3, 5, executor="loop")
    expected.load_state_dict(layer.state_dict())
    with torch.no_grad():
        by_auto, last = layer(x)
        close(by_auto, expected(x)[0], "outputs")
        close(last, expected(x)[1], "outputs")
        layer.executor = "numpy"
        assert torch.equal(layer(x)[0], by_auto)


def test_auto_goes_on_to_the_next(toy: NumpyExecutor) -> None:
    layer, x = elman.RNN(3, 5), torch.randn(4, 2, 3)
    layer(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is not None
    elman.GRU(3, 5)(x)


def test_an_executor_that_is_asked_for_by_name_runs_or_raises(toy: NumpyExecutor) -> None:
    x = torch.randn(4, 2, 3)
    with pytest.raises(RuntimeError, match=f"{FORWARD_ONLY}.*; use executor='auto'$"):
        elman.RNN(3, 5, executor="numpy")(x)
    with torch.no_grad(), pytest.raises(RuntimeError, match="the numpy executor has no GRU"):
        elman.GRU(3, 5, executor="numpy")(x)
    with pytest.raises(ValueError, match=r"executor: expected 'auto' or one of numpy, .*loop, got 'nunpy'"):
        elman.GRU(3, 5, executor="nunpy")


def test_an_unavailable_executor_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNAVAILABLE, "abacus", "it has no beads")
    with pytest.raises(ValueError, match=r"'abacus' is not available, since it has no beads; use executor='auto'$"):
        elman.GRU(3, 5, executor="abacus")
    with pytest.raises(ValueError, match=r"got 'cuda'.*; 'abacus' is not available, since it has no beads"):
        elman.GRU(3, 5, executor="cuda")


def test_an_executor_is_explained(toy: NumpyExecutor) -> None:
    description = elman.describe(elman.RNN(3, 5))
    assert description.executor == "numpy"
    assert "NumPy, a step at a time" in str(description)
    assert elman.describe(elman.GRU(3, 5)).executor == list(EXECUTORS)[1]
    assert elman.describe(elman.GRU(3, 5, executor="numpy")).reason == "the numpy executor has no GRU"


def test_a_step_asks_the_executor(toy: NumpyExecutor) -> None:
    layer, x = elman.RNN(3, 5), torch.randn(2, 3)
    with torch.no_grad():
        output, state = layer.step(x)
        close(output, layer(x.unsqueeze(0))[0].squeeze(0), "outputs")
        assert torch.equal(output, state[0])
