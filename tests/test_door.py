"""What is wrong is said at the door: which argument, what was expected, what came."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn, zeros
from torch.nn.utils.rnn import pack_sequence

from elman import GRU, LSTM, RNN, Recurrent, Stack, cells

x = zeros(7, 2, 3)  # T = 7, B = 2, D = 3, and H = 5 below
h, c = zeros(1, 2, 5), zeros(1, 2, 5)
Wrong = tuple[Callable[[], object], type[Exception], Sequence[str]]


class Halving(nn.Module):
    """A cell that tells no size."""

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return x / 2 + h / 2


DTYPES = ["torch.float64", "does not match weight dtype (torch.float32)", "input.to(torch.float32)"]
STATE_DTYPES = ["RNN state dtype (torch.", "does not match weight dtype (torch.float32)", "state.to(torch.float32)"]
BY_NAME = "; pass lengths by name, lengths="
of_bytes = x.to(torch.uint8)

INPUTS: dict[str, Wrong] = {
    "width": (lambda: LSTM(3, 5)(zeros(7, 2, 4)), ValueError, ["LSTM: input", "width 3", "got 4", "(7, 2, 4)"]),
    "width without batch": (lambda: LSTM(3, 5)(zeros(7, 4)), ValueError, ["LSTM: input", "width 3", "got 4"]),
    "one dim": (lambda: GRU(3, 5)(zeros(3)), ValueError, ["GRU: input", "(T, B, D) or (T, D)", "(3,)"]),
    "four dims": (lambda: GRU(3, 5)(zeros(1, 7, 2, 3)), ValueError, ["GRU: input", "(T, B, D)", "(1, 7, 2, 3)"]),
    "layout": (lambda: RNN(3, 5, batch_first=True)(zeros(3)), ValueError, ["RNN: input", "(B, T, D)", "(3,)"]),
    "no time": (lambda: RNN(3, 5)(zeros(0, 2, 3)), ValueError, ["RNN: input", "one time step", "(0, 2, 3)"]),
    "no time, batch first": (
        lambda: RNN(3, 5, batch_first=True)(zeros(2, 0, 3)),
        ValueError,
        ["RNN: input", "one time step", "(2, 0, 3)"],
    ),
    "packed": (lambda: GRU(3, 5)(pack_sequence([zeros(7, 4)])), ValueError, ["GRU: input", "width 3", "got 4"]),
    "list": (lambda: Recurrent(nn.GRUCell(3, 5))([x]), TypeError, ["Recurrent: input", "tensor", "list"]),
    "width of a cell": (
        lambda: Recurrent(nn.LSTMCell(3, 5))(zeros(7, 2, 4)),
        ValueError,
        ["Recurrent: input", "width 3", "got 4"],
    ),
}

INPUTS |= {
    "dtype": (lambda: LSTM(3, 5)(x.double()), ValueError, ["LSTM: input", *DTYPES]),
    "whole numbers": (
        lambda: GRU(3, 5)(x.long()),
        ValueError,
        ["input dtype (torch.int64)", *DTYPES[1:], "nn.Embedding"],
    ),
    "bytes of a cell": (
        lambda: Recurrent(nn.GRUCell(3, 5))(of_bytes),
        ValueError,
        ["uint8", *DTYPES[1:], "nn.Embedding"],
    ),
    "truths": (lambda: GRU(3, 5)(x > 0), ValueError, ["input dtype (torch.bool)", *DTYPES[1:], "nn.Embedding"]),
    "complex numbers": (lambda: GRU(3, 5)(x + 0j), ValueError, ["torch.complex64", "torch.view_as_real(input)"]),
    "dtype of a cell": (
        lambda: Recurrent(nn.GRUCell(3, 5))(x.double()),
        ValueError,
        ["Recurrent: input", *DTYPES],
    ),
    "device": (
        lambda: RNN(3, 5)(x.to("meta")),
        ValueError,
        ["RNN: input: expected the device of the parameters, cpu", "got meta; move it: input.to('cpu')"],
    ),
}

STATES: dict[str, Wrong] = {
    "dtype": (lambda: LSTM(3, 5)(x, (h, c.double())), ValueError, ["LSTM: state", *STATE_DTYPES]),
    "dtype of a cell's": (
        lambda: Recurrent(nn.GRUCell(3, 5))(x, h[0].bfloat16()),
        ValueError,
        ["Recurrent: state", *STATE_DTYPES],
    ),
    "lengths": (lambda: GRU(3, 5)(x, [7, 2]), ValueError, ["GRU: state", "got int and int", BY_NAME]),
    "lengths in a tensor": (lambda: LSTM(3, 5)(x, torch.tensor([7, 2])), ValueError, ["got (2,)", BY_NAME]),
    "lengths in an array": (lambda: RNN(3, 5)(x, np.array([7, 2])), ValueError, ["got ndarray", BY_NAME]),
    "lengths in tensors": (lambda: GRU(3, 5)(x, list(torch.tensor([7, 2]))), ValueError, ["got () and ()", BY_NAME]),
    "lengths of a cell": (lambda: Recurrent(nn.GRUCell(3, 5))(x, torch.tensor([7, 2])), ValueError, [BY_NAME]),
    "lengths of a cell without a size": (lambda: Recurrent(Halving())(x, (7, 2)), TypeError, ["got (7, 2)", BY_NAME]),
    "lengths in the shape of a state": (
        lambda: Recurrent(nn.GRUCell(3, 2))(x[:, 0], torch.tensor([7, 2])),
        ValueError,
        [*STATE_DTYPES, BY_NAME],
    ),
    "device": (
        lambda: GRU(3, 5)(x, h.to("meta")),
        ValueError,
        ["GRU: state: expected the device of the parameters, cpu", "got meta; move it: state.to('cpu')"],
    ),
    "one for two": (lambda: LSTM(3, 5)(x, h), ValueError, ["LSTM: state", "(1, 2, 5) and (1, 2, 5)", "got (1, 2, 5)"]),
    "two for one": (lambda: GRU(3, 5)(x, (h, c)), ValueError, ["GRU: state", "(1, 2, 5)", "(1, 2, 5) and (1, 2, 5)"]),
    "three": (lambda: LSTM(3, 5)(x, (h, c, c)), ValueError, ["LSTM: state", " and ".join(["(1, 2, 5)"] * 3)]),
    "width": (lambda: RNN(3, 5)(x, zeros(1, 2, 6)), ValueError, ["RNN: state", "(1, 2, 5)", "got (1, 2, 6)"]),
    "batch": (lambda: RNN(3, 5)(x, zeros(1, 4, 5)), ValueError, ["RNN: state", "(1, 2, 5)", "got (1, 4, 5)"]),
    "layers": (lambda: GRU(3, 5, 2)(x, h), ValueError, ["GRU: state", "(2, 2, 5)", "got (1, 2, 5)"]),
    "no layers": (lambda: GRU(3, 5)(x, h[0]), ValueError, ["GRU: state", "(1, 2, 5)", "got (2, 5)"]),
    "c of another shape": (lambda: LSTM(3, 5)(x, (h, c[0])), ValueError, ["LSTM: state", "(1, 2, 5) and (2, 5)"]),
    "a batch for no batch": (lambda: GRU(3, 5)(zeros(7, 3), h), ValueError, ["GRU: state", "(1, 5)", "got (1, 2, 5)"]),
    "of a cell": (
        lambda: Recurrent(nn.LSTMCell(3, 5))(x, (h[0], zeros(2, 6))),
        ValueError,
        ["Recurrent: state", "(2, 5) and (2, 5)", "got (2, 5) and (2, 6)"],
    ),
    "not a tensor": (lambda: LSTM(3, 5)(x, (h, None)), ValueError, ["LSTM: state", "got (1, 2, 5) and NoneType"]),
    "none at all": (lambda: LSTM(3, 5)(x, ()), ValueError, ["LSTM: state", "got no tensor"]),
    "not tensors": (
        lambda: Recurrent(Halving())(x, (None,)),
        TypeError,
        ["Recurrent: state", "tuple of tensors", "None"],
    ),
    "number": (lambda: RNN(3, 5)(x, 0), ValueError, ["RNN: state", "(1, 2, 5)", "got int"]),
    "unknown size": (lambda: Recurrent(Halving())(x), TypeError, ["state_size", "Halving", "does not define"]),
}

ARGUMENTS: dict[str, Wrong] = {
    "executor": (lambda: LSTM(3, 5, executor="gpu"), ValueError, ["executor", "'auto'", "loop", "got 'gpu'"]),
    "executor of a cell": (
        lambda: Recurrent(nn.GRUCell(3, 5), executor="gpu"),
        ValueError,
        ["executor", "'auto'", "loop", "got 'gpu'"],
    ),
    "dropout above": (lambda: GRU(3, 5, 2, dropout=1.5), ValueError, ["dropout", "from 0 to 1", "got 1.5"]),
    "dropout below": (lambda: GRU(3, 5, 2, dropout=-0.5), ValueError, ["dropout", "from 0 to 1", "got -0.5"]),
    "dropout is a bool": (lambda: GRU(3, 5, 2, dropout=True), ValueError, ["dropout", "from 0 to 1", "got True"]),
    "hidden_size": (lambda: RNN(3, 0), ValueError, ["hidden_size must be greater than zero, got 0"]),
    "input_size": (lambda: RNN(0, 5), ValueError, ["input_size must be greater than zero, got 0"]),
    "width of a shelf cell": (lambda: cells.LSTM(3, -1), ValueError, ["hidden_size", "at least 1", "got 3 and -1"]),
    "num_layers": (lambda: LSTM(3, 5, num_layers=0), ValueError, ["num_layers must be greater than zero, got 0"]),
    "nonlinearity": (lambda: RNN(3, 5, 1, "sine"), ValueError, ["nonlinearity", "'tanh' or 'relu'", "got 'sine'"]),
    "dropout is a string": (lambda: GRU(3, 5, 2, dropout="0.5"), ValueError, ["dropout", "got '0.5'"]),  # type: ignore[arg-type]
    "no cell": (lambda: Stack(3, 5), TypeError, ["cell_type", "got none"]),
    "cell is a string": (lambda: Recurrent("gru"), TypeError, ["cell", "Module", "got str"]),  # type: ignore[arg-type]
    "proj_size": (lambda: LSTM(3, 5, proj_size=5), ValueError, ["proj_size", "below hidden_size=5", "got 5"]),
    "proj_size of another": (lambda: GRU(3, 5, proj_size=2), ValueError, ["proj_size", "only supported for LSTM"]),
    "bias": (lambda: RNN(3, 5, bias=1), TypeError, ["bias should be of type bool, got: int"]),
}


@pytest.mark.parametrize(
    "wrong", [*INPUTS.values(), *STATES.values(), *ARGUMENTS.values()], ids=[*INPUTS, *STATES, *ARGUMENTS]
)
def test_says(wrong: Wrong) -> None:
    do, error, says = wrong
    with pytest.raises(error) as raised:
        do()
    message = str(raised.value)
    assert [part for part in says if part not in message] == [], message
    assert "\n" not in message
    assert not any(f"model.to(torch.{dtype})" in message for dtype in ("int64", "uint8", "bool", "complex64")), message
