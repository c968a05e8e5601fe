"""Cells whose steps cannot run again, and are told."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import RTRL, Checkpointed, Full, Mode, Truncated
from tests.bptt.modes import B, D, T, every_mode


class Changing(nn.Module):
    """A cell that does something beside returning its state."""

    state_size = D
    count: Tensor

    def __init__(self, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.change, self.steps, self.seen = change, 0, list[int]()
        self.rate, self.norm = nn.Parameter(torch.ones(D)), nn.BatchNorm1d(D)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        factor = self.change(self)
        h = self.rate * h + x
        return h * factor if isinstance(factor, float) else factor(h) if callable(factor) else h


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "attribute": (lambda cell: setattr(cell, "steps", cell.steps + 1), "an attribute, 'steps', which the step changes"),
    "list": (lambda cell: cell.seen.append(1), "an attribute, 'seen', which the step changes"),
    "numpy": (lambda cell: float(np.random.rand()), "random numbers that do not come from torch"),
    "buffer": (lambda cell: setattr(cell, "count", cell.count + 1), "a buffer, 'count', which the step changes"),
    "buffer in place": (lambda cell: cell.count.add_(1), "a buffer, 'count', which the step changes"),
    "batch norm": (lambda cell: cell.norm, "a buffer, 'norm.[a-z_]+', which the step changes"),
}


@pytest.mark.sample(8)
@every_mode
@pytest.mark.parametrize("name", CHANGES)
def test_a_cell_whose_steps_cannot_run_again(name: str, mode: Mode) -> None:
    change, reason = CHANGES[name]
    cell = Changing(change)
    layer, x = elman.Recurrent(cell, executor="loop", bptt=mode), torch.randn(T, B, D)
    before = [value.clone() for value in cell.buffers()]
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf"Changing: bptt: expected Full, since .* cannot be recomputed: {reason}"
        ):
            layer(x)
    assert cell.steps == len(cell.seen) == 0
    assert all(map(torch.equal, cell.buffers(), before))
    with torch.no_grad():
        layer(x)
    layer.bptt = Full()
    layer(x)
    layer.bptt = mode
    if name == "batch norm":
        layer.eval()
        layer(x)


class Noisy(nn.Module):
    """h + a * noise."""

    def __init__(self, noise: Any) -> None:
        super().__init__()
        self.noise, self.on, self.state_size, self.a = noise, True, 3, nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.a * (self.noise() if self.on else 1)


@pytest.mark.parametrize("mode", [Checkpointed(2), Truncated(2, 3), RTRL()], ids=str)
@pytest.mark.parametrize(
    "noise",
    [
        np.random.default_rng(0).random,
        random.Random(0).random,
        partial(torch.rand, 3, generator=torch.Generator()),
        np.random.rand,
    ],
    ids=["NumPy's generator", "Python's", "a generator of torch", "NumPy's own"],
)
def test_generators_that_are_not_torchs_are_refused(noise: Any, mode: Any) -> None:
    cell, x = Noisy(noise), torch.randn(8, 2, 3)
    layer = elman.Recurrent(cell, bptt=mode, executor="loop")
    for on in (True, False, True):
        cell.on = on
        if on:
            with pytest.raises(
                RuntimeError, match="Noisy: bptt: expected Full, since the steps of Noisy cannot be recomputed"
            ):
                layer(x)
        else:
            layer(x)


def test_an_attribute_changed_between_forward_and_backward_is_refused() -> None:
    cell = Noisy(lambda: 1.0)
    outputs, _ = elman.Recurrent(cell, bptt=Checkpointed(2))(torch.randn(8, 2, 3))
    cell.on = False
    with pytest.raises(RuntimeError, match="Noisy: bptt: expected the cell as it was in the forward pass"):
        outputs.sum().backward()
