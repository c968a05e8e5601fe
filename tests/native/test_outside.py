"""What a step reads or changes outside of its cell: globals, closures, class attributes, default arguments, objects."""

import gc
import itertools
import random
import warnings
import weakref
from array import array
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS
from elman.engine.compiled import plan_cache
from elman.engine.plan import captured as captured_plans
from elman.engine.trace.capture import capture
from tests.native.unfit import Cell, T, problem
from tests.tolerances import close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")

COUNT = 0
STATE = SimpleNamespace(count=0)
LOG: list[Any] = []
RNG = random.Random(0)


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count


def counted_in_a_global(kept: Any) -> int:
    global COUNT
    COUNT += 1
    return COUNT


def counted_in_a_function(kept: Any) -> int:
    counted_in_a_function.count = getattr(counted_in_a_function, "count", 0) + 1  # type: ignore[attr-defined]
    return int(counted_in_a_function.count)  # type: ignore[attr-defined]


def appended(kept: list[Any]) -> int:
    kept.append(1)
    return len(kept)


def logged_globally(kept: Any) -> int:
    LOG.append(1)
    return len(LOG)


def by_default(kept: Any, seen: list[int] = []) -> int:  # noqa: B006 - what is tested
    seen.append(1)
    return len(seen)


def in_an_object(kept: Any) -> int:
    STATE.count += 1
    return int(STATE.count)


def in_an_array(kept: Any) -> float:
    kept[0] += 1
    return float(kept[0])


def in_a_tensor(kept: Tensor) -> int:
    kept.add_(1)
    return 1


def by_data(kept: Tensor) -> int:
    kept.data = kept.data + 1
    return 1


def updated(kept: Counter[str]) -> int:
    kept["step"] += 1
    return int(kept["step"])


def value(kept: Any) -> Any:
    """What can be compared of a thing that was kept."""
    match kept:
        case Tensor():
            return kept.tolist()
        case np.ndarray() | array() | deque():
            return list(kept)
        case Slotted():
            return kept.count
        case random.Random():
            return kept.getstate()
        case np.random.Generator():
            return str(kept.bit_generator.state)
        case torch.Generator():
            return kept.get_state().tolist()
        case itertools.count():
            return repr(kept)
    return kept


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], float]]] = {
    "list": (list, appended),
    "deque": (lambda: deque([0]), lambda kept: appended(kept)),
    "counter": (Counter, updated),
    "set": (set, lambda kept: kept.add(len(kept)) or len(kept)),
    "array": (lambda: np.zeros(2), in_an_array),
    "array of Python's": (lambda: array("d", [0.0]), in_an_array),
    "tensor": (lambda: torch.zeros(2), in_a_tensor),
    "data of a tensor": (lambda: torch.zeros(2), by_data),
    "slots": (Slotted, Slotted.next),
    "slots by a method": (Slotted, lambda kept: kept.next()),
    "random": (lambda: random.Random(0), lambda kept: kept.random()),
    "random of NumPy": (lambda: np.random.default_rng(0), lambda kept: float(kept.random())),
    "random of torch": (lambda: torch.Generator().manual_seed(0), lambda kept: torch.rand(1, generator=kept).item()),
    "iterator": (lambda: itertools.count(1), next),
    "global": (lambda: None, counted_in_a_global),
    "global list": (lambda: None, logged_globally),
    "global object": (lambda: None, in_an_object),
    "function": (lambda: None, counted_in_a_function),
    "default": (lambda: None, by_default),
}


def reset() -> None:
    global COUNT
    COUNT = STATE.count = 0
    LOG.clear()
    counted_in_a_function.count = 0  # type: ignore[attr-defined]
    by_default.__defaults__[0].clear()  # type: ignore[index]


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_step_changes_outside_is_changed_by_the_steps_alone(name: str) -> None:
    make, change = CHANGES[name]
    (x, h), W, found = problem(), torch.randn(5, 5), []
    for executor in ("loop", "auto"):
        reset()
        kept = make()

        def step(x: Tensor, h: Tensor, W: Tensor, change: Any = change, kept: Any = kept) -> Tensor:
            return torch.tanh(x + h @ W) * float(change(kept))

        layer = elman.Recurrent(step, 5, executor=executor, parameters={"W": W})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outputs = [layer(x, h)[0] for _ in range(2)]
        found.append((outputs, value(kept), COUNT, list(LOG), STATE.count))
    assert [str(w.message).count("runs on the loop executor") for w in caught] == [1], caught
    for ours, theirs in zip(found[1][0], found[0][0], strict=True):
        assert torch.equal(ours, theirs)
    assert found[1][1:] == found[0][1:]


class Counted(Cell):
    calls: ClassVar[int] = 0

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        Counted.calls += 1
        return torch.tanh(x + h @ self.W)


def test_a_class_attribute_counts_the_steps() -> None:
    x, h = problem()
    with pytest.warns(UserWarning, match="a class attribute, 'calls', which the step changes"):
        elman.Recurrent(Counted())(x, h)
    assert Counted.calls == T


def test_a_tensor_that_is_written_to_keeps_its_numbers_and_its_history() -> None:
    """What a trial has written is undone such that autograd does not notice it."""
    memory, (x, h) = torch.randn(5, requires_grad=True), problem()
    twice, total = memory * 2, torch.zeros(5)
    square = twice * twice

    def step(x: Tensor, h: Tensor) -> Tensor:
        total.add_(h.detach().sum(0))
        return torch.tanh(x + h)

    with pytest.warns(UserWarning, match="not a parameter or buffer"):
        _, final = elman.Recurrent(step, 5)(x, h)
    expected, state = torch.zeros(5), h
    for x_t in x:
        expected += state.detach().sum(0)
        state = step(x_t, state)
    close(final, state, "outputs")
    square.sum().backward()
    assert memory.grad is not None


SCALE = 1.0
TABLE = {"scale": [1.0]}
DROP = nn.Dropout(0.9).eval()


def scaled(h: Tensor) -> Tensor:
    return h * SCALE


def otherwise(h: Tensor) -> Tensor:
    return h - SCALE


class Config:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    @property
    def doubled(self) -> float:
        return 2 * self.scale


class Reading(Cell):
    """Reads in every way there is, and changes nothing."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.act: nn.Module = nn.Tanh()
        self.number, self.config, self.array = np.float64(1), Config(1.0), np.ones(2)
        self.slotted, self.bound = Slotted(), partial(torch.mul, other=1.0)

    def forward(self, x: Tensor, h: Tensor, by: tuple[dict[str, float]] = ({"default": 1.0},)) -> Tensor:
        h = scaled(h) * (TABLE["scale"][0] * self.scale * float(self.number) * self.config.doubled)
        h = self.bound(h) * (float(self.array[1]) * by[0]["default"] + self.slotted.count)
        new: Tensor = self.act(DROP(x) + h @ self.W)
        return new


def counted_captures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    captured = list[int]()

    def counting(*args: Any) -> Any:
        captured.append(1)
        return capture(*args)

    monkeypatch.setattr(captured_plans, "capture", counting)
    return captured


def changes(cell: Any, patch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    here = globals()
    return {
        "global": lambda: patch.setitem(here, "SCALE", 0.5),
        "list in a global": lambda: TABLE["scale"].__setitem__(0, 0.5),
        "function": lambda: patch.setitem(here, "scaled", otherwise),
        "class attribute": lambda: patch.setattr(Reading, "scale", 0.5),
        "number of NumPy": lambda: setattr(cell, "number", np.float64(0.5)),
        "object": lambda: setattr(cell.config, "scale", 0.7),
        "property": lambda: patch.setattr(Config, "doubled", property(lambda self: self.scale)),
        "array": lambda: cell.array.__setitem__(1, 0.5),
        "slots": lambda: setattr(cell.slotted, "count", 3),
        "default": lambda: patch.setitem(Reading.forward.__defaults__[0][0], "default", 0.5),  # type: ignore[index]
        "partial": lambda: setattr(cell, "bound", partial(torch.mul, other=0.5)),
        "module": lambda: setattr(cell, "act", nn.Sigmoid()),
        "option of a module that has none now": lambda: patch.setattr(DROP, "p", 0.5),
    }


def test_what_a_step_reads_outside_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = counted_captures(monkeypatch)
    cell: Any = Reading()
    layer, (x, h) = elman.Recurrent(cell, executor="native"), problem()
    loop = elman.Recurrent(cell, executor="loop")
    before = layer(x, h)[0]
    for name, change in changes(cell, monkeypatch).items():
        change()
        now = layer(x, h)[0]
        assert torch.equal(before, now) is (name == "option of a module that has none now"), name
        close(now, loop(x, h)[0], "outputs")
        before = now
        captured.clear()
        layer(x, h)
        layer(x[:2], h)
        assert not captured, name
    DROP.train()
    try:
        assert not torch.allclose(layer(x, h)[0], now)
    finally:
        DROP.eval()


def test_constants_are_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not read by the step may change as often as it likes."""
    captured = counted_captures(monkeypatch)
    cell: Any = Reading()
    layer, (x, h) = elman.Recurrent(cell, executor="native"), problem()
    for step in range(4):
        cell.iterations = step
        cell.log = [step]
        cell.act = nn.Tanh()
        layer(x, h)
    assert len(captured) == 1


def test_a_cell_that_always_changes_is_not_captured_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    captured, log = counted_captures(monkeypatch), list[int]()

    def step(x: Tensor, h: Tensor) -> Tensor:
        log.append(len(x))
        return torch.tanh(x + h)

    layer, (x, h) = elman.Recurrent(step, 5), problem()
    with pytest.warns(UserWarning, match="a variable of an enclosing function, 'log', which the step changes"):
        layer(x, h)
    for _ in range(20):
        layer(x, h)
    assert log == [len(h)] * 21 * T
    assert len(captured) <= 2 * plan_cache.MAX_REFUSALS  # with other batch sizes each

    def scheduled(x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h / tau)

    tau, found = 1.0, elman.Recurrent(scheduled, 5)
    monkeypatch.setattr(plan_cache, "MAX_PLANS", 2)
    found(x, h)
    tau = 2.0
    found(x, h)
    tau = 3.0
    with pytest.warns(UserWarning, match="make a number that changes often a buffer"):
        close(found(x, h)[0], elman.Recurrent(scheduled, 5, executor="loop")(x, h)[0], "outputs")


class Circular(Cell):
    """Reads itself by a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 2.0
        self.act: Callable[[Tensor], Tensor] = lambda a: torch.tanh(a * self.scale)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.act(x + h @ self.W)


def test_what_is_compared_keeps_no_cell_alive() -> None:
    cell, (x, h) = Circular(), problem()
    elman.Recurrent(cell, executor="native")(x, h)
    there = weakref.ref(cell)
    del cell
    gc.collect()
    assert there() is None


def test_a_variable_of_the_function_around() -> None:
    tau = 1.0

    def step(x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h / tau)

    layer, (x, h) = elman.Recurrent(step, 5, executor="native"), problem()
    before = layer(x, h)[0]
    tau = 2.0
    assert not torch.allclose(layer(x, h)[0], before)
    close(layer(x, h)[0], elman.Recurrent(step, 5, executor="loop")(x, h)[0], "outputs")
