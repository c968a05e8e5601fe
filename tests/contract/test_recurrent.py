"""Recurrent(cell) is the cell in a plain Python loop, whatever the cell."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman import Recurrent, cells
from tests.cases import Sizes, TwoWidths, call, every_executor, gradients, in_a_row, in_form, random_states
from tests.tolerances import all_close

T, B, D, H = Sizes(T=4, B=2, D=3, H=5)
CELLS = [nn.RNNCell, nn.GRUCell, nn.LSTMCell, TwoWidths, *map(cells.by_name, cells.SHELF)]
every_cell = pytest.mark.parametrize("make", CELLS)
Make = Callable[[int, int], nn.Module]


def unrolled(cell: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    outputs = []
    for x_t in x:
        state = cell(x_t, state)
        outputs.append(state if isinstance(state, Tensor) else state[0])
    return torch.stack(outputs), state


def random_input() -> Tensor:
    return torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)


@every_executor
@every_cell
def test_is_the_loop(make: Make, executor: str) -> None:
    cell = make(D, H).double()
    layer = Recurrent(cell, executor=executor)
    x, states = random_input(), random_states(layer, (B,))
    ours, theirs = call(layer, x, states), in_a_row(unrolled(cell, x, in_form(states)))
    all_close(ours, theirs, "outputs")
    inputs = (x, *states, *cell.parameters())
    all_close(gradients(ours, inputs), gradients(theirs, inputs), "gradients")


@every_executor
@every_cell
def test_begins_from_zeros(make: Make, executor: str) -> None:
    layer = Recurrent(make(D, H).double(), executor=executor)
    x, states = random_input(), random_states(layer, (B,))
    all_close(call(layer, x), call(layer, x, [torch.zeros_like(state) for state in states]), "outputs")


@every_executor
def test_buffers_are_read_at_every_call(executor: str) -> None:
    cell = TwoWidths(D, H).double()
    layer = Recurrent(cell, executor=executor)
    x = random_input()
    before = layer(x)[0]
    cell.decay = cell.decay / 2
    after = layer(x)[0]
    assert not torch.allclose(before, after)
    states = in_form([torch.zeros_like(state) for state in random_states(layer, (B,))])
    all_close([after], [unrolled(cell, x, states)[0]], "outputs")


@every_executor
def test_the_state_size_may_be_told(executor: str) -> None:
    cell = TwoWidths(D, H).double()
    x, told = random_input(), cell.state_size
    expected = call(Recurrent(cell, executor=executor), x)
    del cell.state_size
    all_close(call(Recurrent(cell, state_size=told, executor=executor), x), expected, "outputs")
    zeros = [torch.zeros(B, width, dtype=torch.float64) for width in told]
    all_close(call(Recurrent(cell, executor=executor), x, zeros), expected, "outputs")
