"""ONNX files give the numbers of their modules: whole, in chunks, ragged."""

import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn, tanh

import elman
from elman import cells
from elman.engine.plan.operations import POINTWISE, REDUCTIONS
from elman.errors import Failure
from elman.export import CheckResult
from elman.export._formats import FORMATS, format_of
from elman.export._onnx import OPSETS
from tests.odd import Cell as OddCell
from tests.odd import D, H, T

Recurrent = partial(elman.Recurrent, executor="loop")  # nothing has to be compiled
ODD = [
    "x alone", "a weight and its transpose", "a deep input", "a matrix made of others", "numbers", "halves", "blocks",
    "one value for two states", "a state that stays", "the state itself", "three states of different widths",
    "an output that is no state", "a buffer",
]  # fmt: skip
LAYERS: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(elman.Stack, 3, 4, cell_type=cells.by_name(name), executor="loop") for name in cells.REGISTRY},
    "LSTMCell": lambda: Recurrent(nn.LSTMCell(3, 4)),
    "GRUCell": lambda: Recurrent(nn.GRUCell(3, 4)),
    "RNNCell": lambda: Recurrent(nn.RNNCell(3, 4)),
    "relu": partial(elman.RNN, 3, 4, nonlinearity="relu", executor="loop"),
    "no bias": partial(elman.GRU, 3, 4, bias=False, executor="loop"),
    "layers of nodes": partial(elman.LSTM, 3, 4, num_layers=2, batch_first=True, dropout=0.3, executor="loop"),
    "two directions of nodes": partial(elman.GRU, 3, 4, num_layers=2, bidirectional=True, executor="loop"),
    "two directions of scans": partial(
        elman.Stack, 3, 4, num_layers=2, bidirectional=True, batch_first=True, cell_type=cells.MGU, executor="loop"
    ),
    "projection": partial(elman.LSTM, 3, 4, proj_size=2, num_layers=2, executor="loop"),
    "zoneout and dropout": partial(
        elman.LSTM, 3, 4, zoneout=0.1, recurrent_dropout=0.2, weight_drop=0.3, locked_dropout=0.2, executor="loop"
    ),
    "normalization": partial(elman.LSTM, 3, 4, layer_norm=True, executor="loop"),
}


def exported(path: Path, layer: nn.Module, inputs: Any = None, **options: Any) -> CheckResult:
    """Write a layer to a file, and compare the two."""
    elman.export.onnx(layer, path, inputs, **options)
    return elman.export.check(path, layer, inputs)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return tmp_path / "layer.onnx"


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, file: Path) -> None:
    layer = LAYERS[name]()
    result = exported(file, layer, lengths=True)
    assert result.ragged is not None
    assert (result.chunked is None) == bool(getattr(layer, "bidirectional", False))
    assert layer.training  # as before


@pytest.mark.parametrize("name", ODD)
def test_odd_cells(name: str, file: Path) -> None:
    result = exported(file, Recurrent(OddCell(name, H)), torch.randn(T, 2, D), lengths=True)
    assert None not in result


def test_one_node_for_each_layer_and_not_for_each_step(file: Path) -> None:
    elman.export.onnx(elman.LSTM(3, 4, num_layers=2, bidirectional=True), file)
    assert operators(file).count("LSTM") == 2
    elman.export.onnx(elman.Stack(3, 4, num_layers=2, bidirectional=True, cell_type=cells.MGU), file)
    assert operators(file).count("Scan") == 4


def test_products_with_x_run_before_the_loop(file: Path) -> None:
    elman.export.onnx(elman.Stack(3, 4, cell_type=cells.CoupledLSTM), file)
    graph = onnx.load(file).graph
    scan = next(node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert (
        [node.op_type for node in body.node].count("Gemm") == [node.op_type for node in graph.node].count("Gemm") == 1
    )


class ManyOutputs(nn.Module):
    """Outputs by name, among them a number, a matrix and a state."""

    state_size = (4, 4)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        h, c = tanh(x + state[0]), state[1] + x
        return {"mean": h.mean(-1), "outer": h[:, :2, None] * c[:, None, :3], "h": h}, (h, c)


def test_outputs_by_name(file: Path) -> None:
    layer = Recurrent(ManyOutputs())
    assert None not in exported(file, layer, torch.randn(5, 2, 4), lengths=True)
    names = [output.name for output in onnx.load(file).graph.output]
    assert names == ["output_mean", "output_outer", "output_h", "state0_out", "state1_out"]


def conditions(x: Tensor, h: Tensor) -> Tensor:
    """Operations whose results depend on rounding, signs and NaN."""
    h = torch.where(x > 0, h.expm1().clamp(max=2), (x.abs() + 1e-6).log1p()) + (x >= h) * 0.5
    h = h.masked_fill((x < -1) & (h != 0) | torch.isnan(h), 0.25) + (x * 3).round() + (x * 2).trunc()
    return tanh(
        h + x.sign() + torch.maximum(x, h).pow(3) + x.std(-1, keepdim=True) + nn.functional.elu(x) + x.amax(-1, True)
    )


def test_conditions_and_rare_operations(file: Path) -> None:
    exported(file, Recurrent(conditions, state_size=4), torch.randn(6, 2, 4), lengths=True)


def expanded(x: Tensor, states: tuple[Tensor, Tensor], b: Tensor) -> tuple[Tensor, Tensor]:
    """A parameter and zeros with a row for each sequence: as operands, in a concatenation, and as a state."""
    rows = b.expand(len(x), -1)
    stacked = torch.stack((x + states[0] + rows, rows, torch.zeros(len(x), 4)), -1).sum(-1)
    return torch.cat((tanh(stacked)[:, :2], rows[:, 2:] * states[1][:, 2:]), 1), b.expand_as(x)


def test_constants_for_batches_of_any_size(file: Path) -> None:
    layer = Recurrent(expanded, state_size=(4, 4), parameters={"b": torch.randn(4)})
    elman.export.onnx(layer, file, torch.randn(6, 2, 4), lengths=True)
    for batch in (1, 2, 3, 5):
        elman.export.check(file, layer, torch.randn(6, batch, 4))


def test_padding_is_not_read(file: Path) -> None:
    for cell in (cells.GRU, cells.MGU):
        layer = elman.Stack(3, 4, cell_type=cell, executor="loop", bidirectional=True)
        elman.export.onnx(layer, file, lengths=True, state=False)
        x, lengths = torch.randn(5, 3, 3), torch.tensor([2, 0, 5])
        x[2:, 0] = x[:, 1] = torch.nan
        session = onnxruntime.InferenceSession(file)
        outputs, h = session.run(None, {"input": x.numpy(), "lengths": lengths.numpy()})
        expected, final = layer(x, lengths=lengths)
        assert torch.allclose(torch.from_numpy(outputs), expected, atol=1e-5)
        assert torch.allclose(torch.from_numpy(h), final, atol=1e-5)


def test_a_learned_initial_state(file: Path) -> None:
    layer = Recurrent(nn.LSTMCell(3, 4), learn_state=True)
    assert layer.initial_state is not None
    h, c = (nn.init.normal_(value) for value in layer.initial_state)
    assert exported(file, layer, state=False).chunked is None
    assert exported(file, layer).chunked is not None
    learned = json.loads(next(entry.value for entry in onnx.load(file).metadata_props if entry.key == "initial_state"))
    assert torch.equal(torch.tensor(learned["h"]), h)
    assert torch.equal(torch.tensor(learned["c"]), c)


@pytest.mark.slow
def test_every_opset(file: Path) -> None:
    for opset in OPSETS:
        exported(file, elman.LSTM(3, 4, layer_norm=True, executor="loop"), lengths=True, opset=opset)


class Pair(nn.Module):
    """Two layers, one of which takes and returns a state."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = elman.Stack(3, 4, cell_type=cells.MGU, bidirectional=True, batch_first=True, executor="loop")
        self.decoder = elman.LSTM(8, 4, batch_first=True, executor="loop")

    def forward(self, x: Tensor, lengths: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, _ = self.encoder(x, lengths=lengths)
        outputs, (h, c) = self.decoder(outputs, (h, c))
        return outputs, h, c


def test_a_model(file: Path) -> None:
    def inputs(B: int, T: int) -> tuple[Tensor, ...]:
        return torch.randn(B, T, 3), torch.arange(B) % (T + 1), torch.randn(1, B, 4), torch.randn(1, B, 4)

    model = Pair()
    elman.export.onnx(model, file, inputs(3, 6))
    assert [operators(file).count(name) for name in ("Scan", "LSTM")] == [2, 1]
    for sizes in ((4, 9), (1, 1)):
        assert elman.export.check(file, model, inputs(*sizes)).whole < 1e-5


@pytest.mark.slow
def test_a_module_that_was_called_before_can_be_called_after(file: Path) -> None:
    """Tracing undoes what a call changes, but not in memory that prepared calls keep."""

    class Outputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = elman.GRU(3, 4, bidirectional=True)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layer(x)[0]
            return outputs

    model, x = Outputs(), torch.randn(5, 2, 3)
    with torch.inference_mode():
        before = model(x)
        elman.export.onnx(model, file, (x,))
        assert torch.equal(model(x), before)


def test_what_is_refused(file: Path) -> None:
    def mixing(x: Tensor, h: Tensor) -> Tensor:
        return tanh(x + h.mean(0))

    def data_dependent(x: Tensor, h: Tensor) -> Tensor:
        return tanh(x + h) if x.sum() > 0 else h

    def random(x: Tensor, h: Tensor) -> Tensor:
        return x + torch.rand_like(h)

    def line(of: Callable[..., Any]) -> int:
        return of.__code__.co_firstlineno + 1

    x = torch.randn(4, 2, 3)
    for step, reason in (
        (mixing, rf", which mixes the rows of the batch \(test_onnx.py, line {line(mixing)}\)"),
        (data_dependent, rf"read from a tensor.* \(test_onnx.py, line {line(data_dependent)}\)"),
        (random, "random numbers, which the step draws in evaluation, too"),
    ):
        with pytest.raises(ValueError, match=rf"^{step.__name__} cannot be exported to onnx: .*{reason}$") as refusal:
            elman.export.onnx(Recurrent(step, state_size=3), file, x)
        if step is not random:
            with pytest.raises(RuntimeError) as native:
                elman.Recurrent(step, state_size=3, executor="native")(x)
            assert str(native.value).split(": ", 1)[1].startswith(str(refusal.value).split(": ", 1)[1])
    model = nn.Sequential(Recurrent(mixing, state_size=3))
    with pytest.raises(ValueError, match=r"^mixing cannot be exported to onnx: .*mixes the rows"):
        elman.export.onnx(model, file, x)
    layer = elman.GRU(3, 4)
    with pytest.raises(ValueError, match=r"opset: expected one of 18 to 25, got 99$"):
        elman.export.onnx(layer, file, opset=99)
    with pytest.raises(ValueError, match=r"expected parameters of torch.float32, got torch.float64; call module.float"):
        elman.export.onnx(layer.double(), file)
    with pytest.raises(ValueError, match=r"expected example inputs; pass inputs=$"):
        elman.export.onnx(nn.Sequential(elman.GRU(3, 4)), file)
    with pytest.raises(ValueError, match=r"expected an example input, as its size is not known; pass inputs=$"):
        elman.export.onnx(Recurrent(mixing, state_size=3), file)
    with pytest.raises(ValueError, match=r"expected a file name that ends with .onnx, got 'layer.pt'$"):
        elman.export.onnx(layer, file.with_suffix(".pt"))
    assert not list(file.parent.iterdir())  # nothing is half-written


def test_check_finds_other_numbers(file: Path) -> None:
    layer = elman.GRU(3, 4, executor="loop")
    elman.export.onnx(layer, file)
    nn.init.zeros_(layer.get_parameter("bias_hh_l0"))
    with pytest.raises(
        Failure, match=r"layer.onnx: expected the numbers of GRU within 1e-05, got a difference of .*on whole"
    ):
        elman.export.check(file, layer)


def test_formats() -> None:
    assert format_of(Path("a.onnx")) is FORMATS["onnx"]
    with pytest.raises(ValueError, match=r"expected a file name that ends with .*\.onnx.*, got '.txt'"):
        format_of(Path("a.txt"))


def test_the_support_table_has_every_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    lines = import_module("export_table").table().splitlines()
    rows = dict(line.strip("| ").split(" | ")[:2] for line in lines)
    assert rows["`tanh`"] == "Tanh"
    assert rows["`trunc`"] == "Sign, Abs, Floor, Mul"
    names = {str(operation).split(".")[1] for operation in POINTWISE | REDUCTIONS.keys()}
    assert {name for name in names if not name.endswith("_backward")} == {name.strip("`") for name in list(rows)[2:]}
