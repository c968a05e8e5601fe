"""Tensors may lie in memory in any way."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import elman
from elman.engine import EXECUTORS
from tests.cases import call, random_states
from tests.native.pairs import LAYERS, B, Build, D, H, T, agrees, native, on_loop, problem
from tests.tolerances import all_close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "transposed": lambda: torch.randn(B, T, D).transpose(0, 1),
    "every second step": lambda: torch.randn(2 * T, B, D)[::2],
    "every second row": lambda: torch.randn(T, 2 * B, D)[:, ::2],
    "every second column": lambda: torch.randn(T, B, 2 * D)[..., ::2],
    "columns first": lambda: torch.randn(D, T, B).permute(1, 2, 0),
    "one row for all": lambda: torch.randn(T, 1, D).expand(T, B, D),
    "one step for all": lambda: torch.randn(1, B, D).expand(T, B, D),
    "one number for all": lambda: torch.randn(1, 1, 1).expand(T, B, D),
    "an offset": lambda: torch.randn(T * B * D + 1)[1:].view(T, B, D),
}


@pytest.mark.sample(8)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@every_layer
def test_layouts_of_x(build: Build, layout: Callable[[], Tensor]) -> None:
    layer = native(build)
    agrees(layer, layout().requires_grad_(), random_states(layer, (B,), torch.float32))


@pytest.mark.sample(8)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@every_layer
def test_layouts_of_dy(build: Build, layout: Callable[[], Tensor]) -> None:
    """Rows of width H = D here, so that the layouts serve for the outputs too."""
    layer = build(D, D, executor="native")
    twin, dy = on_loop(layer), layout()
    x, _ = problem(layer, T, B, D)
    found = torch.autograd.grad(call(layer, x)[0], [x, *layer.parameters()], dy)
    all_close(found, torch.autograd.grad(call(twin, x)[0], [x, *twin.parameters()], dy), "gradients")


@every_layer
def test_a_sum_of_outputs(build: Build) -> None:
    """Its cotangent is one number for all."""
    layer = native(build)
    twin = on_loop(layer)
    x, _ = problem(layer, T, B, D)
    found = torch.autograd.grad(call(layer, x)[0].sum(), [x, *layer.parameters()])
    all_close(found, torch.autograd.grad(call(twin, x)[0].sum(), [x, *twin.parameters()]), "gradients")


@every_layer
def test_layouts_of_states(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    with torch.no_grad():
        turned = [torch.randn(H, B, 1).permute(2, 1, 0) for _ in states]
        expanded = [torch.randn(1, 1, H).expand(1, B, H) for _ in states]
        strided = [torch.randn(1, 2 * B, 2 * H)[:, ::2, ::2] for _ in states]
    for given in (turned, expanded, strided):
        assert not given[0].is_contiguous()
        agrees(layer, x, [state.requires_grad_() for state in given])


@every_layer
def test_layouts_of_the_cotangents_of_states(build: Build) -> None:
    layer = native(build)
    twin = on_loop(layer)
    x, states = problem(layer, T, B, D)
    d = [torch.randn(T, B, H), *(torch.randn(H, B, 1).permute(2, 1, 0) for _ in states)]
    found = torch.autograd.grad(call(layer, x, states), [x, *states, *layer.parameters()], d)
    expected = torch.autograd.grad(call(twin, x, states), [x, *states, *twin.parameters()], d)
    all_close(found, expected, "gradients")


@every_layer
def test_layouts_of_parameters(build: Build) -> None:
    layer = native(build)
    x, _ = problem(layer, T, B, D)
    turned = {name: p.detach().t().contiguous().t().requires_grad_() for name, p in layer.named_parameters()}
    wide = {name: p.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for name, p in turned.items()}
    twin, d = on_loop(layer), torch.randn(T, B, H)
    expected = torch.autograd.grad(twin(x)[0], [x, *twin.parameters()], d)
    for given in (turned, wide):
        found = torch.autograd.grad(functional_call(layer, given, (x,))[0], [x, *given.values()], d)
        all_close(found, expected, "gradients")


@every_layer
def test_a_batch_of_no_rows(build: Build) -> None:
    layer = native(build)
    agrees(layer, *problem(layer, T, 0, D))


class EitherSide(nn.Module):
    """A weight whose rows belong to the state: its gradient is h^T d, where that of a linear layer is d^T h."""

    state_size = H

    def __init__(self) -> None:
        super().__init__()
        self.U, self.W = nn.Parameter(torch.randn(D, H) / 2), nn.Parameter(torch.randn(H, H) / 2)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x @ self.U + h @ self.W)


@pytest.mark.parametrize("steps", [1, T, 600])
def test_weights_on_the_right(steps: int) -> None:
    layer = elman.Recurrent(EitherSide(), executor="native").double()
    agrees(layer, *problem(layer, steps, B, D))
