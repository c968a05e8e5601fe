"""Layers under torch.export: as operators, saved and loaded, with free batch and time."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.utils._pytree import tree_leaves

import elman.export
from elman.layers._export_form import exporting_as
from elman.layers._exported import exported_layer, layer_of
from tests.odd import STEPS, Cell
from tests.tolerances import all_close

D, H = 3, 5
BATCH, TIME = Dim("batch"), Dim("time")
CELLS: dict[str, Callable[[], Any]] = {
    name: lambda name=name: elman.Stack(D, H, cell_type=elman.cells.by_name(name)) for name in elman.cells.REGISTRY
} | {
    "LSTMCell": lambda: elman.Recurrent(nn.LSTMCell(D, H), batch_first=True),
    "GRUCell": lambda: elman.Recurrent(nn.GRUCell(D, H), learn_state=True),
}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = elman.GRU(D, H, bidirectional=True, batch_first=True)
        self.second = elman.Recurrent(nn.LSTMCell(2 * H, D), batch_first=True, learn_state=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        y, h = self.first(x, lengths=lengths)
        z, (last, _) = self.second(torch.tanh(y), lengths=lengths)
        return z, h, last


@pytest.mark.parametrize("form", ["operator", "reference"])
def test_a_layer_is_one_operator(form: Any) -> None:
    torch.manual_seed(0)
    model, lengths = Model(), torch.tensor([4, 2])
    shapes = ({0: BATCH, 1: TIME}, {0: BATCH})
    with exporting_as(form):
        program = export(model, (torch.randn(2, 4, D), lengths), dynamic_shapes=shapes)
    nodes = program.graph.find_nodes(op="call_function", target=exported_layer)
    layers = [layer_of(node.args[0]) for node in nodes]
    assert [layer is part for layer, part in zip(layers, model.children(), strict=True)] == [form == "reference"] * 2
    x, lengths = torch.randn(3, 7, D), torch.tensor([7, 0, 3])
    exported: Any = program.module()
    all_close(exported(x, lengths), model(x, lengths), "outputs")
    weight: Any = exported.get_parameter("first.weight_ih_l0")
    original: Any = model.first.weight_ih_l0
    gradients = torch.autograd.grad(exported(x, lengths)[0].sum(), weight)
    all_close(gradients, torch.autograd.grad(model(x, lengths)[0].sum(), original), "gradients")


@pytest.mark.parametrize("name", sorted(STEPS)[::2])
def test_odd_cells(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = elman.Recurrent(Cell(name, 4))
    elman.export.torch_export(layer, tmp_path / "cell.pt2", torch.randn(3, 2, 5), lengths=True)
    assert elman.export.check(tmp_path / "cell.pt2", layer, torch.randn(6, 3, 5)).largest < 1e-5


@pytest.mark.parametrize("loop", ["scan", "operator"])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str, loop: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = CELLS[name]()
    elman.export.torch_export(layer, tmp_path / "cell.pt2", loop=loop, lengths=True)
    assert elman.export.check(tmp_path / "cell.pt2", layer).largest < 1e-5


@pytest.mark.slow
def test_a_new_process(tmp_path: Path) -> None:
    loops: tuple[Literal["scan", "operator"], ...] = ("scan", "operator")
    layer, x = elman.LSTM(D, H), torch.randn(7, 3, D)
    for loop in loops:
        elman.export.torch_export(layer, tmp_path / f"{loop}.pt2", loop=loop, state=False)
    torch.save(x, tmp_path / "input.pt")
    # Programs with scans run without elman.
    code = """
import sys, torch
sys.modules["elman"] = None
with torch.no_grad():
    x = torch.load("input.pt")
    scan = torch.export.load("scan.pt2").module()(x)
    del sys.modules["elman"]
    import elman.export
    operator = torch.export.load("operator.pt2").module()(x)
torch.save((scan, operator), "output.pt")
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(elman.__file__).parents[1])}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=environment, check=True)
    for outputs in torch.load(tmp_path / "output.pt"):
        all_close(tree_leaves(outputs), tree_leaves(layer(x)), "outputs")


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")  # of torch's own code
def test_aot_inductor(tmp_path: Path) -> None:
    """Free axes of time and batch, ragged, with both directions, in compiled code."""
    path, model = tmp_path / "compiled.pt2", Model().eval()
    examples = torch.randn(2, 4, D), torch.tensor([4, 2])
    program = elman.export.torch_export(model, tmp_path / "model.pt2", examples)
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        compiled = torch._inductor.aoti_load_package(str(path))
        for T, lengths in ((7, [7, 0, 3]), (1, [1]), (40, [40, 3])):
            inputs = torch.randn(len(lengths), T, D), torch.tensor(lengths)
            all_close(compiled(*inputs), model(*inputs), "outputs")


@pytest.mark.filterwarnings("ignore:.* cannot run on the native executor")
def test_refusals(tmp_path: Path) -> None:
    layer, path = elman.GRU(D, H), tmp_path / "gru.pt2"
    with pytest.raises(ValueError, match=r"path: expected a file name that ends with \.pt2, got 'gru\.pt'"):
        elman.export.torch_export(layer, tmp_path / "gru.pt")
    with pytest.raises(ValueError, match="loop: expected 'scan' or 'operator', got 'unrolled'"):
        elman.export.torch_export(layer, path, loop="unrolled")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Sequential: expected example inputs; pass inputs="):
        elman.export.torch_export(nn.Sequential(layer), path)
    hooked, changed = elman.Recurrent(nn.GRUCell(D, H)), elman.Recurrent(elman.cells.AntisymmetricRNN(D, H))
    hooked.cell.register_forward_hook(lambda *_: None)
    changed.cell.forward = lambda x, h: h
    for other in (elman.Recurrent(Cell("linear", D)), hooked, changed):
        with pytest.raises(
            ValueError, match=r"as an operator of elman: expected a cell of elman\.cells or torch\.nn, "
        ):
            elman.export.torch_export(
                other, path, torch.randn(3, 2, 5 if other.state_size == D else D), loop="operator"
            )
    for module, inputs in (
        (elman.Recurrent(Skips()), None),
        (nn.Sequential(elman.GRU(D, H), Skips()), torch.ones(3, 2, D)),
    ):
        with pytest.raises(ValueError, match=r"^elman\.export\.torch_export: \w+ cannot be exported: .+") as refusal:
            elman.export.torch_export(module, path, inputs)
        assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


class Skips(nn.Module):
    """A step, and a layer, that reads a number from a tensor."""

    input_size, state_size = D, D

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return x if (x if h is None else h).sum() > 0 else -x


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"expected JSON with a format, got '\{'"),
        ('{"format": 2}', "expected format 1, got 2; install a newer version of elman"),
        ('{"format": 1, "layer": "stack", "cell": "os", "training": false}', "expected the options of a layer"),
        ("layer of process 0:1", "expected a layer of this process, got one of another"),
    ],
)
def test_other_descriptions(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_of(text)
