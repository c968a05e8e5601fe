"""tanh, sigmoid and relu of the native executor: 4 ulp, NaN and infinity as in torch, denormals without delay."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import elman
from elman.bench.elementwise import FUNCTIONS, WIDTH, native
from elman.engine import EXECUTORS

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")

both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def exact(name: str, x: Tensor) -> NDArray[Any]:
    wide = x.numpy().astype(np.longdouble)
    return np.asarray(np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide)))


@both
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_within_four_ulp(name: str, dtype: torch.dtype) -> None:
    sizes = 10 ** torch.linspace(-37, 3, 50_000, dtype=torch.float64)
    x = torch.cat((torch.linspace(-25, 25, 100_001, dtype=torch.float64), sizes, -sizes)).to(dtype)
    correct = exact(name, x)
    rounded = np.abs(correct).astype(native(name, x).numpy().dtype)
    errors = np.abs(native(name, x).numpy() - correct) / np.spacing(rounded)
    tiny = rounded < np.finfo(rounded.dtype).tiny
    assert errors[~tiny].max() < 4
    assert np.abs(native(name, x).numpy()[tiny]).max(initial=0) <= np.finfo(rounded.dtype).tiny


@both
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_number_goes_through_as_in_torch(name: str, dtype: torch.dtype) -> None:
    x = torch.tensor([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 0.3] * 5, dtype=dtype)
    torch.testing.assert_close(native(name, x), FUNCTIONS[name](x), equal_nan=True)


@pytest.mark.parametrize("layer", [elman.LSTM, elman.GRU, elman.RNN])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_input_spoils_what_it_spoils_in_torch(layer: type[elman.Stack], bad: float) -> None:
    x = torch.randn(5, 3, 7)
    x[2, 1, 4] = bad
    found = []
    for executor in ("loop", "native"):
        torch.manual_seed(0)
        run = layer(7, 20, executor=executor)
        outputs, _ = run(x)
        outputs.sum().backward()
        found.append([outputs.detach(), *(p.grad for p in run.parameters())])
    for loop, native_ in zip(*found, strict=True):
        torch.testing.assert_close(native_, loop, equal_nan=True)
    assert found[1][0][:2].isfinite().all()
    assert found[1][0][2:, [0, 2]].isfinite().all()


def test_denormals_count_as_zero_and_come_back_afterwards() -> None:
    tiny = torch.full((WIDTH,), 1e-40)
    assert native("tanh", tiny).abs().max() == 0
    assert (tiny / 2).abs().min() > 0  # torch itself goes on as before
