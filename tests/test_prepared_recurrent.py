"""Small calls of `Recurrent`: the bits of unprepared calls, and every change of the cell takes effect."""

import copy
import pickle
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import elman
from elman import flow
from elman.engine import EXECUTORS
from elman.engine.torch_private import tree_leaves
from elman.layers import _prepared_calls
from tests.cases import TwoWidths, in_a_row
from tests.tolerances import all_close

D, H = 3, 5
pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
FACTOR = 1.0


class Pair(NamedTuple):
    m: Any
    h: Any


class PairCell(nn.Module):
    state_size = Pair(H, H + 1)

    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(D + H, H + 1), nn.Linear(H + 1, H)

    def forward(self, x: Tensor, state: Pair) -> Pair:
        h = torch.tanh(self.read(torch.cat([x, state.m], -1)) + state.h)
        return Pair(self.write(h), h)


class DictCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.state_size = nn.GRUCell(D, H), {"h": H}

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"h": self.cell(x, state["h"])}


class LazyCell(nn.Module):
    state_size = H

    def __init__(self) -> None:
        super().__init__()
        self.read, self.repeat = nn.LazyLinear(H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.read(x) + self.repeat(h))


def leaky(x: Tensor, h: Tensor, a: Tensor) -> Tensor:
    return a * h + x.tanh()


def decay(x: Tensor, h: Tensor) -> Tensor:
    return 0.5 * h + x.tanh()


LAYERS: dict[str, Callable[..., elman.Recurrent]] = {
    "rnn": lambda **options: elman.Recurrent(nn.RNNCell(D, H), **options),
    "gru": lambda **options: elman.Recurrent(nn.GRUCell(D, H), **options),
    "lstm": lambda **options: elman.Recurrent(nn.LSTMCell(D, H), **options),
    "two widths": lambda **options: elman.Recurrent(TwoWidths(D, H), **options),
    "named tuple": lambda **options: elman.Recurrent(PairCell(), **options),
    "dictionary": lambda **options: elman.Recurrent(DictCell(), **options),
    "lazy": lambda **options: elman.Recurrent(LazyCell(), **options),
    "function": lambda **options: elman.Recurrent(leaky, D, parameters={"a": torch.randn(D)}, **options),
    "no parameters": lambda **options: elman.Recurrent(decay, D, **options),
}


def results(layer: Any, x: Tensor, state: Any = None) -> list[Tensor]:
    """The outputs and the final state without gradients and with, and the gradients of everything."""
    with torch.no_grad():
        values = tree_leaves(layer(x, state))
    x = x.detach().requires_grad_()
    computed = tree_leaves(layer(x, state))
    torch.manual_seed(2)
    loss = torch.stack([(value * torch.randn_like(value)).sum() for value in computed]).sum()
    wanted = [x, *(tensor for tensor in (*tree_leaves(state), *layer.parameters())
                   if tensor is not None and tensor.requires_grad)]  # fmt: skip
    return [*values, *computed, *torch.autograd.grad(loss, wanted)]


@pytest.mark.sample(8)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 5), (6, 1), (20, 64)])
@pytest.mark.parametrize("name", LAYERS)
def test_same_bits(
    name: str, T: int, B: int, batch_first: bool, ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single step of few rows multiplies in another order."""
    layer = LAYERS[name](batch_first=batch_first)
    x = torch.randn((B, T, D) if batch_first else (T, B, D))
    state = layer(x)[1]
    state = torch.utils._pytree.tree_map(lambda part: torch.randn_like(part).requires_grad_(), state)
    ran.clear()
    prepared = [results(layer, x), results(layer, x, state)]
    assert len(ran) == 4
    output, last = layer.step(x.select(int(batch_first), 0), state)
    assert len(ran) == 5
    monkeypatch.setattr(_prepared_calls.PreparedCalls, "__call__", lambda *_: None)
    for computed, expected in zip(prepared, [results(layer, x), results(layer, x, state)], strict=True):
        if T == 1:  # products of rows, not of packed matrices: sums in another order
            all_close(computed, expected, "gradients")
        else:
            assert all(map(torch.equal, computed, expected))
    expected, final = layer.step(x.select(int(batch_first), 0), state)
    assert type(last) is type(final) is type(state)
    all_close([output, *tree_leaves(last)], [expected, *tree_leaves(final)], "outputs")


class Own(nn.Module):
    """A cell that reads an attribute, a global, a closure variable, its mode, submodules, a parameter and a buffer."""

    bias: Tensor

    def __init__(self, factor: Callable[[], float]) -> None:
        super().__init__()
        self.state_size, self.factor, self.scale = H, factor, 1.0
        self.read, self.repeat = nn.Linear(D, H), nn.Linear(H, H)
        self.gain = nn.Parameter(torch.rand(1, H) + 1)
        self.register_buffer("bias", torch.randn(H))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        h = nn.functional.dropout(h, 1.0, not self.training)
        return torch.tanh(self.scale * FACTOR * self.factor() * self.read(x) + self.gain * self.repeat(h) + self.bias)


def own() -> tuple[Own, Callable[[float], None]]:
    """A cell, and a function that sets the variable in its closure."""
    factor = 1.0

    def set_factor(value: float) -> None:
        nonlocal factor
        factor = value

    return Own(lambda: factor), set_factor


class Double(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def optimizer_step(cell: Own) -> None:
    cell.repeat(cell.bias).sum().backward()
    torch.optim.SGD(cell.parameters(), lr=0.1).step()
    cell.zero_grad()


def set_data(tensor: Tensor) -> None:
    tensor.data = torch.randn_like(tensor)


def norm_weight(cell: Any) -> None:
    parametrizations.weight_norm(cell.repeat)
    cell.repeat.parametrizations.weight.original0 = nn.Parameter(torch.rand(H, 1).double())


def tie(cell: Own) -> None:
    cell.read.bias = cell.repeat.bias


def twice(module: nn.Module, arguments: Any, result: Tensor) -> Tensor:
    return 2 * result


CHANGES: dict[str, Callable[[Own], object]] = {
    "attribute": lambda cell: setattr(cell, "scale", 2.0),
    "mode": lambda cell: cell.eval(),
    "mode by assignment": lambda cell: setattr(cell, "training", False),
    "submodule": lambda cell: setattr(cell, "repeat", nn.Linear(H, H).double()),
    "submodule of another class": lambda cell: setattr(cell, "repeat", nn.Tanh()),
    "parameter": lambda cell: setattr(cell.repeat, "weight", nn.Parameter(torch.randn(H, H).double())),
    "parameter in columns": lambda cell: setattr(cell.repeat, "weight", nn.Parameter(torch.randn(H, H).double().t())),
    "tied parameter": tie,
    "buffer": lambda cell: setattr(cell, "bias", torch.randn(H).double()),
    "buffer in place": lambda cell: cell.bias.mul_(2),
    "data": lambda cell: set_data(cell.read.weight),
    "data in columns": lambda cell: setattr(cell.repeat.weight, "data", cell.repeat.weight.data.t()),
    "state dict": lambda cell: cell.load_state_dict({k: torch.randn_like(v) for k, v in cell.state_dict().items()}),
    "optimizer": optimizer_step,
    "parametrization": lambda cell: parametrize.register_parametrization(cell.repeat, "weight", Double()),
    "weight norm": norm_weight,
    "pruning": lambda cell: prune.random_unstructured(cell.repeat, "weight", 0.5),
    "hook": lambda cell: cell.register_forward_hook(twice),
    "hook of a submodule": lambda cell: cell.read.register_forward_hook(twice),
    "forward": lambda cell: setattr(cell, "forward", lambda x, h: cell.read(x) + cell.repeat(h).tanh() - cell.gain),
    "without gradients": lambda cell: cell.repeat.requires_grad_(False),
}  # fmt: skip


def agree(layer: elman.Recurrent, x: Tensor) -> list[Tensor]:
    """The results, which are those of the loop executor."""
    state = torch.linspace(-1, 1, 2 * H, dtype=x.dtype).view(2, H)
    computed, expected = results(layer, x, state), results(elman.Recurrent(layer.cell, H, executor="loop"), x, state)
    all_close(computed, expected, "gradients")
    return computed


@pytest.mark.sample(8)
@pytest.mark.filterwarnings("ignore:Own cannot run on the native executor. hooks")
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("change", [*CHANGES, "closure", "global", "cell"])
def test_changes_of_the_cell(change: str, T: int, ran: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    (cell, set_factor), x = own(), torch.randn(T, 2, D).double()
    layer = elman.Recurrent(cell.double(), state_size=H)
    before = agree(layer, x)
    assert len(ran) == 2
    if change == "closure":
        set_factor(2.0)
    elif change == "global":
        monkeypatch.setitem(globals(), "FACTOR", 2.0)
    elif change == "cell":
        layer.cell = own()[0].double()
    else:
        CHANGES[change](cell)
    after = agree(layer, x)
    assert len(after) != len(before) or not all(map(torch.equal, after, before))
    agree(layer, x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Own cannot run on the native executor. hooks")
def test_changes_back(ran: list[int]) -> None:
    """A parametrization and a hook that are removed, and another dtype for a while."""
    (cell, _), x = own(), torch.randn(3, 2, D)
    layer = elman.Recurrent(cell)
    before = agree(layer, x)
    parametrize.register_parametrization(cell.repeat, "weight", Double())
    agree(layer, x)
    parametrize.remove_parametrizations(cell.repeat, "weight", leave_parametrized=False)
    assert torch.equal(agree(layer, x)[0], before[0])
    with cell.repeat.register_forward_hook(twice):
        count = len(ran)
        agree(layer, x)
        assert len(ran) == count
    agree(layer.double(), x.double())
    with pytest.raises(ValueError, match="RNN input dtype"):
        elman.Recurrent(nn.GRUCell(D, H)).double()(x)
    assert torch.equal(agree(layer.float(), x)[0], before[0])
    assert len(ran) == count + 4


@torch.no_grad()
def test_another_shape_at_the_same_address(ran: list[int]) -> None:
    """Of a parameter whose shape the step reads."""
    layer: Any = elman.Recurrent(lambda x, h, a: h / 2 + x * a + len(a), D, parameters={"a": torch.ones(D)})
    x, parameter = torch.ones(1, 1, D), layer.cell.a
    for shape in ((D,), (1, D), (D,)):
        parameter.data = parameter.data.view(shape)
        for result in (layer(x)[0], layer.step(x[0])[0]):
            assert torch.equal(result.view(D), torch.full((D,), 1.0 + shape[0]))
    assert len(ran) == 6


@torch.no_grad()
def test_the_state_decides_the_widths(ran: list[int]) -> None:
    """A cell without a size: of the states that calls pass, and the rows of the input."""
    layer: Any = elman.Recurrent(lambda x, h: h / 2 + x.sum(-1, keepdim=True))
    for width in (2, 5, 2):
        for columns in (3, 4):
            x = torch.randn(2, 2, columns)
            assert layer(x, torch.zeros(2, width))[0].shape == (2, 2, width)
            h = layer.step(x[1], layer.step(x[0], torch.ones(2, width))[1])[1]
            assert torch.allclose(layer(x, torch.ones(2, width))[1], h)
    assert len(ran) == 6 * 4


class WithOutput(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # type: ignore[override]
        h = super().forward(x, h)
        return 2 * h, h


class WithNoise(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, h) + 0 * torch.rand_like(h)


class WithOutside(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, h) * OUTSIDE


class WithTokens(nn.Module):
    state_size = H

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.cell = nn.Embedding(7, D), nn.GRUCell(D, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return self.cell(self.embedding(x[:, 0]), h)  # type: ignore[no-any-return]


class WithSparse(nn.GRUCell):
    edges: Tensor

    def __init__(self) -> None:
        super().__init__(D, H)
        self.register_buffer("edges", torch.eye(H).to_sparse())

    def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, (self.edges @ h.t()).t())


class Doubled(elman.Recurrent):
    def forward(self, *given: Any, **named: Any) -> Any:
        return of_result(self, given, super().forward(*given, **named))


def of_result(module: nn.Module, given: Any, result: Any) -> Any:
    return 2 * result[0], result[1]


OUTSIDE = torch.ones(H, requires_grad=True)
OTHERS: dict[str, Callable[[str], elman.Recurrent]] = {
    "learned state": lambda executor: elman.Recurrent(nn.GRUCell(D, H), learn_state=True, executor=executor),
    "bptt": lambda executor: elman.Recurrent(nn.GRUCell(D, H), bptt=elman.bptt.Truncated(1), executor=executor),
    "output": lambda executor: elman.Recurrent(WithOutput(D, H), executor=executor),
    "noise": lambda executor: elman.Recurrent(WithNoise(D, H), executor=executor),
    "outside tensor": lambda executor: elman.Recurrent(WithOutside(D, H), executor=executor),
    "tokens": lambda executor: elman.Recurrent(WithTokens(), executor=executor),
    "sparse": lambda executor: elman.Recurrent(WithSparse(), executor=executor),
}


@pytest.mark.filterwarnings("ignore:.*the native executor")
@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_are_not_prepared(name: str, ran: list[int]) -> None:
    layers = [OTHERS[name](executor) for executor in ("auto", "loop")]
    layers[1].load_state_dict(layers[0].state_dict())
    x = torch.randint(7, (3, 2, 1)) if name == "tokens" else torch.randn(3, 2, D)
    for _ in range(2):
        computed = []
        for layer in layers:
            outputs, h = layer(x) if name == "learned state" else layer(x, torch.zeros(2, H))
            computed.append(
                [outputs, h, *torch.autograd.grad(outputs.square().sum() + h.sum(), list(layer.parameters()))]
            )
        all_close(computed[0], computed[1], "gradients")
    assert not ran


@pytest.mark.parametrize(
    "call",
    [
        lambda layer, x: layer(x, bptt=elman.bptt.Truncated(2)),
        lambda layer, x: layer.trajectory(x),
        lambda layer, x: torch.func.vmap(layer, 1, 1)(x.unsqueeze(2))[0],
        lambda layer, x: torch.autocast("cpu")(layer)(x),
    ],
    ids=["bptt", "trajectory", "vmap", "autocast"],
)
def test_other_calls_are_not_prepared(call: Callable[..., Any], ran: list[int]) -> None:
    layer, x = elman.Recurrent(elman.cells.GRU(D, H)), torch.randn(3, 2, D)
    layer(x)
    assert len(ran) == 1
    call(layer, x)
    assert len(ran) == 1


@torch.no_grad()
def test_hooks_and_subclasses(ran: list[int]) -> None:
    """Those of the layer: a call, with its hooks around it, is prepared; a step is such a call."""
    layer: Any = elman.Recurrent(nn.GRUCell(D, H))
    x = torch.randn(1, 2, D)
    expected = 2 * layer(x)[0]
    with layer.register_forward_hook(of_result):
        all_close([layer(x)[0], layer.step(x[0])[0]], [expected, expected[0]], "outputs")
    other = Doubled(layer.cell)
    all_close([other(x)[0], other.step(x[0])[0]], [expected, expected[0]], "outputs")
    layer.forward = lambda x, *state: of_result(layer, x, elman.Recurrent.forward(layer, x, *state))
    all_close([layer(x)[0], layer.step(x[0])[0]], [expected, expected[0]], "outputs")
    assert len(ran) == 7


def test_wrong() -> None:
    layer, x = elman.Recurrent(nn.LSTMCell(D, H)), torch.randn(3, 2, D)
    layer(x)
    for state in (torch.zeros(2, H), (torch.zeros(1, 2, H), torch.zeros(1, 2, H)), (torch.zeros(2, H),) * 3):
        with pytest.raises(ValueError, match="Recurrent: state: expected shape"):
            layer(x, state)
    with pytest.raises(ValueError, match="Recurrent: input: expected width 3"):
        layer(torch.randn(3, 2, 4))
    cell = PairCell()
    cell.input_size = D + 1  # type: ignore[assignment]
    with pytest.raises(ValueError, match="Recurrent: input: expected width 4"):
        elman.Recurrent(cell)(x)


@pytest.mark.sample(5)
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("name", ["gru", "lstm", "two widths", "named tuple", "function"])
def test_observed_and_differentiated_again(name: str, T: int, ran: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = LAYERS[name]().double(), torch.randn(2, T, 2, D).double().requires_grad_()
    computed = list[tuple[Any, list[Tensor]]]()
    for _ in range(2):
        with flow.record(layer) as recording:
            _, state = layer(x[0])
            outputs, state = layer(x[1], state)
            loss = outputs.square().sum() + in_a_row((outputs, tuple(tree_leaves(state))))[-1].sum()
            loss.backward(retain_graph=True)
        once = torch.autograd.grad(loss, [x, *layer.parameters()], create_graph=True)
        twice = torch.autograd.grad(
            torch.stack([gradient.square().sum() for gradient in once]).sum(), [x, *layer.parameters()]
        )
        recorded = [*recording.state_gradients.values(), *recording.weight_gradients.values()]
        names = [*recording.calls], [*recording.state_gradients], [*recording.weight_gradients]
        computed.append((names, [*recorded, *once, *twice]))
        monkeypatch.setattr(_prepared_calls.PreparedCalls, "__call__", lambda *_: None)
    assert len(ran) == 2
    assert computed[0][0] == computed[1][0]
    all_close(computed[0][1], computed[1][1], "gradients")


@torch.no_grad()
def test_copies_and_replaced_cells(ran: list[int]) -> None:
    """A copy prepares calls of its own; a cell that is replaced is not kept alive."""
    layer, x = elman.Recurrent(nn.GRUCell(D, H)), torch.randn(3, 2, D)
    expected = layer(x)[0]
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x)[0], expected)
        assert other._prepared_calls is not layer._prepared_calls
    del other
    old = weakref.ref(layer.cell)
    layer.cell = nn.GRUCell(D, H)
    assert old() is None or not torch.equal(layer(x)[0], expected)
    assert len(ran) >= 4
