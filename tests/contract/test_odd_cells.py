"""Cells as users might write them, each odd in its own way: the native executor says what the loop says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, relu, sigmoid, tanh
from torch.nn.functional import linear

import elman
from elman.through_time import EXECUTORS
from tests.cases import call, cotangents
from tests.tolerances import all_close

T, B, D, H = 6, 3, 5, 4
Step = Callable[[Any, Tensor, Any], Any]  # of the cell with its parameters, x and the state


class Cell(nn.Module):
    def __init__(self, step: Step, states: int) -> None:
        super().__init__()
        self.step = step
        self.state_size = H if states == 1 else (H,) * states
        self.U, self.W, self.V = (nn.Parameter(torch.randn(rows, H) / 2) for rows in (D, H, H))
        self.wide = nn.Parameter(torch.randn(H, 2 * H) / 2)
        self.b = nn.Parameter(torch.randn(H))

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.step(self, x, state)


def halves(p: Any, x: Tensor, h: Tensor) -> Tensor:
    gate, value = (h @ p.wide).chunk(2, -1)
    new: Tensor = sigmoid(gate) * tanh(value) + x @ p.U
    return new


def blocks(p: Any, x: Tensor, h: Tensor) -> Tensor:
    """The first columns of the deltas are one sum's alone, and all of them the bias's."""
    first, second, *_ = p.wide.view(8, 2, 2)
    return tanh(x @ p.U + p.b + torch.cat((linear(h[:, :2], first), linear(h[:, 2:], second)), 1))


def twice(p: Any, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h = tanh(state[0] @ p.W + state[1] * (x @ p.U))
    return h, h


STEPS: dict[str, tuple[Step, int]] = {
    "x alone": (lambda p, x, h: tanh(x @ p.U), 1),
    "a sum over time": (lambda p, x, h: tanh(x @ p.U) + h, 1),
    "linear": (lambda p, x, h: h @ p.W + x @ p.U, 1),
    "a weight and its transpose": (lambda p, x, h: sigmoid(h @ p.W.t() * (h @ p.W)) + (x @ p.U) * (x @ p.U), 1),
    "no gradient through time": (lambda p, x, h: tanh(h.detach() @ p.W + x @ p.U), 1),
    "a diagonal matrix": (lambda p, x, h: tanh(x @ p.U + p.b * h), 1),
    "a product of a product": (lambda p, x, h: tanh(x @ p.U + relu(h @ p.W) @ p.V * sigmoid(h)), 1),
    "three in a row": (lambda p, x, h: tanh(tanh(tanh(h @ p.W) @ p.V) @ p.W + x @ p.U), 1),
    "a deep input": (lambda p, x, h: tanh(tanh(tanh(x @ p.U) @ p.V) * h + h @ p.W), 1),
    "reset before the product": (lambda p, x, h: tanh((sigmoid(h @ p.V) * h) @ p.W + x @ p.U), 1),
    "one weight for both": (lambda p, x, h: tanh((x @ p.U) @ p.W + h @ p.W), 1),
    "a matrix made of others": (lambda p, x, h: tanh(x @ p.U + h @ (2 * p.W + p.V.t())), 1),
    "a vector made of others": (lambda p, x, h: tanh(x @ p.U + h * (sigmoid(p.b) + p.W[0])), 1),
    "numbers": (lambda p, x, h: tanh((x @ p.U - 2) * 3 - h / 2 + 1.5 - h), 1),
    "halves": (halves, 1),
    "blocks": (blocks, 1),
    "one value for two states": (twice, 2),
    "a state that is not used": (lambda p, x, s: (tanh(s[0] @ p.W + x @ p.U), tanh(x @ p.U)), 2),
    "states that change places": (lambda p, x, s: (s[1] * p.b, s[0] + x @ p.U), 2),
    "a state that stays": (lambda p, x, s: (s[0] * p.b + x @ p.U, s[1], s[0]), 3),
}


@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
@pytest.mark.parametrize("name", STEPS)
def test_native_is_loop(name: str) -> None:
    step, count = STEPS[name]
    results, gradients = [], []
    for executor in ("loop", "native"):
        torch.manual_seed(0)
        layer = elman.Recurrent(Cell(step, count), executor=executor).double()
        x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
        states = [torch.randn(B, H, dtype=torch.float64, requires_grad=True) for _ in range(count)]
        results.append(call(layer, x, states))
        inputs = (x, *states, *layer.parameters())
        received = cotangents(results[-1])
        gradients.append(torch.autograd.grad(results[-1], inputs, received, allow_unused=True, materialize_grads=True))
    all_close(results[1], results[0], "outputs")
    all_close(gradients[1], gradients[0], "gradients")
