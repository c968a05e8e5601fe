"""Law 5: an executor requested by name runs or raises.

What cannot run natively is told once and in one line, and runs on the loop executor all the same.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS
from tests.native.pairs import forward_and_backward, on_loop, same
from tests.native.unfit import UNFIT, Asinh, B, Cell, H, Halved, T, line_of, problem
from tests.tolerances import close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
unfit = pytest.mark.parametrize(("cell_type", "says"), UNFIT, ids=[cell_type.__name__ for cell_type, _ in UNFIT])


@pytest.mark.sample(8)
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


@pytest.mark.sample(8)
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
    assert str(caught[0].message).startswith(str(raised.value).removesuffix("; use executor='auto'"))


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


def test_float16() -> None:
    dtype = torch.float16
    layer = elman.LSTM(H, H, dtype=dtype)
    x = torch.randn(T, B, H, dtype=dtype)
    twin = nn.LSTM(H, H, dtype=dtype)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x)[0], twin(x)[0])  # the torch executor runs it
    layer.executor = "native"
    with pytest.raises(RuntimeError, match=r"float32, float64 and bfloat16, .*, got torch\.float16"):
        layer(x)


def test_an_error_in_planning_is_told_and_the_cell_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(step: object) -> None:
        raise KeyError("a node")

    monkeypatch.setattr("elman.engine.plan.captured.plan", broken)
    layer, (x, h) = elman.Recurrent(Plain()), problem()
    with pytest.warns(UserWarning, match="because of an internal error of elman; please report it: KeyError: 'a node'"):
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
    with pytest.warns(UserWarning, match=r"a tensor of torch\.int64"):
        layer(x, h)
    same(forward_and_backward(layer, x, [h]), forward_and_backward(on_loop(layer), x, [h]))
    layer.executor = "native"
    with pytest.raises(RuntimeError, match=r"torch\.int64"):
        layer(x, h)


def test_dtypes_that_differ() -> None:
    layer, (x, _) = elman.GRU(H, H, executor="native"), problem(torch.float32)
    layer.bias_hh_l0 = nn.Parameter(torch.zeros(3 * H, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"torch\.float32 \w+ torch\.float64"):
        layer(x)


class AsAdvised(Cell):
    mixing: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mixing", torch.eye(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.mixing @ torch.eye(H, dtype=x.dtype) @ self.W)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_advice_for_tensors_of_another_dtype_holds(dtype: torch.dtype) -> None:
    layer, (x, h) = elman.Recurrent(AsAdvised(), executor="native").to(dtype), problem(dtype)
    same(forward_and_backward(layer, x, [h]), forward_and_backward(on_loop(layer), x, [h]))
