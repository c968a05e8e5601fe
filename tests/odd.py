"""Cells as users might write them, each odd in its own way. A new one is one line of `STEPS`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, relu, sigmoid, tanh
from torch.nn.functional import linear

import elman
from tests.cases import Problem, as_function, random_states

T, B, D, H = 6, 3, 5, 4
Step = Callable[[Any, Tensor, Any], Any]  # of the cell with its parameters, x and the state


class Cell(nn.Module):
    def __init__(self, name: str, H: int) -> None:
        super().__init__()
        self.step, sizes = STEPS[name]
        self.state_size = sizes(H)
        self.U, self.W, self.V = (nn.Parameter(torch.randn(rows, H) / 2) for rows in (D, H, H))
        self.wide = nn.Parameter(torch.randn(H, 2 * H) / 2)
        self.b = nn.Parameter(torch.randn(H))
        self.register_buffer("decay", torch.linspace(0.2, 0.8, H))

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.step(self, x, state)


def halves(p: Any, x: Tensor, h: Tensor) -> Tensor:
    gate, value = (h @ p.wide).chunk(2, -1)
    new: Tensor = sigmoid(gate) * tanh(value) + x @ p.U
    return new


def blocks(p: Any, x: Tensor, h: Tensor) -> Tensor:
    """The first columns of the deltas are one sum's alone, and all of them the bias's."""
    return tanh(x @ p.U + p.b + torch.cat((linear(h[:, :2], p.W[:2, :2]), linear(h[:, 2:], p.W[2:, 2:])), 1))


def twice(p: Any, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h = tanh(state[0] @ p.W + state[1] * (x @ p.U))
    return h, h


def shared_gate(p: Any, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h, c = state
    f, a = sigmoid(x @ p.U + h @ p.W), x @ p.U
    return f * h + (1 - f) * tanh(c @ p.V), f * c + (1 - f) * a


def three_widths(p: Any, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    h, narrow, wide = state
    return (
        tanh(x @ p.U + narrow @ p.W[:2]),
        narrow / 2 + wide[:, :2] * h[:, 1:3],
        torch.cat((tanh(h @ p.V), x[:, :3]), -1),
    )


def one(H: int) -> int:
    return H


def two(H: int) -> tuple[int, ...]:
    return H, H


def three(H: int) -> tuple[int, ...]:
    return H, H, H


STEPS: dict[str, tuple[Step, Callable[[int], int | tuple[int, ...]]]] = {
    "x alone": (lambda p, x, h: tanh(x @ p.U), one),
    "a sum over time": (lambda p, x, h: tanh(x @ p.U) + h, one),
    "linear": (lambda p, x, h: h @ p.W + x @ p.U, one),
    "a weight and its transpose": (lambda p, x, h: sigmoid(h @ p.W.t() * (h @ p.W)) + (x @ p.U) * (x @ p.U), one),
    "no gradient through time": (lambda p, x, h: tanh(h.detach() @ p.W + x @ p.U), one),
    "a diagonal matrix": (lambda p, x, h: tanh(x @ p.U + p.b * h), one),
    "a product of a product": (lambda p, x, h: tanh(x @ p.U + relu(h @ p.W) @ p.V * sigmoid(h)), one),
    "three in a row": (lambda p, x, h: tanh(tanh(tanh(h @ p.W) @ p.V) @ p.W + x @ p.U), one),
    "a deep input": (lambda p, x, h: tanh(tanh(tanh(x @ p.U) @ p.V) * h + h @ p.W), one),
    "reset before the product": (lambda p, x, h: tanh((sigmoid(h @ p.V) * h) @ p.W + x @ p.U), one),
    "one weight for both": (lambda p, x, h: tanh((x @ p.U) @ p.W + h @ p.W), one),
    "a matrix made of others": (lambda p, x, h: tanh(x @ p.U + h @ (2 * p.W + p.V.t())), one),
    "a vector made of others": (lambda p, x, h: tanh(x @ p.U + h * (sigmoid(p.b) + p.W[0])), one),
    "numbers": (lambda p, x, h: tanh((x @ p.U - 2) * 3 - h / 2 + 1.5 - h), one),
    "halves": (halves, one),
    "blocks": (blocks, one),
    "one value for two states": (twice, two),
    "a state that is not used": (lambda p, x, s: (tanh(s[0] @ p.W + x @ p.U), tanh(x @ p.U)), two),
    "states that change places": (lambda p, x, s: (s[1] * p.b, s[0] + x @ p.U), two),
    "a state that stays": (lambda p, x, s: (s[0] * p.b + x @ p.U, s[1], s[0]), three),
    "the state itself": (lambda p, x, h: h, one),
    "three states of different widths": (three_widths, lambda H: (H, 2, H + 3)),
    "an output that is no state": (lambda p, x, h: (h @ p.wide, tanh(h @ p.W + x @ p.U)), one),
    "a gate that is shared": (shared_gate, two),
    "a buffer": (lambda p, x, h: tanh(h * p.decay @ p.W + x @ p.U) * p.decay, one),
}


every_odd_cell = pytest.mark.parametrize("name", STEPS)


def problem(name: str, executor: str, T: int = T, H: int = H) -> Problem:
    """A layer of such a cell as a function of tensors alone, and random ones to give it: always the same."""
    torch.manual_seed(0)
    layer = elman.Recurrent(Cell(name, H), executor=executor).double()
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    states = random_states(layer, (B,))
    return Problem(as_function(layer, len(states)), (x, *states, *layer.parameters()), len(states))
