"""The executor `torch`: the numbers of torch.nn, bit for bit, and the loop for whatever torch has no function for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS, Inputs, run, torch_native
from elman.engine.torch_private import fused_rnn
from tests.tolerances import close

D, H, T, B = 3, 5, 6, 4
KINDS: dict[str, tuple[Callable[..., elman.Stack], Callable[..., nn.RNNBase], dict[str, Any]]] = {
    "RNN": (elman.RNN, nn.RNN, {}),
    "relu": (elman.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "GRU": (elman.GRU, nn.GRU, {}),
    "LSTM": (elman.LSTM, nn.LSTM, {}),
    "projected": (elman.LSTM, nn.LSTM, {"proj_size": 2}),
    "without biases": (elman.LSTM, nn.LSTM, {"bias": False}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def pair(kind: str, **options: Any) -> tuple[elman.Stack, nn.RNNBase]:
    """A layer on the torch executor and the layer of torch.nn with the same weights."""
    build, build_twin, of_kind = KINDS[kind]
    twin = build_twin(D, H, **of_kind, **options)
    layer = build(D, H, executor="torch", **of_kind, **options)
    layer.load_state_dict(twin.state_dict())
    return layer, twin


def flat(result: Any) -> list[Tensor]:
    outputs, state = result
    return [outputs, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.sample(8)
@every_kind
@pytest.mark.parametrize("options", [{}, {"num_layers": 3, "bidirectional": True}, {"num_layers": 2, "dropout": 0.5}])
def test_it_has_the_numbers_of_torch_nn(kind: str, options: dict[str, Any]) -> None:
    layer, twin = pair(kind, **options)
    x = torch.randn(T, B, D)
    results = []
    for module in (layer, twin):
        torch.manual_seed(7)
        inputs = x.clone().requires_grad_()
        values = flat(module(inputs))
        results.append(
            [*values, *torch.autograd.grad([v.square().sum() for v in values], [inputs, *module.parameters()])]
        )
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_a_stack_is_one_call_of_the_function(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> Any:
        calls.append(name)
        return fused_rnn(name)

    monkeypatch.setattr(torch_native, "fused_rnn", counted)
    layer, _ = pair("LSTM", **options)
    layer(torch.randn(T, B, D))
    layer.step(torch.randn(B, D)) if not layer.bidirectional else None
    assert calls == ["lstm"] * (1 if layer.bidirectional else 2)


def test_auto_prefers_the_native_executor_and_falls_back_to_torch_before_the_loop() -> None:
    order = [name for name in EXECUTORS if name in ("native", "torch", "loop")]
    assert order[-2:] == ["torch", "loop"]
    layer = elman.LSTM(D, H, 2).half()
    assert elman.describe(layer).executor == "torch"
    outputs, _ = layer(torch.randn(T, B, D, dtype=torch.float16))
    assert outputs.dtype == torch.float16
    assert elman.describe(elman.GRU(D, H, executor="torch")).lines


class OtherEquations(cells.LSTM):
    """A subclass, whose equations torch has no function for."""

    def from_state(self, h: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        return -super().from_state(h, first, last)


def hooked() -> elman.Recurrent:
    cell = nn.GRUCell(D, H)
    cell.register_forward_hook(lambda module, args, output: 2 * output)
    return elman.Recurrent(cell, executor="torch")


def patched() -> elman.Recurrent:
    cell: Any = nn.GRUCell(D, H)
    cell.forward = lambda x, h: h
    return elman.Recurrent(cell, executor="torch")


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "another cell": (
        lambda: elman.Recurrent(cells.SLSTM(D, H), executor="torch"),
        "supports the cells of torch.nn only",
    ),
    "a subclass": (lambda: elman.Stack(D, H, cell_type=OtherEquations, executor="torch"), "got OtherEquations"),
    "zoneout": (lambda: elman.GRU(D, H, zoneout=0.1, executor="torch"), "got GRU with zoneout"),
    "hooks": (hooked, "does not run single steps, got GRUCell with hooks"),
    "a forward of its own": (patched, "got GRUCell"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_has_no_function_for(name: str) -> None:
    build, message = REFUSED[name]
    with pytest.raises(RuntimeError, match=message):
        build()(torch.randn(T, B, D))


def test_tensors_of_two_dtypes_are_refused() -> None:
    cell = nn.GRUCell(D, H)
    inputs = Inputs(cell, dict(cell.named_parameters()), torch.randn(T, B, D), torch.zeros(B, H).double())
    with pytest.raises(RuntimeError, match=r"one floating-point dtype, got torch.float32 and torch.float64"):
        run(inputs, "torch")


@every_kind
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}])
def test_gradients_of_gradients_are_those_of_the_loop(kind: str, options: dict[str, Any]) -> None:
    layer, _ = pair(kind, **options)
    layer.double()
    x, found = torch.randn(T, B, D, dtype=torch.float64), []
    for layer.executor in ("torch", "loop"):
        inputs = [x.clone().requires_grad_(), *layer.parameters()]
        outputs = flat(layer(inputs[0], lengths=[T, 0, 2, T - 1]))
        first = torch.autograd.grad([v.sin().sum() for v in outputs], inputs, create_graph=True)
        found.append(torch.autograd.grad([v.square().sum() for v in first], inputs))
    for actual, expected in zip(*found, strict=True):
        close(actual, expected, "gradients")


def test_a_second_backward_pass() -> None:
    layer, twin = pair("LSTM", num_layers=2)
    x = torch.randn(T, B, D)
    for module in (layer, twin):
        loss = module(x)[0].square().sum()
        loss.backward(retain_graph=True)
        once = [p.grad.clone() for p in module.parameters() if p.grad is not None]
        loss.backward()
        assert all(
            torch.equal(p.grad, 2 * g) for p, g in zip(module.parameters(), once, strict=True) if p.grad is not None
        )
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()


def test_a_write_to_what_the_backward_pass_reads_raises() -> None:
    layer, twin = pair("GRU")
    module: Any
    for module in (layer, twin):
        outputs, _ = module(torch.randn(T, B, D))
        with torch.no_grad():
            module.weight_hh_l0.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            outputs.sum().backward()


def test_dropout_is_not_drawn_again_for_a_second_derivative() -> None:
    """The mode may have changed since the forward pass."""
    layer, _ = pair("GRU", num_layers=2, dropout=0.5)
    x, found = torch.randn(T, B, D), []
    layer.eval()
    for changed in (False, True):
        inputs = [x.clone().requires_grad_(), *layer.parameters()]
        outputs, _ = layer(inputs[0])
        layer.train(changed)
        found.append(torch.autograd.grad(outputs.sin().sum(), inputs, create_graph=True))
        layer.eval()
    assert all(map(torch.equal, *found))


def test_shapes_without_numbers() -> None:
    layer = elman.LSTM(D, H, 2, bidirectional=True, device="meta")
    outputs, (h, c) = layer(torch.empty(T, B, D, device="meta"))
    assert (outputs.shape, h.shape, c.shape) == ((T, B, 2 * H), (4, B, H), (4, B, H))
    assert outputs.device.type == "meta"


def test_a_copy_trains_alone() -> None:
    layer, _ = pair("LSTM")
    layer(torch.randn(T, B, D))[0].sum().backward()
    other = copy.deepcopy(layer)
    other.zero_grad()
    other(torch.randn(T, B, D))[0].sum().backward()
    assert layer.weight_hh_l0.grad is not other.weight_hh_l0.grad


def test_a_projection_to_the_same_width_is_refused() -> None:
    """torch.nn has none, and its function would take the matrix for another layer's."""
    cell = elman.cells.ProjectedLSTM(D, H, proj_size=H)
    with pytest.raises(RuntimeError, match="proj_size is smaller than hidden_size"):
        elman.Recurrent(cell, executor="torch")(torch.randn(T, B, D))
    assert elman.describe(elman.Recurrent(cell)).executor != "torch"


@pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
def test_auto_runs_stacks_and_single_layers_on_the_same_executor() -> None:
    """Under autocast, too, where the input has another dtype than the parameters."""
    x = torch.randn(T, B, D).bfloat16()
    for num_layers in (1, 2):
        layer, by_name = elman.GRU(D, H, num_layers), elman.GRU(D, H, num_layers, executor="native")
        by_name.load_state_dict(layer.state_dict())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(layer(x)[0], by_name(x)[0])
