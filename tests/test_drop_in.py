"""Layers and cells stand in the place of torch.nn's: constructor, parameters, state dict, call, repr."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman import GRU, LSTM, RNN, cells
from tests.cases import call
from tests.tolerances import all_close

LAYERS = [(RNN, nn.RNN), (GRU, nn.GRU), (LSTM, nn.LSTM)]
CELLS = [(cells.RNN, nn.RNNCell), (cells.GRU, nn.GRUCell), (cells.LSTM, nn.LSTMCell)]

every_twin = pytest.mark.parametrize(("ours", "theirs"), [*LAYERS, *CELLS])
every_layer = pytest.mark.parametrize(("ours", "theirs"), LAYERS)
every_cell = pytest.mark.parametrize(("ours", "theirs"), CELLS)
Class = Any  # a layer or a cell, of either package


def assert_same_parameters(ours: nn.Module, theirs: nn.Module) -> None:
    """Names, order, dtypes and values."""
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert our.dtype == their.dtype
        assert torch.equal(our, their)


@every_twin
@pytest.mark.parametrize("bias", [True, False])
def test_one_seed_begins_from_the_same_values(ours: Class, theirs: Class, bias: bool) -> None:
    torch.manual_seed(3)
    our = ours(3, 5, bias=bias)
    torch.manual_seed(3)
    assert_same_parameters(our, theirs(3, 5, bias=bias))


@every_layer
def test_arguments_of_a_layer_by_position(ours: Class, theirs: Class) -> None:
    nonlinearity = ["relu"] if ours is RNN else []
    # num_layers, (nonlinearity), bias, batch_first, dropout, bidirectional, proj_size, device, dtype
    arguments = (3, 5, 2, *nonlinearity, False, True, 0.5, False, 0, "cpu", torch.float64)
    torch.manual_seed(3)
    our = ours(*arguments)
    torch.manual_seed(3)
    their = theirs(*arguments)
    assert_same_parameters(our, their)
    assert repr(our) == repr(their)
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "nonlinearity"]
    for name in names if nonlinearity else names[:-1]:
        assert getattr(our, name) == getattr(their, name)


@every_cell
def test_arguments_of_a_cell_by_position(ours: Class, theirs: Class) -> None:
    nonlinearity = ["relu"] if ours is cells.RNN else []
    arguments = (3, 5, False, *nonlinearity, "cpu", torch.float64)
    torch.manual_seed(3)
    our = ours(*arguments)
    torch.manual_seed(3)
    assert_same_parameters(our, theirs(*arguments))


@every_layer
def test_state_dicts_load_both_ways(ours: Class, theirs: Class) -> None:
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    for one, other in ((ours, theirs), (theirs, ours)):
        source, target = one(3, 5, num_layers=2).double(), other(3, 5, num_layers=2).double()
        target.load_state_dict(source.state_dict(), strict=True)
        assert_same_parameters(target, source)
        all_close(call(target, x), call(source, x), "outputs")


@every_cell
@pytest.mark.parametrize("batch", [(2,), ()], ids=["batch", "no batch"])
def test_one_step_of_a_cell(ours: Class, theirs: Class, batch: tuple[int, ...]) -> None:
    cell, twin = ours(3, 5).double(), theirs(3, 5).double()
    twin.load_state_dict(cell.state_dict(), strict=True)
    x, h, c = torch.randn(3, *batch, 5, dtype=torch.float64)
    state = (h, c) if ours is cells.LSTM else h
    after, expected = ((made,) if isinstance(made := m(x[..., :3], state), Tensor) else made for m in (cell, twin))
    all_close(after, expected, "outputs")


@every_twin
@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=str)
def test_repr(ours: Class, theirs: Class, options: dict[str, bool]) -> None:
    # The cells of this package are called as the layers are.
    assert repr(ours(3, 5, **options)) == repr(theirs(3, 5, **options)).replace("Cell(", "(")


@every_layer
def test_arguments_of_the_call_by_name(ours: Class, theirs: Class) -> None:
    for layer in (ours(3, 5), theirs(3, 5)):
        outputs, _ = layer(input=torch.randn(4, 2, 3), hx=None)
        assert outputs.shape == (4, 2, 5)


@every_layer
def test_dropout_on_one_layer_is_warned_of(ours: Class, theirs: Class) -> None:
    for layer in (ours, theirs):
        with pytest.warns(UserWarning, match=r"dropout=0\.5.*num_layers"):
            layer(3, 5, dropout=0.5)
