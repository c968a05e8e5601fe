"""Layers under torch.export: as operators, saved and loaded, with free batch and time."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

import elman
from elman.layers._export_form import exporting_as
from elman.layers._exported import exported_layer, layer_of
from tests.tolerances import all_close

D, H = 3, 5
BATCH, TIME = Dim("batch"), Dim("time")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = elman.GRU(D, H, num_layers=2, bidirectional=True, batch_first=True)
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
    weight = exported.get_parameter("first.weight_ih_l0")
    found = torch.autograd.grad(exported(x, lengths)[0].sum(), weight)
    all_close(found, torch.autograd.grad(model(x, lengths)[0].sum(), model.first.weight_ih_l0), "gradients")
