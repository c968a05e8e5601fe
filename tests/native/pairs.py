"""What the tests of the native executor share: a layer on it, and the same layer on the loop, which says what is right.

This file imports no pytest, so that a fresh process can use it too.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

import elman
from elman.engine.compiled import plan_cache
from elman.engine.cpu.backend import NATIVE
from tests.cases import Results, call, cotangents, random_states
from tests.tolerances import all_close

Layer = elman.Stack | elman.Recurrent
Build = Callable[..., Layer]  # (D, H, options, executor=)

LAYERS: dict[str, Build] = {"LSTM": elman.LSTM, "GRU": elman.GRU, "RNN": elman.RNN}
T, B, D, H = 4, 3, 2, 5


def native(build: Build, dtype: torch.dtype = torch.float32, **options: Any) -> Layer:
    """A layer that asks for the native executor."""
    return build(D, H, executor="native", dtype=dtype, **options)


def on_loop(layer: Layer) -> Layer:
    """The same layer, with weights of its own, on the executor that says what is right."""
    copy = deepcopy(layer)
    copy.executor = "loop"
    return copy


def problem(layer: Layer, T: int, B: int, D: int) -> tuple[Tensor, list[Tensor]]:
    """An input and initial states for a layer, in its dtype, which ask for gradients."""
    dtype = next(layer.parameters()).dtype
    return torch.randn(T, B, D, dtype=dtype, requires_grad=True), random_states(layer, (B,), dtype)


def forward_and_backward(layer: nn.Module, x: Tensor, states: Sequence[Tensor] = ()) -> tuple[Results, Results]:
    """All results, and the gradient of everything that asks for one, for random cotangents."""
    results = call(layer, x, states)
    inputs = [tensor for tensor in (x, *states, *layer.parameters()) if tensor.requires_grad]
    return results, torch.autograd.grad(results, inputs, cotangents(results))


def agrees(layer: Layer, x: Tensor, states: Sequence[Tensor] = ()) -> None:
    """Raise AssertionError unless the layer's results and gradients are those of the loop executor."""
    assert layer.executor == "native"
    with torch.enable_grad():
        expected = forward_and_backward(on_loop(layer), x, states)
    same(forward_and_backward(layer, x, states), expected)


def same(found: tuple[Results, Results], expected: tuple[Results, Results]) -> None:
    all_close(found[0], expected[0], "outputs")
    all_close(found[1], expected[1], "gradients")


def key_of(layer: elman.Stack) -> str:
    """The key of the plan of a layer's first cell."""
    cell = layer._cells[0]
    shapes = tuple((name, tuple(parameter.shape)) for name, parameter in cell.named_parameters())
    plan = plan_cache.plan_for(cell, shapes, layer.input_size, cell.state_size, NATIVE)
    assert plan.key, plan.reason
    return plan.key
