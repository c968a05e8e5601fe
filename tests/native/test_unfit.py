"""What cannot run natively: it is told once and in one line, and runs on the loop executor all the same."""

import random
import warnings
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.through_time import EXECUTORS
from tests.native.pairs import forward_and_backward, on_loop, same
from tests.native.unfit import UNFIT, Asinh, Cell, H, Halved, line_of
from tests.tolerances import close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")

unfit = pytest.mark.parametrize(("cell_type", "says"), UNFIT, ids=[cell_type.__name__ for cell_type, _ in UNFIT])
T, B = 4, 3


def problem(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(T, B, H, dtype=dtype, requires_grad=True), torch.randn(B, H, dtype=dtype, requires_grad=True)


@unfit
def test_auto_tells_once_and_runs_on_the_loop(cell_type: type[Cell], says: Sequence[str]) -> None:
    layer, (x, h) = elman.Recurrent(cell_type()), problem()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = forward_and_backward(layer, x, [h])
        second = forward_and_backward(layer, x, [h])
        third = forward_and_backward(layer, x[:2], [h])
    assert [warning.category for warning in caught] == [UserWarning]
    message = str(caught[0].message)
    assert "\n" not in message
    expected = [cell_type.__name__, *says, line_of(cell_type), "loop executor"]
    assert [part for part in expected if part not in message] == [], message
    same(first, forward_and_backward(on_loop(layer), x, [h]))
    same(second, first)
    same(third, forward_and_backward(on_loop(layer), x[:2], [h]))


@unfit
def test_native_raises(cell_type: type[Cell], says: Sequence[str]) -> None:
    layer, (x, h) = elman.Recurrent(cell_type(), executor="native"), problem()
    for _ in range(2):
        with pytest.raises(RuntimeError) as raised:
            layer(x, h)
        message = str(raised.value)
        expected = [cell_type.__name__, "cannot run on the native executor", *says, line_of(cell_type)]
        assert [part for part in expected if part not in message] == [], message
        assert "\n" not in message


class Writing(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.steps.add_(1.0)  # type: ignore[operator]
        return torch.tanh(x + h @ self.W)


class Configured(Cell):
    """What it counts with is the same object after the step as before."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(steps=0)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.config.steps += 1
        return torch.tanh(x + h @ self.W).div(self.config.steps)


def test_what_an_object_counts_is_counted_by_the_steps_alone() -> None:
    cell = Configured()
    layer, (x, h) = elman.Recurrent(cell), problem()
    expected = h
    for x_t in x:
        expected = cell(x_t, expected)
    cell.config.steps = 0
    with pytest.warns(UserWarning, match="'config', in which the step changes something"):
        close(layer(x, h)[1], expected, "outputs")
    assert cell.config.steps == len(x)


class SettingAnew(Writing):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.steps: Tensor = self.steps + 1.0
        return torch.tanh(x + h @ self.W) / self.steps


def test_a_buffer_that_is_set_anew_runs_on_the_loop() -> None:
    cell: Any = SettingAnew()
    layer, (x, h) = elman.Recurrent(cell), problem()
    expected = h
    for x_t in x:
        expected = cell(x_t, expected)
    cell.steps = torch.zeros_like(cell.steps)
    with pytest.warns(UserWarning, match="'steps', a parameter or a buffer which the step sets anew"):
        close(layer(x, h)[1], expected, "outputs")
    assert (cell.steps == len(x)).all()


def test_a_buffer_that_is_written_to_runs_on_the_loop() -> None:
    layer, (x, h) = elman.Recurrent(Writing()), problem()
    with pytest.warns(UserWarning, match="in-place operation"):
        found = forward_and_backward(layer, x, [h])
    same(found, forward_and_backward(on_loop(layer), x, [h]))


class Plain(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.U = nn.Linear(H, H)
        self.scales, self.f = {"a": 0.5}, torch.tanh
        self.unused = nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.f(self.U(h) * self.scales["a"] + x)


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("inside", [True, False], ids=["of a module inside", "of the cell"])
def test_hooks_are_called_at_every_step(hook: str, inside: bool) -> None:
    cell = Plain()
    layer, (x, h), calls = elman.Recurrent(cell), problem(), list[int]()
    before = layer(x, h)[0]
    handle = getattr(cell.U if inside else cell, hook)(lambda *_: calls.append(1))
    with pytest.warns(UserWarning, match="hooks are called at every step"):
        layer(x, h)
    assert len(calls) == T
    handle.remove()
    assert torch.equal(layer(x, h)[0], before)
    assert len(calls) == T


def test_attributes_that_change_are_seen() -> None:
    cell = Plain()
    layer, (x, h) = elman.Recurrent(cell, executor="native"), problem()
    seen = [layer(x, h)[0]]
    cell.scales["a"] = 0.1
    seen.append(layer(x, h)[0])
    cell.f = torch.sigmoid
    seen.append(layer(x, h)[0])
    assert not any(torch.allclose(a, b) for a, b in pairwise(seen))
    close(seen[-1], on_loop(layer)(x, h)[0], "outputs")


def test_what_nothing_reaches_has_no_gradient() -> None:
    cell = Plain()
    layer, (x, h) = elman.Recurrent(cell, executor="native"), problem()
    layer(x, h)[0].sum().backward()
    assert cell.unused.weight.grad is None
    assert cell.U.weight.grad is not None


def test_both_say_the_same() -> None:
    layer, (x, h) = elman.Recurrent(Asinh()), problem()
    with pytest.warns(UserWarning, match="asinh") as caught:
        layer(x, h)
    layer.executor = "native"
    with pytest.raises(RuntimeError) as raised:
        layer(x, h)
    assert str(caught[0].message).startswith(str(raised.value))


def test_a_state_that_is_written_to() -> None:
    layer, (x, h) = elman.Recurrent(Halved(), executor="native"), problem()
    with pytest.raises(RuntimeError, match=r"aten\.mul_\.Tensor, which writes into an input, a state.*unfit\.py, line"):
        layer(x, h)


def test_every_cell_is_told_of() -> None:
    x, h = problem()
    for _ in range(2):
        layer = elman.Recurrent(Asinh())
        with pytest.warns(UserWarning, match="asinh") as caught:
            layer(x, h)
        assert len(caught) == 1


def test_the_warning_is_no_error_of_the_cell() -> None:
    """Whoever turns warnings into errors gets this one as well, and the next call runs."""
    layer, (x, h) = elman.Recurrent(Asinh()), problem()
    with pytest.raises(UserWarning, match="asinh"):
        layer(x, h)
    same(forward_and_backward(layer, x, [h]), forward_and_backward(on_loop(layer), x, [h]))


class Remembering(Cell):
    """What the step does depends on what no tensor says."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = [0]

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.calls[0] += 1
        return torch.tanh(x + h @ self.W) if self.calls[0] % 2 else torch.tanh(x - h @ self.W)


def test_a_step_that_changes_from_call_to_call() -> None:
    layer, (x, h) = elman.Recurrent(Remembering(), executor="native"), problem()
    with pytest.raises(RuntimeError, match="an attribute, 'calls', which the step changes"):
        layer(x, h)


class Rolling(Cell):
    """Draws for the batch as a whole."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * torch.rand(H)


def test_planning_takes_no_random_numbers() -> None:
    layer, (x, h) = elman.Recurrent(Rolling(), executor="native"), problem()
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="not drawn for each row"):
        layer(x, h)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    layer = elman.LSTM(H, H, dtype=dtype)
    x = torch.randn(T, B, H, dtype=dtype)
    assert torch.equal(layer(x)[0], on_loop(layer)(x)[0])
    layer.executor = "native"
    with pytest.raises(RuntimeError, match=f"float32 or float64 alone, and was given {dtype}"):
        layer(x)


def test_an_error_in_planning_is_told_and_the_cell_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(step: object) -> None:
        raise KeyError("a node")

    monkeypatch.setattr("elman.through_time.native.registry.plan", broken)
    layer, (x, h) = elman.Recurrent(Plain()), problem()
    with pytest.warns(UserWarning, match="an error of elman's own, which is worth a report: KeyError: 'a node'"):
        found = layer(x, h)
    assert torch.equal(found[0], on_loop(layer)(x, h)[0])


class Counting(Cell):
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor([1, 2, 3, 4, 5]))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x * self.count + h @ self.W)


def test_an_integer_buffer() -> None:
    layer, (x, h) = elman.Recurrent(Counting()), problem()
    with pytest.warns(UserWarning, match=r"numbers of torch\.int64"):
        layer(x, h)
    same(forward_and_backward(layer, x, [h]), forward_and_backward(on_loop(layer), x, [h]))
    layer.executor = "native"
    with pytest.raises(RuntimeError, match=r"torch\.int64"):
        layer(x, h)


class Dicing(Cell):
    """Draws from Python and NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.thrown: list[int] = []

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.thrown.append(random.randrange(6) + int(np.random.randint(6)))
        return torch.tanh(x + h @ self.W)


def test_planning_leaves_nothing_behind() -> None:
    found = []
    for executor in ("loop", "auto"):
        random.seed(0)
        np.random.seed(0)
        cell, (x, h) = Dicing(), problem()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            elman.Recurrent(cell, executor=executor)(x, h)
        found.append((cell.thrown, random.random(), np.random.rand()))
    assert found[0] == found[1]
    assert "random numbers that are not torch's" in str(caught[0].message)


class Drawing(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * (2 if random.random() < 0.001 else 1)


def test_random_numbers_of_python() -> None:
    layer, (x, h) = elman.Recurrent(Drawing(), executor="native"), problem()
    with pytest.raises(RuntimeError, match="random numbers that are not torch's"):
        layer(x, h)


class Seeding(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        torch.manual_seed(1)
        return torch.tanh(x + h @ self.W) * torch.rand_like(h)


def test_a_step_that_sets_the_seed() -> None:
    layer, (x, h) = elman.Recurrent(Seeding(), executor="native"), problem()
    with pytest.raises(RuntimeError, match="random numbers that are the same at every step"):
        layer(x, h)


def test_dtypes_that_differ() -> None:
    layer, (x, _) = elman.GRU(H, H, executor="native"), problem(torch.float32)
    layer.bias_hh_l0 = nn.Parameter(torch.zeros(3 * H, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"torch\.float32 \w+ torch\.float64"):
        layer(x)
