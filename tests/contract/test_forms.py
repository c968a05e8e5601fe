"""Cells as users have them: with `hidden_size` alone, with states in a form of their own, lazy, with sparse buffers."""

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import RTRL, Checkpointed, Full, Mode, Truncated
from elman.engine import EXECUTORS
from tests.cases import every_executor
from tests.tolerances import all_close, close

T, B, D, H, K = 4, 2, 3, 5, 6


class OneState(nn.Module):
    """As every cell of torch.nn, it tells its hidden_size and no state_size."""

    def __init__(self, input_size: int = D, hidden_size: int = H) -> None:
        super().__init__()
        self.hidden_size, self.read = hidden_size, nn.Linear(input_size + hidden_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return torch.tanh(self.read(torch.cat([x, h], -1)))


class WithOutput(OneState):
    def forward(self, x: Tensor, h: Tensor) -> Any:
        h = super().forward(x, h)
        return h.square(), h


class Pair(OneState):
    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        c = c + super().forward(x, h)
        return torch.tanh(c), c


class ByIndex(OneState):
    def forward(self, x: Tensor, state: Any) -> Any:
        c = state[1] + super().forward(x, state[0])
        return torch.tanh(c), (torch.tanh(c), c)


class Counting(Pair):
    """With an effect, with dropout, and with its input_size, so that it is tried when the layer is made."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.calls, self.drop = D, 0, nn.Dropout(0.5)

    def forward(self, x: Tensor, state: Any) -> Any:
        self.calls += 1
        h, c = super().forward(self.drop(x), state)
        return h, c


@every_executor
@pytest.mark.parametrize(
    ("make", "size"), [(OneState, H), (WithOutput, H), (Pair, (H, H)), (ByIndex, (H, H))], ids=lambda of: str(of)
)
def test_the_hidden_size_tells_the_state(make: Callable[[], Any], size: Any, executor: str) -> None:
    cell, x = make(), torch.randn(T, B, D)
    layer = elman.Recurrent(cell, executor=executor)
    outputs, final = layer(x)
    assert layer.state_size == size
    told = elman.Recurrent(cell, state_size=size, executor="loop")(x)
    close(outputs, told[0], "outputs")
    all_close([final] if isinstance(final, Tensor) else final, [told[1]] if size == H else told[1], "outputs")


def test_to_find_the_state_leaves_nothing_behind() -> None:
    before, cell = torch.get_rng_state(), Counting()
    torch.set_rng_state(before)
    layer = elman.Recurrent(cell, learn_state=True)
    assert layer.state_size == (H, H)
    assert cell.calls == 0
    assert torch.equal(torch.get_rng_state(), before)


class Attending(OneState):
    """It reads one row of a memory for each row of the batch."""

    memory: Tensor

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return super().forward(x, h) + self.memory


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_hidden_size_of_a_cell_that_reads_a_row_for_each_of_the_batch(batch: int) -> None:
    cell, x = Attending(), torch.randn(T, batch, D)
    cell.memory, h = torch.randn(batch, H), torch.zeros(batch, H)
    for x_t in x:
        h = cell(x_t, h)
    close(elman.Recurrent(cell, executor="loop")(x)[1], h, "outputs")


class Endless(OneState):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return super().forward(x, h) * next(self.numbers)


def test_the_hidden_size_of_a_cell_whose_step_cannot_be_undone() -> None:
    cell, x = Endless(), torch.randn(T, B, D)
    elman.Recurrent(cell, executor="loop")(x)
    assert next(cell.numbers) == T


def test_a_state_that_is_not_found() -> None:
    class Odd(OneState):
        def forward(self, x: Tensor, state: Any) -> Any:
            return x @ torch.ones(7, 7)

    with pytest.raises(
        TypeError,
        match=r"expected the size of the state, which Odd does not define; pass .* hidden_size=5 ended with Runtime",
    ):
        elman.Recurrent(Odd())(torch.randn(T, B, D))


def test_a_state_that_is_not_found_for_a_tensor_of_another_dtype() -> None:
    class Mixed(OneState):
        matrix = torch.eye(H, dtype=torch.float64)

        def forward(self, x: Tensor, h: Tensor) -> Any:
            return super().forward(x, h) @ self.matrix

    with pytest.raises(TypeError, match=r"torch.float64 that does not follow the dtype of the model: register it as a"):
        elman.Recurrent(Mixed())(torch.randn(T, B, D))


class Two(NamedTuple):
    h: Any
    c: Any


class Named(Pair):
    def forward(self, x: Tensor, state: Any) -> Any:
        return Two(*super().forward(x, (state.h, state.c)))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.LSTMCell(D, H), nn.LSTMCell(H, K)

    def forward(self, x: Tensor, state: Any) -> Any:
        lower = self.lower(x, state[0])
        upper = self.upper(lower[0], state[1])
        return upper[0], (lower, upper)


class ByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nested = Nested()

    def forward(self, x: Tensor, state: Any) -> Any:
        output, (lower, upper) = self.nested(x, (state["lower"], state["rest"][0]))
        return {"out": output}, {"rest": [upper], "lower": Two(*lower)}


FORMS: dict[str, tuple[Callable[[], Any], Any]] = {
    "NamedTuple": (Named, Two(H, H)),
    "nested": (Nested, ((H, H), (K, K))),
    "dictionary": (ByName, {"lower": Two(H, H), "rest": [(K, K)]}),
}


def shapes(state: Any) -> Any:
    """The form of a state, with widths in the place of tensors."""
    if isinstance(state, dict):
        return {name: shapes(value) for name, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*map(shapes, state))
    return state.shape[-1] if isinstance(state, Tensor) else type(state)(map(shapes, state))


def flat(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = [state[name] for name in sorted(state)] if isinstance(state, dict) else state
    return [tensor for value in values for tensor in flat(value)]


@pytest.mark.sample(12)
@every_executor
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("mode", [Full(), Checkpointed(2), Truncated(2), RTRL()], ids=str)
def test_states_come_back_in_their_form(name: str, executor: str, mode: Mode) -> None:
    make, size = FORMS[name]
    torch.manual_seed(0)
    cell, x = make().double(), torch.randn(T, B, D, dtype=torch.float64)
    layer = elman.Recurrent(cell, state_size=size, executor=executor, bptt=mode)
    first = layer(x[:1])[1]
    assert shapes(first) == size
    assert type(first) is type(size)
    outputs, final = layer(x[1:], first)
    assert shapes(final) == size
    assert shapes(elman.Recurrent(cell, executor=executor)(x[1:], first)[1]) == size  # the sizes are the state's
    state, expected = first, []
    for x_t in x[1:]:
        result = cell(x_t, state)
        output, state = (result.h, result) if isinstance(result, Two) else result
        expected.append(output)
    all_close(flat(final), flat(state), "outputs")
    got = outputs["out"] if isinstance(outputs, dict) else outputs
    close(got, torch.stack([e["out"] if isinstance(e, dict) else e for e in expected]), "outputs")
    got.sum().backward()
    assert all(p.grad is not None for p in cell.parameters())
    if mode == Full():
        lengths = layer(x, lengths=[3, T])[1]
        assert shapes(lengths) == size
        close(flat(lengths)[0][1], flat(layer(x)[1])[0][1], "outputs")
        assert shapes(layer.step(x[0])[1]) == shapes(layer.step(x[0, 0])[1]) == size
        assert len(layer.trajectory(x).states) == len(flat(final))


@pytest.mark.parametrize("name", FORMS)
def test_a_state_of_another_form_is_refused(name: str) -> None:
    make, size = FORMS[name]

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = make()

        def forward(self, x: Tensor, state: Any) -> Any:
            return [self.cell(x, state)]

    with pytest.raises(
        TypeError, match="Wrong: expected the step to return the state in the structure of its argument"
    ):
        elman.Recurrent(Wrong(), state_size=size, executor="loop")(torch.randn(T, B, D))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden_size, self.read, self.recur = H, nn.LazyLinear(H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.read(x) + self.recur(h))


@every_executor
@pytest.mark.parametrize("lengths", [None, [3, T]], ids=str)
def test_lazy_modules_find_their_shapes_in_the_first_call(executor: str, lengths: Any) -> None:
    cell, x = Lazy(), torch.randn(T, B, D)
    layer = elman.Recurrent(cell, executor=executor)
    outputs, final = layer(x, lengths=lengths)
    assert cell.read.weight.shape == (H, D)
    again = elman.Recurrent(cell, executor="loop")(x, lengths=lengths)
    all_close([outputs, final], again, "outputs")
    outputs.sum().backward()
    assert cell.read.weight.grad is not None


def test_a_lazy_module_that_no_step_reaches() -> None:
    cell = Lazy()
    cell.unused = nn.LazyLinear(H)
    with pytest.raises(
        RuntimeError, match="Recurrent: cell: expected lazy parameters that one step initializes, got Lazy"
    ):
        elman.Recurrent(cell)(torch.randn(T, B, D))


class Sparse(OneState):
    adjacency: Tensor

    def __init__(self, layout: str) -> None:
        super().__init__()
        matrix = torch.eye(H).roll(1, 0)
        self.register_buffer("adjacency", matrix.to_sparse() if layout == "coo" else matrix.to_sparse_csr())

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return super().forward(x, (self.adjacency @ h.T).T)


@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_buffer_runs_on_the_loop(layout: str) -> None:
    layer, x = elman.Recurrent(Sparse(layout), state_size=H), torch.randn(T, B, D)
    with pytest.warns(UserWarning, match=rf"got one of torch\.sparse_{layout}; it runs on the loop executor"):
        outputs, _ = layer(x)
    h, expected = torch.zeros(B, H), []
    for x_t in x:
        h = layer.cell(x_t, h)
        expected.append(h)
    close(outputs, torch.stack(expected), "outputs")
    layer.bptt = Checkpointed(2)
    layer(x)[0].sum().backward()
    layer.executor = "native"
    with pytest.raises(RuntimeError, match="dense tensors only"):
        layer(x)
