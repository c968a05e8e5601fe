"""Law 13: a mode, an attribute, a hook or a parametrization that changes between two calls has the same effect in a
call, in `trajectory` and in `step`."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import elman
from elman.engine import as_tuple
from tests.cases import every_executor
from tests.tolerances import all_close, close

T, B, D, H = 5, 2, 3, 4
Layer = Any  # has attributes that types do not know


def built(executor: str = "auto", of: type[elman.Stack] = elman.LSTM, **options: Any) -> Layer:
    torch.manual_seed(0)
    return of(D, H, 2, executor=executor, **options).double()


def sequence() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(T, B, D, dtype=torch.float64)


def seeded(function: Callable[..., Any], *given: Any) -> Any:
    torch.manual_seed(2)
    return function(*given)


def stepped(layer: Layer, x: Tensor) -> Tensor:
    outputs, state = [], None
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    return torch.stack(outputs)


def agree_on(layer: Layer, expected: Tensor) -> None:
    """Whether a call, a trajectory and steps, with and without gradients, all have these outputs."""
    x = sequence()
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            close(layer(x)[0], expected, "outputs")
            close(layer.trajectory(x).outputs, expected, "outputs")
            close(stepped(layer, x), expected, "outputs")


# Modes


RANDOM: dict[str, dict[str, Any]] = {
    "zoneout": {"zoneout": 0.5},
    "recurrent_dropout": {"recurrent_dropout": 0.5},
    "between layers, windows overlap": {"dropout": 0.5, "bptt": elman.bptt.Truncated(1, 3)},
    "all": {"zoneout": 0.5, "recurrent_dropout": 0.5, "dropout": 0.5},
}


@every_executor
@pytest.mark.parametrize("name", RANDOM)
def test_modes_set_by_assignment(name: str, executor: str) -> None:
    layer, x = built(executor, **RANDOM[name]), sequence()
    training, evaluation = seeded(layer, x)[0], layer.eval()(x)[0]
    close(layer(x)[0], evaluation, "outputs")
    assert not torch.allclose(training, evaluation)
    for on in (True, False, True):
        layer.training = on
        close(seeded(layer, x)[0], training if on else evaluation, "outputs")


def test_modes_restored_as_lightning_does() -> None:
    """After a validation every module gets back the mode that it had, by assignment."""
    model, x = nn.Sequential(built(zoneout=0.5)), sequence()
    for _ in range(2):
        assert not torch.equal(model(x)[0], model(x)[0])
        modes = {module: module.training for module in model.modules()}
        model.eval()
        assert torch.equal(model(x)[0], model(x)[0])
        for module, mode in modes.items():
            module.training = mode


def test_modes_of_copies_are_their_own() -> None:
    layer, x = built(zoneout=0.5), sequence()
    expected = seeded(layer, x)[0]
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), elman.convert(layer)):
        close(seeded(other, x)[0], expected, "outputs")
    copy.copy(layer).eval()
    close(seeded(layer, x)[0], expected, "outputs")
    other = copy.deepcopy(layer)
    other.training = False
    assert torch.equal(other(x)[0], other(x)[0])
    close(seeded(layer, x)[0], expected, "outputs")


def test_modes_of_modules_within_a_cell_are_theirs() -> None:
    class Dropping(nn.Module):
        state_size = H

        def __init__(self) -> None:
            super().__init__()
            self.cell, self.drop = nn.GRUCell(D, H), nn.Dropout(0.5)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.cell(self.drop(x), h)  # type: ignore[no-any-return]

    layer: Layer = elman.Recurrent(Dropping()).double()
    x = sequence()
    layer.cell.drop.eval()
    expected = layer(x)[0]
    close(layer.trajectory(x).outputs, expected, "outputs")
    assert [module.training for module in layer.cell.modules()] == [True, True, False]
    agree_on(layer, expected)


def test_a_cell_with_a_mode_of_its_own_in_a_stack() -> None:
    """What is prepared for steps in evaluation does not serve in training."""

    class Dropping(elman.cells.GRU):
        def forward(self, x: Tensor, state: Any) -> Any:
            return super().forward(nn.functional.dropout(x, 1.0, self.training), state)

    layer: Layer = elman.Stack(D, H, cell_type=Dropping).double()
    x = sequence()
    with torch.no_grad():
        evaluation, training = layer.eval()(x)[0], layer.train()(0 * x)[0]
        for on in (False, True, False):
            layer.training = on
            close(stepped(layer, x), training if on else evaluation, "outputs")


@pytest.mark.parametrize("rows", [1, 3])
def test_an_influence_goes_on_in_the_other_mode(rows: int) -> None:
    """Under RTRL a state that was made in training has its past in evaluation as well."""
    layer, x = built(of=elman.GRU, bptt=elman.bptt.RTRL()), torch.randn(4, rows, D, dtype=torch.float64)
    weights = list(layer.parameters())
    expected = torch.autograd.grad(layer(x)[0][-1].sum(), weights)
    _, h = layer(x[:2])
    all_close(torch.autograd.grad(layer.eval()(x[2:], h)[0][-1].sum(), weights), expected, "gradients")


# Attributes


CHANGES: dict[str, tuple[type[elman.Stack], dict[str, Any]]] = {
    "zoneout": (elman.LSTM, {"zoneout": (0.5, 0.2)}),
    "one zoneout": (elman.GRU, {"zoneout": 0.5}),
    "recurrent_dropout": (elman.GRU, {"recurrent_dropout": 0.5}),
    "dropout": (elman.RNN, {"dropout": 0.5}),
    "dropout, windows overlap": (elman.RNN, {"dropout": 0.5, "bptt": elman.bptt.Truncated(1, 3)}),
    "locked_dropout": (elman.GRU, {"locked_dropout": 0.5}),
    "weight_drop": (elman.GRU, {"weight_drop": 0.5}),
    "nonlinearity": (elman.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_attributes_that_change(name: str, training: bool) -> None:
    of, options = CHANGES[name]
    layer, other, x = built(of=of).train(training), built(of=of, **options).train(training), sequence()
    other.load_state_dict(layer.state_dict())
    before = layer(x)[0]
    with torch.no_grad():
        stepped(layer, x)
    for attribute, value in options.items():
        setattr(layer, attribute, value)
    expected = seeded(other, x)[0]
    assert torch.equal(seeded(layer, x)[0], expected)
    assert repr(layer) == repr(other)
    if "windows" not in name:
        close(seeded(layer.trajectory, x).outputs, expected, "outputs")
    with torch.no_grad():
        assert torch.equal(seeded(stepped, layer, x), seeded(stepped, other, x))
    for attribute in options:
        setattr(
            layer,
            attribute,
            "tanh" if attribute == "nonlinearity" else elman.bptt.Full() if attribute == "bptt" else 0.0,
        )
    close(layer(x)[0], before, "outputs")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("zoneout", 1.5),
        ("zoneout", (0.1, 0.2, 0.3)),
        ("recurrent_dropout", -1),
        ("dropout", "half"),
        ("nonlinearity", "elu"),
    ],
)
def test_impossible_attributes(attribute: str, value: object) -> None:
    layer, x = built(of=elman.RNN), sequence()
    before = layer(x)[0]
    with pytest.raises(ValueError, match=f"^{attribute}: expected "):
        setattr(layer, attribute, value)
    assert torch.equal(layer(x)[0], before)


@pytest.mark.parametrize("change", [{"zoneout": 0.5}, {"training": False}])
def test_a_change_before_the_backward_pass(change: dict[str, Any]) -> None:
    """The pass is that of the call: recorded, and differentiated twice."""
    layer, x = built(of=elman.GRU, zoneout=0.1).eval(), sequence().requires_grad_()
    expected = torch.autograd.grad(torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)[0].square().sum(), x)
    outputs, _ = layer(x)
    for attribute, value in change.items():
        setattr(layer, attribute, value)
    with elman.flow.record(layer) as flow:
        [first] = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    assert set(flow.state_gradients) == {"h_l0", "h_l1"}
    all_close(torch.autograd.grad(first.square().sum(), x), expected, "gradients")


# Hooks, and weights that are computed


def with_masked(layer: Layer, name: str, mask: Tensor) -> Layer:
    other = copy.deepcopy(layer)
    with torch.no_grad():
        getattr(other, name).mul_(mask)
    return other


@pytest.mark.sample(4)
@every_executor
@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["weight_hh_l0", "weight_ih_l0", "bias_hh_l1"])
def test_pruned(name: str, executor: str) -> None:
    layer = built(executor)
    mask = torch.randint(2, getattr(layer, name).shape)
    expected = with_masked(layer, name, mask)(sequence())[0]
    prune.custom_from_mask(layer, name, mask)
    agree_on(layer, expected)
    with torch.no_grad():
        layer.get_parameter(f"{name}_orig").mul_(2)
    plain = built(executor)
    with torch.no_grad():
        getattr(plain, name).mul_(2)
    x = sequence()
    with torch.no_grad():  # a trajectory first: what the last call has computed is stale now
        close(layer.trajectory(x).outputs, with_masked(plain, name, mask)(x)[0], "outputs")


@pytest.mark.sample(2)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize(
    "normed",
    [nn.utils.weight_norm, nn.utils.spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm],
)
def test_normed(normed: Callable[..., nn.Module]) -> None:
    layer: Layer = normed(built(), "weight_hh_l0").eval()
    plain, x = built(), sequence()
    layer(x)
    weight = layer.weight_hh_l0.detach().clone()
    with torch.no_grad():
        plain.weight_hh_l0.copy_(weight)
    agree_on(layer, plain(x)[0])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):  # a training on trajectories
        optimizer.zero_grad()
        layer.trajectory(x).states[1].sum().backward()
        optimizer.step()
    expected = layer(x)[0]
    assert not torch.allclose(expected, plain(x)[0])
    agree_on(layer, expected)


def twice(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return 2 * given[0], *given[1:]


def twice_by_name(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
    return twice(module, given), named


def of_result(module: nn.Module, given: tuple[Any, ...], result: Any) -> Any:
    return 2 * result[0], result[1]


def globally(layer: nn.Module) -> Any:
    def hook(module: nn.Module, given: tuple[Any, ...]) -> Any:
        return twice(module, given) if module is layer else None

    return nn.modules.module.register_module_forward_pre_hook(hook)


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "before": lambda layer: layer.register_forward_pre_hook(twice),
    "before, with names": lambda layer: layer.register_forward_pre_hook(twice_by_name, with_kwargs=True),
    "after": lambda layer: layer.register_forward_hook(of_result),
    "global": globally,
}


@pytest.mark.sample(4)
@pytest.mark.parametrize("of", ["stack", "recurrent"])
@pytest.mark.parametrize("name", HOOKS)
def test_hooks(name: str, of: str) -> None:
    layer: Layer = built() if of == "stack" else elman.Recurrent(nn.GRUCell(D, H)).double()
    x = sequence()
    before, expected = layer(x)[0], layer(x * 2)[0] if name != "after" else layer(x)[0] * 2
    agree_on(layer, before)
    handle = HOOKS[name](layer)
    try:
        agree_on(layer, expected)
    finally:
        handle.remove()
    agree_on(layer, before)


# Another forward


class Residual(elman.GRU):
    """Reads what it wrote, beside it."""

    def forward(self, input: Any, *given: Any, **named: Any) -> Any:
        outputs, h = super().forward(input, *given, **named)
        return torch.cat([outputs, input], -1), h


class ResidualCell(elman.Recurrent):
    def forward(self, input: Any, *given: Any, **named: Any) -> Any:
        outputs, h = super().forward(input, *given, **named)
        return torch.cat([outputs, input], -1), h


class Learned(elman.GRU):
    """Begins from a state that is learned."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.h0 = nn.Parameter(torch.randn(2, 1, H))

    def forward(self, input: Any, hx: Any = None, *given: Any, **named: Any) -> Any:
        hx = self.h0.expand(-1, input.shape[1], -1) if hx is None else hx
        return super().forward(input, hx, *given, **named)


@every_executor
def test_a_forward_of_a_subclass(executor: str) -> None:
    x = sequence()
    layer = built(executor, Residual)
    agree_on(layer, torch.cat([built(executor, elman.GRU)(x)[0], x], -1))
    found = layer.trajectory(x, lengths=[T, 2])
    close(found.outputs, layer(x, lengths=[T, 2])[0], "outputs")
    assert found.states.shape == (T, 2, B, H)
    layer = built(executor, Learned)
    agree_on(layer, elman.GRU.forward(layer, x, layer.h0.expand(-1, B, -1))[0])
    plain = elman.Recurrent(nn.GRUCell(D, H), executor=executor).double()
    cell: Layer = ResidualCell(plain.cell, executor=executor)
    agree_on(cell, torch.cat([plain(x)[0], x], -1))


@every_executor
def test_a_forward_that_is_replaced(executor: str) -> None:
    layer, x = built(executor), sequence()
    before, old = layer(x)[0], layer.forward
    agree_on(layer, before)
    layer.forward = lambda *given, **named: of_result(layer, given, old(*given, **named))
    agree_on(layer, 2 * before)
    del layer.forward
    agree_on(layer, before)


def test_a_forward_of_a_class_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, old = built(), sequence(), elman.Stack.forward
    expected = 2 * layer(x)[0]
    monkeypatch.setattr(elman.Stack, "forward", lambda self, *given: of_result(self, given, old(self, *given)))
    agree_on(layer, expected)


class WithoutState(elman.GRU):
    def forward(self, *given: Any, **named: Any) -> Any:
        return super().forward(*given, **named)[0]


class Twice(elman.GRU):
    def forward(self, input: Any, hx: Any = None, *given: Any, **named: Any) -> Any:
        return super().forward(input, super().forward(input, hx)[1])


def test_a_forward_that_cannot_be_used() -> None:
    x = sequence()
    layer = built(of=WithoutState)
    close(layer.trajectory(x).outputs, layer(x), "outputs")
    with pytest.raises(
        TypeError, match="WithoutState: step: expected forward to return the outputs and the state, got"
    ):
        layer.step(x[0])
    with pytest.raises(RuntimeError, match="Twice: trajectory: expected forward to run over the sequence once, got 2"):
        built(of=Twice).trajectory(x)


class Counting(nn.Module):
    """A parametrization that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.times += 1
        return 2 * weight


@every_executor
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_parametrization_is_computed_once_in_a_call(bidirectional: bool, executor: str) -> None:
    layer, x = built(executor, bidirectional=bidirectional), sequence()
    counting = {name: Counting() for name in ("weight_ih_l0", "weight_hh_l1", "bias_ih_l1")}
    plain = copy.deepcopy(layer)
    for name, parametrization in counting.items():
        parametrize.register_parametrization(layer, name, parametrization, unsafe=True)
        with torch.no_grad():
            getattr(plain, name).mul_(2)
    calls = [layer, layer.trajectory] if bidirectional else [layer, layer.trajectory, lambda x: layer.step(x[0])]
    for call in calls:
        for parametrization in counting.values():
            parametrization.times = 0
        call(x)
        assert [parametrization.times for parametrization in counting.values()] == [1, 1, 1]
    close(layer(x)[0], plain(x)[0], "outputs")
    all_close(as_tuple(layer(x)[1]), as_tuple(plain(x)[1]), "outputs")


@pytest.mark.parametrize(
    ("name", "value"), [("dropout", 5), ("weight_drop", -1), ("locked_dropout", True), ("executor", "nunpy")]
)
def test_wrong_values_are_refused_where_they_are_set(name: str, value: Any) -> None:
    layer = elman.GRU(3, 5, num_layers=2)
    before = getattr(layer, name)
    with pytest.raises(ValueError, match=f"{name}: expected"):
        setattr(layer, name, value)
    assert getattr(layer, name) == before
