"""Layers on the native executor as modules: copied, trained, with options and weights that change."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, weight_norm

import elman
from elman.engine import EXECUTORS
from tests.cases import call
from tests.native.pairs import (
    LAYERS,
    B,
    Build,
    D,
    H,
    Layer,
    T,
    agrees,
    forward_and_backward,
    native,
    problem,
    same,
)
from tests.tolerances import close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)


@every_layer
@pytest.mark.parametrize("copied", [deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"])
def test_copies_of_a_layer_that_has_run(build: Build, copied: Callable[[Layer], Layer]) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    expected = forward_and_backward(layer, x, states)
    copy = copied(layer)
    same(forward_and_backward(copy, x, states), expected)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    same(forward_and_backward(layer, x, states), expected)


@every_layer
def test_steps_of_an_optimizer_are_seen(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    seen = set()
    for _ in range(3):
        agrees(layer, x, states)
        optimizer.zero_grad()
        loss = call(layer, x, states)[0].square().sum()
        loss.backward()
        optimizer.step()
        seen.add(loss.item())
    assert len(seen) == 3


def test_an_option_of_a_cell_is_seen() -> None:
    cell = elman.cells.RNN(D, H)
    layer = elman.Recurrent(cell, executor="native")
    x, states = problem(layer, T, B, D)
    agrees(layer, x, states)
    before = call(layer, x, states)[0]
    cell.nonlinearity = "relu"
    agrees(layer, x, states)
    assert not torch.allclose(call(layer, x, states)[0], before)
    cell.nonlinearity = "tanh"
    assert torch.equal(call(layer, x, states)[0], before)


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.ones(D))
        self.state_size, self.config = D, SimpleNamespace(scale=1.0, inner=SimpleNamespace(shift=0.5))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x * self.config.scale + self.config.inner.shift + h * self.b)


def test_numbers_within_objects_are_seen() -> None:
    cell = Configured()
    layer = elman.Recurrent(cell, executor="native")
    x, states = problem(layer, T, B, D)
    agrees(layer, x, states)
    cell.config.scale = 3.0
    agrees(layer, x, states)
    cell.config.inner.shift = -1.0
    agrees(layer, x, states)


class Parametrized(nn.Module):
    def __init__(self, parametrization: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.state_size, self.input, self.recurrent = H, nn.Linear(D, H), nn.Linear(H, H)
        parametrization(self.recurrent)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.input(x) + self.recurrent(h))


@pytest.mark.parametrize(
    "parametrization",
    [weight_norm, partial(orthogonal, orthogonal_map="cayley"), partial(orthogonal, orthogonal_map="matrix_exp")],
    ids=["weight_norm", "cayley", "matrix_exp"],
)
def test_parametrized_weights(parametrization: Callable[..., nn.Module]) -> None:
    layer = elman.Recurrent(Parametrized(parametrization), executor="native")
    x, states = problem(layer, T, B, D)
    with parametrize.cached():
        outputs = layer(x, states[0])[0]
        loop = elman.Recurrent(layer.cell, executor="loop")(x, states[0])[0]
    close(outputs, loop, "outputs")
    agrees(layer, x, states)
