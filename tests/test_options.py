"""What a stack offers beyond torch.nn: other cells, other beginnings, zoneout, weight drop."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS
from tests.cases import call, cotangents, every_executor, random_states
from tests.tolerances import all_close

T, B, D, H = 6, 3, 4, 8
CELLS = [cells.by_name(name) for name in cells.REGISTRY]
every_cell = pytest.mark.parametrize("cell_type", CELLS, ids=lambda cell_type: cell_type.__name__)
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def built(cell_type: Any, executor: str = "auto", **options: Any) -> elman.Stack:
    torch.manual_seed(0)
    return elman.Stack(D, H, 2, cell_type=cell_type, executor=executor, **options).double()


def named(layer: elman.Stack) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in layer.named_parameters()}


def everything(layer: elman.Stack, seed: int = 1) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    states = [state.detach().abs() for state in random_states(layer, (B,))]
    results = call(layer, x, states)
    inputs = (x, *layer.parameters())
    return results, torch.autograd.grad(results, inputs, cotangents(results), allow_unused=True, materialize_grads=True)


@every_cell
def test_a_stack_of_any_cell(cell_type: Any) -> None:
    layer = built(cell_type)
    (outputs, *finals), _ = everything(layer)
    assert outputs.shape == (T, B, layer.output_size)
    assert [final.shape for final in finals] == [(2, B, width) for width in layer._widths]
    assert [name.rpartition("_l")[0] for name, _ in layer.named_parameters()][: len(layer._names[0])] == [
        name for name, _ in cell_type(D, H).named_parameters()
    ]


def agree(cell_type: Any, training: bool = True, **options: Any) -> None:
    found = [everything(built(cell_type, executor, **options).train(training)) for executor in ("loop", "native")]
    all_close(found[1][0], found[0][0], "outputs")
    all_close(found[1][1], found[0][1], "gradients")


@pytest.mark.sample(8)
@native
@every_cell
@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"weight_drop": 0.4, "locked_dropout": 0.3}], ids=str)
def test_executors_agree(cell_type: Any, options: dict[str, Any]) -> None:
    agree(cell_type, **options)


@native
@pytest.mark.parametrize("cell_type", [cells.LSTM, cells.MGU, cells.SLSTM])
def test_executors_agree_in_evaluation(cell_type: Any) -> None:
    agree(cell_type, training=False, zoneout=0.3, weight_drop=0.4, locked_dropout=0.3)


@every_executor
def test_zoneout_keeps_some_units(executor: str) -> None:
    layer = elman.LSTM(D, 100, zoneout=(0.25, 0.75), executor=executor)
    h, c = torch.randn(1, 20, 100), torch.randn(1, 20, 100)
    _, (new_h, new_c) = layer(torch.randn(1, 20, D), (h, c))
    kept = [(new == old).float().mean().item() for new, old in ((new_h, h), (new_c, c))]
    assert kept == pytest.approx([0.25, 0.75], abs=0.06)


@every_executor
def test_zoneout_in_evaluation_is_the_mean(executor: str) -> None:
    layer = elman.GRU(D, H, zoneout=0.25, executor=executor).eval()
    x, h = torch.randn(1, B, D), torch.randn(1, B, H)
    plain = elman.GRU(D, H)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x, h)[1], 0.25 * h + 0.75 * plain(x, h)[1])


def test_weight_drop_holds_for_a_sequence() -> None:
    layer = elman.RNN(D, H, weight_drop=1.0)
    x, p = torch.randn(T, B, D), named(layer)
    outputs = layer(x)[0].detach()
    expected = torch.tanh(x @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"])
    torch.testing.assert_close(outputs, expected)
    assert not torch.equal(layer.eval()(x)[0], outputs)


@every_executor
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_recurrent_dropout_leaves_the_memory(name: str, executor: str) -> None:
    layer = getattr(elman, name)(D, H, recurrent_dropout=1.0, executor=executor)
    x, h = torch.randn(T, B, D), torch.rand(1, B, H)
    found = layer.trajectory(x, (h, h.clone()) if name == "LSTM" else h)
    forget, memory = ("f", found.states[1]) if name == "LSTM" else ("z", found.states)
    torch.testing.assert_close(memory[1:], found.named[forget][1:] * memory[:-1])
    plain = getattr(elman, name)(D, H)
    plain.load_state_dict(layer.eval().state_dict())
    torch.testing.assert_close(layer(x)[0], plain(x)[0])


@native
def test_recurrent_dropout_of_both_executors() -> None:
    found = [everything(built(cells.GRU, executor, recurrent_dropout=0.4)) for executor in ("loop", "native")]
    all_close(found[1][0], found[0][0], "outputs")
    all_close(found[1][1], found[0][1], "gradients")


def test_locked_dropout_has_one_mask_for_a_sequence() -> None:
    layer = elman.GRU(D, H, locked_dropout=0.5)
    x = torch.randn(T, 40, D, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0].sum(), x)
    dropped = gradient == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped[0].float().mean().item() == pytest.approx(0.5, abs=0.15)
    (gradient,) = torch.autograd.grad(layer.eval()(x)[0].sum(), x)
    assert gradient.all()


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_layer_norm(name: str) -> None:
    layer = getattr(elman, name)(D, H, layer_norm=True)
    assert layer.cell_type is getattr(cells, f"LayerNorm{name}")
    assert "gain_hh_l0" in layer.state_dict()


def test_orthogonal() -> None:
    p = named(elman.LSTM(D, H, 2, init="orthogonal"))
    for gate in p["weight_hh_l1"].split(H):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H))
    assert not p["bias_ih_l0"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["lstm", "rnn", "multiplicative_lstm"])
def test_orthogonal_in_every_precision(name: str, dtype: torch.dtype) -> None:
    layer = elman.Stack(D, H, cell_type=cells.by_name(name), init="orthogonal", dtype=dtype)
    for gate in layer.get_parameter("weight_hh_l0").split(H):
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(gate.double() @ gate.double().T, torch.eye(H).double(), rtol=0, atol=4 * eps)
    assert layer.get_parameter("weight_ih_l0").isfinite().all()


def test_irnn() -> None:
    p = named(elman.RNN(D, H, nonlinearity="relu", init="irnn"))
    assert torch.equal(p["weight_hh_l0"], torch.eye(H))
    assert p["weight_ih_l0"].abs().max() < 0.01


def test_chrono() -> None:
    p = named(elman.LSTM(D, 200, init="chrono"))
    i, f, g, o = (p["bias_ih_l0"] + p["bias_hh_l0"]).split(200)
    assert torch.equal(i, -f)
    assert not torch.cat((g, o)).any()
    lengths = f.exp() + 1
    assert 1.9 < lengths.min() < 10
    assert 90 < lengths.max() < 101


@pytest.mark.parametrize("cell_type", [cells.LSTM, cells.MinLSTM, cells.MGU, cells.SLSTM])
def test_forget_bias(cell_type: Any) -> None:
    layer = elman.Stack(D, H, cell_type=cell_type, forget_bias=1.5)
    k = cell_type.gates.index("f")
    total = sum(p[k * H : (k + 1) * H] for name, p in layer.named_parameters() if name.startswith("bias_"))
    assert isinstance(total, Tensor)
    assert (total == 1.5).all()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: elman.GRU(D, H, forget_bias=1.0), "expected a cell with a gate 'f', got GRU with r, z, n"),
        (lambda: elman.GRU(D, H, init="chrono"), "expected a cell with a gate 'f', got GRU"),
        (lambda: elman.LSTM(D, H, init="irnn"), "one recurrent matrix, got LSTM"),
        (lambda: elman.LSTM(D, H, init="best"), "init: expected one of torch, orthogonal, irnn, chrono, got 'best'"),
        (lambda: elman.LSTM(D, H, zoneout=1.5), "zoneout: expected a probability from 0 to 1, got 1.5"),
        (lambda: elman.LSTM(D, H, zoneout=(0.1,)), "one for each of 2 states"),
        (
            lambda: elman.LSTM(D, H, weight_drop="much"),  # type: ignore[arg-type]
            "weight_drop: expected a probability from 0 to 1, got 'much'",
        ),
        (lambda: elman.LSTM(D, H, forget_bias="a"), "forget_bias: expected a number, got 'a'"),  # type: ignore[arg-type]
        (lambda: elman.LSTM(D, H, bias=False, forget_bias=1.0), "forget_bias=1.0: expected bias=True, got bias=False"),
        (lambda: cells.by_name("grru"), "expected one of rnn, gru, .*, got 'grru'"),
        (lambda: elman.RNN(D, H, layer_norm=True), "layer_norm: expected the cell LSTM or GRU, got RNN"),
        (lambda: elman.RNN(D, H, recurrent_dropout=0.1), "expected a cell with a candidate, got RNN"),
        (lambda: elman.LSTM(D, H, locked_dropout=-1), "locked_dropout: expected a probability from 0 to 1, got -1"),
        (lambda: cells.RecurrentHighway(D, H, depth=0), "depth: expected at least 1, got 0"),
        (lambda: cells.ProjectedLSTM(D, H, proj_size=0), "proj_size: expected at least 1, got 0"),
    ],
)
def test_bad_options(build: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build()


@native
def test_third_party_cells_run_as_they_are() -> None:
    """Modules inside, normalized and parametrized weights, dropout: nothing of it is known to the engine."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.state_size = H
            self.read = nn.utils.parametrizations.weight_norm(nn.Linear(D, H))
            self.recur = nn.utils.parametrizations.orthogonal(nn.Linear(H, H))
            self.body = nn.Sequential(nn.LayerNorm(H), nn.GELU(), nn.Dropout(0.2), nn.Linear(H, H), nn.RMSNorm(H))

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            changed: Tensor = h + self.body(self.read(x) + self.recur(h))
            return changed

    found = []
    for executor in ("loop", "native"):
        torch.manual_seed(0)
        layer = elman.Recurrent(Deep(), executor=executor).double()
        x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        results = call(layer, x)
        inputs = (x, *layer.parameters())
        found.append((results, torch.autograd.grad(results, inputs, cotangents(results))))
    all_close(found[1][0], found[0][0], "outputs")
    all_close(found[1][1], found[0][1], "gradients")


@pytest.mark.parametrize("given", [None, nn.LSTMCell, "GRU"])
def test_what_a_stack_cannot_be_made_of(given: Any) -> None:
    with pytest.raises(TypeError, match=r"cell_type: expected a class of elman.cells, got .*; use elman.Recurrent"):
        elman.Stack(D, H, cell_type=given)


def test_a_layer_of_torch_has_its_own_cells() -> None:
    with pytest.raises(TypeError, match="LSTM: cell_type: expected none, since its cells are LSTM"):
        elman.LSTM(D, H, cell_type=cells.GRU)
