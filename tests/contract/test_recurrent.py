"""Recurrent(cell) is the cell in a plain Python loop, whatever the cell."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman import GRU, Recurrent, cells
from tests.cases import Sizes, TwoWidths, call, every_executor, gradients, in_a_row, in_form, random_states
from tests.tolerances import all_close

T, B, D, H = Sizes(T=4, B=2, D=3, H=5)
CELLS = [nn.RNNCell, nn.GRUCell, nn.LSTMCell, TwoWidths, *map(cells.by_name, cells.REGISTRY)]
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


@pytest.mark.sample(8)
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


@pytest.mark.sample(8)
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


def average(x: Tensor, h: Tensor, a: Tensor) -> Tensor:
    return a.sigmoid() * h + (1 - a.sigmoid()) * x


@every_executor
def test_a_function_and_its_parameters(executor: str) -> None:
    layer = Recurrent(average, 3, parameters={"a": torch.zeros(3)}, executor=executor)
    assert [name for name, _ in layer.named_parameters()] == ["cell.a"]
    outputs, _ = layer(torch.ones(2, 1, 3))
    assert outputs[:, 0, 0].tolist() == [0.5, 0.75]
    outputs.sum().backward()
    assert layer.cell.a.grad is not None
    found = deepcopy(layer)(torch.ones(2, 1, 3))[0]
    assert torch.equal(found, outputs)


@every_executor
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_initial_state_that_is_learned(executor: str, batch_first: bool) -> None:
    layer = Recurrent(nn.LSTMCell(3, 5), batch_first=batch_first, executor=executor, learn_state=True)
    learned = layer.initial_state
    assert learned is not None
    assert [name for name, _ in layer.named_parameters()][-2:] == ["initial_state.0", "initial_state.1"]
    x = torch.randn(2, 4, 3)
    zeros = tuple(torch.zeros(2 if batch_first else 4, 5) for _ in range(2))
    assert torch.equal(layer(x)[0], layer(x, zeros)[0])
    layer(x)[0].sum().backward()
    for p in learned:
        assert p.grad is not None
        assert p.grad.abs().min() > 0
        torch.nn.init.normal_(p)
    given = tuple(p.expand(2 if batch_first else 4, -1) for p in learned)
    assert torch.equal(layer(x)[0], layer(x, given)[0])
    assert torch.equal(layer(x[0])[0], layer(x[0], tuple(learned))[0])


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Recurrent(nn.LSTM(3, 5)), "expected a cell, which computes one step, got LSTM"),
        (lambda: Recurrent(GRU(3, 5)), "expected a cell, which computes one step, got GRU"),
        (lambda: Recurrent(nn.GRUCell), "got the class GRUCell"),
        (
            lambda: Recurrent("gru"),  # type: ignore[arg-type]
            "expected a torch.nn.Module or a function, got str",
        ),
        (lambda: Recurrent(nn.GRUCell(3, 5), parameters={}), "expected none for a module"),
        (lambda: Recurrent(average, learn_state=True), "with learn_state=True"),
        (
            lambda: Recurrent(average)(torch.ones(2, 1, 3)),
            "expected the size of the state, which average does not define",
        ),
    ],
)
def test_what_is_no_cell(build: Callable[[], object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        build()
