"""Weights that are tied, frozen, learned as a state or dropped: the same on every executor."""

import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS
from elman.engine.compiled import torch_ops
from tests.cases import CASES, Case, call, cotangents, every_executor, gradients, name_of, random_states
from tests.odd import B, H, T
from tests.tolerances import all_close

native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


class Twice(nn.Module):
    """Its only weight reads x and h: one module in two places, or one parameter of two modules."""

    state_size = H

    def __init__(self, module: bool) -> None:
        super().__init__()
        self.read = nn.Linear(H, H)
        self.recur = self.read if module else nn.Linear(H, H)
        self.recur.weight = self.read.weight

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.read(x) + self.recur(h))


def one_cell(executor: str) -> list[nn.Module]:
    cell = Twice(module=False)
    return [elman.Recurrent(cell, executor=executor) for _ in range(2)]


def one_parameter(executor: str) -> list[nn.Module]:
    layers = [elman.RNN(H, H, executor=executor) for _ in range(2)]
    layers[1].weight_hh_l0 = layers[0].weight_hh_l0 = layers[0].weight_ih_l0
    return list(layers)


TIED: dict[str, Callable[[str], list[nn.Module]]] = {
    "a parameter of two modules": lambda executor: [elman.Recurrent(Twice(module=False), executor=executor)],
    "a module in two places": lambda executor: [elman.Recurrent(Twice(module=True), executor=executor)],
    "a cell of two layers": one_cell,
    "a parameter of two layers": one_parameter,
}


def through(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)[0]
    return x


@native
@pytest.mark.parametrize("name", TIED)
def test_tied(name: str) -> None:
    """Gradients add up, in copies and after an optimizer's step as well; and a call changes no weight."""
    x = torch.randn(T, B, H, dtype=torch.float64)
    found = list[list[Tensor]]()
    for executor in ("native", "loop"):
        torch.manual_seed(0)
        layers = nn.ModuleList(TIED[name](executor)).double()
        before = deepcopy(layers.state_dict())
        optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
        through(layers, x).square().sum().backward()
        assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())
        optimizer.step()
        found.append([])
        for each in (layers, deepcopy(layers)):
            outputs = through(each, x)
            found[-1] += [outputs, *torch.autograd.grad(outputs, list(each.parameters()), cotangents([outputs]))]
    ours, theirs = found
    all_close(ours, theirs, "gradients")


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_frozen(case: Case, executor: str) -> None:
    """No gradient for what asks for none, the right ones for the others."""
    layer = case.build(3, 5, executor=executor).double()
    x, states = torch.randn(4, 2, 3, dtype=torch.float64), [s.detach() for s in random_states(layer, (2,))]
    every = list(layer.parameters())
    expected = gradients(call(layer, x, states), every)
    for parity in (0, 1):
        for k, parameter in enumerate(every):
            parameter.requires_grad_(k % 2 == parity)
            parameter.grad = None
        results = call(layer, x, states)
        torch.autograd.backward(results, cotangents(results))
        assert [parameter.grad is not None for parameter in every] == [k % 2 == parity for k in range(len(every))]
        all_close([p.grad for p in every if p.grad is not None], expected[parity::2], "gradients")
    layer.requires_grad_(False)
    assert not any(result.requires_grad for result in call(layer, x, states))


@native
def test_nothing_is_computed_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = elman.GRU(3, 5, executor="native").double()
    asked: list[Any] = []
    backward = torch_ops._backward

    def seen(*given: Any) -> list[Tensor]:
        asked.append(tuple(given[1].wanted))
        return backward(*given)

    monkeypatch.setattr(torch_ops, "_backward", seen)
    # tests/test_prepared_calls.py has the prepared calls.
    monkeypatch.setattr("elman.layers._prepared_calls.MAX_PREPARED_ROWS", 0)
    x, h = torch.randn(3, 2, 3, dtype=torch.float64), torch.randn(1, 2, 5, dtype=torch.float64)
    for wanted in ([x], [h], list(layer.parameters()), [x, h]):
        for tensor in (x, h, *layer.parameters()):
            tensor.requires_grad_(any(tensor is one for one in wanted))
        layer(x, h)[0].sum().backward()
    assert asked == [(True, False, False), (False, True, False), (False, False, True), (True, True, False)]


OPTIONS: dict[str, Callable[..., Any]] = {
    "zoneout": lambda **of: elman.Stack(4, 8, 2, cell_type=cells.MGU, zoneout=0.3, **of),
    "weight_drop": lambda **of: elman.Stack(4, 8, 2, cell_type=cells.MGU, weight_drop=0.4, **of),
    "learn_state": lambda **of: elman.Recurrent(nn.GRUCell(3, 5), learn_state=True, **of),
}


def layer_and_input(name: str, executor: str) -> tuple[nn.Module, Tensor]:
    layer: nn.Module = OPTIONS[name](executor=executor).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.3)  # a state that is learned begins as zeros, and would not be missed
    return layer, torch.randn(6, 3, 3 if name == "learn_state" else 4, dtype=torch.float64)


def seeded(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(2)
    results = call(layer, x)
    return (*results, *gradients(results, list(layer.parameters())))


@pytest.mark.sample(3)
@every_executor
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OPTIONS)
def test_copies_of_a_layer_with_options(name: str, executor: str) -> None:
    layer, x = layer_and_input(name, executor)
    expected = seeded(layer, x)
    fresh = layer_and_input(name, executor)[0]
    assert not torch.equal(seeded(fresh, x)[0], expected[0])
    fresh.load_state_dict(layer.state_dict())
    for copy in (fresh, deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        all_close(seeded(copy, x), expected, "gradients")
    evaluated = call(deepcopy(layer).eval(), x)
    assert torch.equal(evaluated[0], expected[0]) == (name == "learn_state")
    single = call(deepcopy(layer).float().eval(), x.float())
    torch.testing.assert_close([result.double() for result in single], list(evaluated), rtol=1e-4, atol=1e-5)


@native
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", OPTIONS)
def test_compiled_with_options(name: str) -> None:
    torch.compiler.reset()
    layer, x = layer_and_input(name, "native")
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    all_close(seeded(compiled, x), seeded(layer, x), "gradients")
