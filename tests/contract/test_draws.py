"""Cells that draw random numbers at every step: a seed gives the same ones on both executors."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import elman
from elman.engine import EXECUTORS
from tests.cases import call, cotangents
from tests.tolerances import all_close

T, B, D, H = 6, 4, 3, 5


class Cell(nn.Module):
    def __init__(self, change: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.change, self.state_size, self.input_size = change, H, D
        self.read, self.recur = nn.Linear(D, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        new = torch.tanh(self.read(x) + self.recur(self.change(h, self.training)))
        return self.change(new, self.training)


class Dropping(nn.Module):
    """Two modules that drop, and two draws of the cell's own; the state is kept where a zone is out."""

    def __init__(self) -> None:
        super().__init__()
        self.state_size, self.input_size = (H, H), D
        self.read, self.recur, self.first, self.second = nn.Linear(D, H), nn.Linear(H, H), *map(nn.Dropout, (0.5, 0.2))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        g = torch.tanh(self.read(self.first(x)) + self.recur(self.second(h)))
        out = torch.rand_like(h) < 0.3
        return torch.where(out, h, g + 0.1 * torch.randn_like(g)), c * 0.5 + g


CHANGES: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "dropout": lambda h, training: dropout(h, 0.5, training),
    "bernoulli": lambda h, training: h * torch.bernoulli(torch.full_like(h, 0.7)),
    "bernoulli_": lambda h, training: h * torch.empty_like(h).bernoulli_(0.7),
    "uniform": lambda h, training: h * torch.empty_like(h).uniform_(0.5, 1.5),
    "normal": lambda h, training: h + torch.empty_like(h).normal_(0, 0.3),
    "randn": lambda h, training: h + torch.randn(h.shape, dtype=h.dtype),
    "zoneout": lambda h, training: torch.where(torch.rand_like(h) < 0.5, h, 0.9 * h),
    "feature dropout": lambda h, training: nn.functional.alpha_dropout(h, 0.3, training),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(Cell, change) for name, change in CHANGES.items()},
    "several": Dropping,
}
every_cell = pytest.mark.parametrize("name", CELLS)
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def problem(name: str, executor: str, dtype: torch.dtype) -> tuple[elman.Recurrent, Tensor]:
    torch.manual_seed(0)
    layer = elman.Recurrent(CELLS[name](), executor=executor).to(dtype)
    return layer, torch.randn(T, B, D, dtype=dtype, requires_grad=True)


@pytest.mark.sample(6)
@native
@every_cell
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_one_seed_gives_the_same(name: str, dtype: torch.dtype) -> None:
    found = []
    for executor in ("loop", "native"):
        layer, x = problem(name, executor, dtype)
        torch.manual_seed(1)
        results = call(layer, x)
        after = torch.rand(3)
        found.append((results, torch.autograd.grad(results, (x, *layer.parameters()), cotangents(results)), after))
    all_close(found[1][0], found[0][0], "outputs")
    all_close(found[1][1], found[0][1], "gradients")
    assert torch.equal(found[0][2], found[1][2]), "both have drawn the same numbers"


@native
def test_another_call_draws_others_and_evaluation_none() -> None:
    layer, x = problem("dropout", "native", torch.float32)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.train()
    assert not torch.equal(layer(x)[0], layer(x)[0])


@native
@pytest.mark.parametrize("name", ["dropout", "several"])
def test_the_gradient_of_a_gradient_sees_the_same_numbers(name: str) -> None:
    found = []
    for executor in ("loop", "native"):
        layer, x = problem(name, executor, torch.float64)
        torch.manual_seed(1)
        (first,) = torch.autograd.grad(layer(x)[0].pow(2).sum(), x, create_graph=True)
        found.append((first, *torch.autograd.grad(first.pow(2).sum(), (x, *layer.parameters()))))
    all_close(found[1], found[0], "gradients")


@pytest.mark.slow
@native
def test_compiled() -> None:
    layer, x = problem("several", "native", torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    expected = layer(x)[0]
    torch.manual_seed(1)
    assert torch.equal(compiled(x)[0], expected)
