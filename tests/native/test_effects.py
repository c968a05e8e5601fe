"""Steps that do something beside returning their state: what they count, write and draw is what the loop's would."""

import logging
import random
import threading
import warnings
from io import StringIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import elman
from elman.engine import EXECUTORS
from tests.native.pairs import forward_and_backward, on_loop, same
from tests.native.unfit import Cell, H, problem
from tests.tolerances import close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


class Writing(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.steps.add_(1.0)  # type: ignore[operator]
        return torch.tanh(x + h @ self.W)


def test_a_buffer_that_is_written_to_runs_on_the_loop() -> None:
    layer, (x, h) = elman.Recurrent(Writing()), problem()
    with pytest.warns(UserWarning, match="in-place operation"):
        found = forward_and_backward(layer, x, [h])
    same(found, forward_and_backward(on_loop(layer), x, [h]))


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
    with pytest.warns(UserWarning, match="'steps', a parameter or buffer that the step replaces"):
        close(layer(x, h)[1], expected, "outputs")
    assert (cell.steps == len(x)).all()


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
    with pytest.warns(UserWarning, match="'config', which the step modifies"):
        close(layer(x, h)[1], expected, "outputs")
    assert cell.config.steps == len(x)


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
    assert "random numbers that do not come from torch" in str(caught[0].message)


class DrawingCell(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(x + h @ self.W) * (2 if random.random() < 0.001 else 1)


def test_random_numbers_of_python() -> None:
    layer, (x, h) = elman.Recurrent(DrawingCell(), executor="native"), problem()
    with pytest.raises(RuntimeError, match="random numbers that do not come from torch"):
        layer(x, h)


class Seeding(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        torch.manual_seed(1)
        return torch.tanh(x + h @ self.W) * torch.rand_like(h)


def test_a_step_that_sets_the_seed() -> None:
    layer, (x, h) = elman.Recurrent(Seeding(), executor="native"), problem()
    with pytest.raises(RuntimeError, match="random numbers that are the same at every step"):
        layer(x, h)


class Showing(Cell):
    """What it does for `how` is seen outside of the process's own objects alone."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.file, self.log = how, StringIO(), logging.getLogger("tests.showing")

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        if self.how == "print":
            print("a step")
        elif self.how == "file":
            print("a step", file=self.file)
        else:
            self.log.warning("a step")
        return torch.tanh(x + h @ self.W)


@pytest.mark.parametrize("how", ["print", "file", "log"])
def test_what_a_step_prints_and_logs(how: str, capsys: Any, caplog: Any) -> None:
    cell, (x, h) = Showing(how), problem()
    if how != "file":
        del cell.file
    if how != "log":
        del cell.log
    layer = elman.Recurrent(cell)
    with pytest.warns(UserWarning, match=r"print\(\)|a file, 'file'|a logger, 'log'"):
        layer(x, h)
    layer(x, h)
    shown = capsys.readouterr().out + (cell.file.getvalue() if how == "file" else "") + caplog.text
    assert shown.count("a step") == 2 * len(x)
    elman.Recurrent(cell, bptt=elman.bptt.Checkpointed(2))(x, h)


COUNTED = 0


class Globals(Cell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        globals()["COUNTED"] += 1
        return torch.tanh(x + h @ self.W) / COUNTED


def test_names_that_code_makes_up() -> None:
    global COUNTED
    cell, (x, h) = Globals(), problem()
    expected = h
    for x_t in x:
        expected = cell(x_t, expected)
    COUNTED = 0
    with pytest.warns(UserWarning, match=r"globals\(\), in 'forward'"):
        close(elman.Recurrent(cell)(x, h)[1], expected, "outputs")
    assert len(x) == COUNTED


def test_threads_that_print_while_a_cell_is_captured() -> None:
    ended, lines, stream = threading.Event(), 0, StringIO()

    def show() -> None:
        nonlocal lines
        while not ended.is_set():
            print("a line", file=stream)
            lines += 1

    thread, before = threading.Thread(target=show), print
    thread.start()
    x, h = problem()
    try:
        for _ in range(3):
            cell = Showing("print")
            del cell.file, cell.log
            with pytest.warns(UserWarning, match=r"print\(\)"):
                elman.Recurrent(cell)(x, h)
    finally:
        ended.set()
        thread.join()
    assert stream.getvalue().count("a line") == lines > 0
    assert print is before
