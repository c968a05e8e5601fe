"""`elman.describe` tells what runs where, and why."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS

torch_executor = pytest.mark.skipif("torch" not in EXECUTORS, reason="the torch executor is switched off")
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


class Summing(nn.Module):
    """A cell with an operation that is in no table."""

    input_size, state_size = 4, 4

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.cumsum(h, -1) + x


@native
def test_of_an_lstm() -> None:
    description = elman.describe(elman.LSTM(3, 5))
    text = str(description)
    assert description.executor == "native"
    assert "before the loop, all steps at once: product with weight_ih^T (3 -> 20)" in text
    assert "in the loop, forward: product with weight_hh^T (5 -> 20)" in text
    assert "after the loop, all steps at once: product with weight_ih (20 -> 3); sums over all rows" in text
    assert f"{(4 + 2) * 5 * 4} bytes for each step and sequence" in text  # four gates, h and c


@native
def test_of_a_layer_in_bfloat16() -> None:
    text = str(elman.describe(elman.LSTM(3, 5).bfloat16()))
    assert "matrix products round their factors to bfloat16, and add up in float32, by" in text
    assert f"{(4 + 2) * 5 * 4} bytes for each step and sequence" in text  # of float32


@native
@pytest.mark.parametrize("batch_first", [False, True])
def test_of_an_input(batch_first: bool) -> None:
    layer = elman.GRU(3, 5, num_layers=2, batch_first=batch_first)
    text = str(elman.describe(layer, torch.zeros(2, 7, 3) if batch_first else torch.zeros(7, 2, 3)))
    assert text.count("for T = 7, B = 2: one thread; saved in total") == 2
    assert "layer 0, GRU, 3 -> 5" in text
    assert "layer 1, GRU, 5 -> 5" in text


@native
def test_threads_by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.engine.cpu.openmp.threads", lambda: 2)
    layer = elman.LSTM(256, 256)
    assert "2 threads, which share the sequences" in str(elman.describe(layer, torch.zeros(9, 32, 256)))
    assert "2 threads, which share the columns of each step" in str(elman.describe(layer, torch.zeros(99, 1, 256)))


@native
def test_why_not_native() -> None:
    description = elman.describe(elman.Recurrent(Summing()))
    assert description.executor == "loop"
    assert "aten.cumsum" in description.reason
    assert "(test_describe.py, line " in str(description)


@native
def test_of_cells_around_cells() -> None:
    description = elman.describe(elman.GRU(3, 5, zoneout=0.1, recurrent_dropout=0.1))
    assert description.executor == "native"
    assert "GRU with recurrent dropout with zoneout" in str(description)


def test_of_the_loop() -> None:
    description = elman.describe(elman.RNN(3, 5, executor="loop"))
    assert description.executor == "loop"
    assert "requested by name" in str(description)


@torch_executor
def test_of_an_executor_that_cannot_run_the_layer() -> None:
    description = elman.describe(elman.LSTM(3, 5, num_layers=2, executor="torch", zoneout=0.1))
    expected = "executor torch, requested by name, cannot run it: the torch executor supports the cells of torch.nn"
    assert expected in str(description)
    assert "all steps are run by" not in str(description)
    assert "layers and directions" not in str(description)


@torch_executor
def test_of_the_calls_of_a_stack() -> None:
    layer = elman.LSTM(3, 5, num_layers=2, bidirectional=True, dropout=0.1, executor="torch")
    assert "4 calls, one for each of the layers and directions" in str(elman.describe(layer))
    assert "one call runs all layers and directions" in str(elman.describe(layer.eval()))


@pytest.mark.parametrize("make", [lambda: elman.GRU(3, 5), lambda: elman.Recurrent(nn.GRUCell(3, 5))])
def test_of_an_input_that_the_layer_refuses(make: Callable[[], elman.GRU | elman.Recurrent]) -> None:
    layer, x = make(), torch.zeros(7, 2, 3)
    for wrong in (x.to("meta"), x.double(), torch.zeros(7, 2, 4)):
        with pytest.raises(ValueError, match=": input: ") as of_call:
            layer(wrong)
        with pytest.raises(ValueError, match=": input: ") as of_description:
            elman.describe(layer, wrong)
        assert str(of_description.value) == str(of_call.value)


def test_the_former_name_warns() -> None:
    with pytest.warns(FutureWarning, match=r"elman\.explain is deprecated .* use elman\.describe instead"):
        description = elman.explain(elman.RNN(3, 5, executor="loop"))
    assert description == elman.describe(elman.RNN(3, 5, executor="loop"))
    assert "explain" not in elman.__all__


def test_of_what_is_no_layer() -> None:
    with pytest.raises(TypeError, match="expected an elman layer, got LSTM"):
        elman.describe(nn.LSTM(3, 5))  # type: ignore[arg-type]


def test_of_a_cell_that_tells_no_size() -> None:
    class Halving(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return (x + h) / 2

    with pytest.raises(TypeError, match="input: expected an example input"):
        elman.describe(elman.Recurrent(Halving()))
