"""The layers under test: how each is built, its twin in torch.nn, its oracle. A new case is one line of `CASES`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import elman
from elman import cells
from elman.engine import EXECUTORS
from tests.oracle import Oracle
from tests.oracle.gru import gru
from tests.oracle.lstm import lstm
from tests.oracle.rnn import rnn
from tests.tolerances import all_close

Results = tuple[Tensor, ...]  # outputs, then each final state
Run = Callable[..., Results]  # of x, each initial state, each parameter


class Case(NamedTuple):
    name: str
    build: Callable[..., elman.Stack | elman.Recurrent]  # (D, H, options of torch.nn, executor=)
    twin: Callable[..., nn.RNNBase] | None = None  # (D, H, options of torch.nn)
    oracle: Oracle | None = None


class Sizes(NamedTuple):
    T: int
    B: int
    D: int
    H: int


class TwoWidths(nn.Module):
    """What no cell of torch.nn has: two states of different widths, modules inside, a buffer."""

    decay: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.state_size = (hidden_size, hidden_size + 2)
        self.read_input = nn.Linear(input_size, hidden_size)
        self.read_memory = nn.Linear(hidden_size + 2, hidden_size, bias=False)
        self.write = nn.Linear(hidden_size, hidden_size + 2, bias=False)
        self.register_buffer("decay", torch.linspace(0.2, 0.8, hidden_size + 2))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, m = state
        h = torch.tanh(self.read_input(x) + self.read_memory(m)) + h / 2
        return h, self.decay * m + self.write(h)


def recurrent(cell_type: Callable[..., nn.Module], **of_cell: Any) -> Callable[..., elman.Recurrent]:
    def build(D: int, H: int, batch_first: bool = False, executor: str = "auto", **options: Any) -> elman.Recurrent:
        cell = cell_type(D, H, **of_cell, **options)
        return elman.Recurrent(cell, batch_first=batch_first, executor=executor)

    return build


rnn_tanh, rnn_relu = partial(rnn, "tanh"), partial(rnn, "relu")
torch_relu = partial(nn.RNN, nonlinearity="relu")

STACKS = [
    Case("RNN-tanh", elman.RNN, nn.RNN, rnn_tanh),
    Case("RNN-relu", partial(elman.RNN, nonlinearity="relu"), torch_relu, rnn_relu),
    Case("GRU", elman.GRU, nn.GRU, gru),
    Case("LSTM", elman.LSTM, nn.LSTM, lstm),
]
CASES = [
    *STACKS,
    Case("Recurrent-RNNCell-tanh", recurrent(nn.RNNCell), nn.RNN, rnn_tanh),
    Case("Recurrent-RNNCell-relu", recurrent(nn.RNNCell, nonlinearity="relu"), torch_relu, rnn_relu),
    Case("Recurrent-GRUCell", recurrent(nn.GRUCell), nn.GRU, gru),
    Case("Recurrent-LSTMCell", recurrent(nn.LSTMCell), nn.LSTM, lstm),
    Case("Recurrent-TwoWidths", recurrent(TwoWidths)),
    *(Case(f"Recurrent-shelf-{name}", recurrent(cells.by_name(name))) for name in cells.REGISTRY),
]

SMALL = [Sizes(T=4, B=2, D=3, H=5), Sizes(T=1, B=2, D=3, H=4), Sizes(T=3, B=1, D=2, H=4), Sizes(T=3, B=2, D=4, H=1)]
different_sizes = st.permutations(range(1, 6)).map(lambda order: Sizes(*order[:4]))


def name_of(case: Case) -> str:
    return case.name


every_case = pytest.mark.parametrize("case", CASES, ids=name_of)
every_executor = pytest.mark.parametrize("executor", list(EXECUTORS))


def same(actual: Sequence[Tensor], expected: Sequence[Tensor], executor: str) -> None:
    """Raise AssertionError unless the numbers are the same, whether an executor ran all steps at once or in parts."""
    if executor == "torch":  # the rounding of its products with x depends on the number of rows
        all_close(actual, expected, "outputs")
    else:
        assert all(map(torch.equal, actual, expected))


class Problem(NamedTuple):
    run: Run
    inputs: tuple[Tensor, ...]
    states: int


def problem(case: Case, sizes: Sizes, executor: str, dtype: torch.dtype = torch.float64, **options: Any) -> Problem:
    """A layer as a function of tensors alone, with random ones to give it: always the same for the same arguments."""
    torch.manual_seed(0)
    T, B, D, H = sizes
    layer = case.build(D, H, executor=executor, **options).to(dtype)
    x = torch.randn(T, B, D, dtype=dtype, requires_grad=True)
    states = random_states(layer, (B,), dtype)
    return Problem(as_function(layer, len(states)), (x, *states, *layer.parameters()), len(states))


def random_states(layer: nn.Module, batch: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """In the layer's own shapes; batch is (B,), or () for none."""
    if isinstance(layer, elman.Recurrent):
        assert layer.state_size is not None
        widths = (layer.state_size,) if isinstance(layer.state_size, int) else layer.state_size
        shapes = [(*batch, width) for width in widths]
    else:
        assert isinstance(layer, elman.Stack)
        shapes = [(layer.num_layers * (1 + layer.bidirectional), *batch, width) for width in layer._widths]
    states = [torch.randn(shape, dtype=dtype) for shape in shapes]
    if isinstance(getattr(layer, "cell", None), cells.SLSTM) or getattr(layer, "cell_type", None) is cells.SLSTM:
        states[2] = states[2].abs() + 0.5  # what is divided by: a sum of what is positive
    return [state.requires_grad_() for state in states]


def call(layer: nn.Module, x: Tensor, states: Sequence[Tensor] = ()) -> Results:
    """The layer with its states in a row, whether its own form is a tensor or a tuple; without any, from zeros."""
    return in_a_row(layer(x, in_form(states)))


def in_form(states: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...] | None:
    return None if not states else states[0] if len(states) == 1 else tuple(states)


def in_a_row(returned: tuple[Tensor, Tensor | tuple[Tensor, ...]]) -> Results:
    outputs, final = returned
    return (outputs, final) if isinstance(final, Tensor) else (outputs, *final)


def as_function(layer: nn.Module, states: int) -> Run:
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *rest: Tensor, **options: Any) -> Results:
        parameters = dict(zip(names, rest[states:], strict=True))
        return in_a_row(functional_call(layer, parameters, (x, in_form(rest[:states])), options))

    return run


def asking_for(which: int, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The same inputs, of which one alone asks for its gradient."""
    return [tensor.detach().requires_grad_(k == which) for k, tensor in enumerate(inputs)]


def gradients(results: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of each input, for random cotangents of all results."""
    return torch.autograd.grad(results, inputs, cotangents(results))


def cotangents(results: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(result.shape, generator=generator, dtype=result.dtype) for result in results]
