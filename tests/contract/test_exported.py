"""Law 13 under torch.export: what is exported is plain torch, for any batch and time, and does what the layer does."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
import torch.fx
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._pytree import tree_leaves

import elman
from elman import bptt
from tests.tolerances import all_close

D, H, T = 3, 5, 4
LENGTHS = [4, 0, 2, 1, 3]
BATCH, TIME = Dim("batch"), Dim("time")
either_way = pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])


class Counting(nn.Module):
    """A cell that puts another tensor in the place of a buffer at every step, and reads it."""

    input_size, state_size = D, D
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor, h: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        self.steps = self.steps + 1
        h = torch.tanh(x + h * self.steps)
        return {"twice": 2 * h, "sum": h.sum(-1)}, h


LAYERS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: elman.LSTM(D, H),
    "GRU": lambda: elman.GRU(D, H, num_layers=2, bidirectional=True, batch_first=True),
    "zoneout": lambda: elman.GRU(D, H, zoneout=0.3).eval(),
    "Truncated": lambda: elman.RNN(D, H, num_layers=2, bptt=bptt.Truncated(2, 3)),
    "learned": lambda: elman.Recurrent(nn.LSTMCell(D, H), learn_state=True),
}


def inputs(layer: Any, B: int, T: int = T) -> Tensor:
    return torch.randn((B, T, D) if layer.batch_first else (T, B, D))


@pytest.mark.sample(1)
@either_way
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")  # which functional_call undoes
@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("name", LAYERS)
def test_any_batch_and_time(name: str, ragged: bool, strict: bool) -> None:
    torch.manual_seed(0)
    layer, lengths = LAYERS[name](), torch.tensor(LENGTHS)
    axes = {0: BATCH, 1: TIME} if layer.batch_first else {0: TIME, 1: BATCH}
    options = {"lengths": lengths[:2]} if ragged else {}
    shapes = {"input": axes, "lengths": {0: BATCH}} if ragged else {"input": axes}
    exported = export(layer, (inputs(layer, 2),), options, dynamic_shapes=shapes, strict=strict)
    assert "elman" not in str(exported.graph)
    x, options = inputs(layer, 5, T + 3), {"lengths": lengths} if ragged else {}
    expected = tree_leaves(layer(x, **options))
    if ragged:  # what stands behind the ends is not read
        steps = torch.arange(T + 3).unsqueeze(1) >= lengths
        x = x.masked_fill((steps.T if layer.batch_first else steps).unsqueeze(-1), torch.nan)
    all_close(tree_leaves(exported.module()(x, **options)), expected, "outputs")


@either_way
def test_a_state_from_without(strict: bool) -> None:
    layer = elman.LSTM(D, H)
    states = [[torch.randn(1, B, H) for _ in range(2)] for B in (2, 5)]
    axis = {1: BATCH}
    shapes = (axis, (axis, axis))
    exported = export(layer, (torch.randn(T, 2, D), tuple(states[0])), dynamic_shapes=shapes, strict=strict)
    x = torch.randn(T, 5, D)
    found, expected = exported.module()(x, tuple(states[1])), layer(x, tuple(states[1]))
    all_close(tree_leaves(found), tree_leaves(expected), "outputs")


@pytest.mark.filterwarnings("ignore:.* cannot run on the native executor")
def test_a_buffer_that_changes() -> None:
    layer, x = elman.Recurrent(Counting()), torch.randn(T, 2, D)
    exported: Any = export(deepcopy(layer), (x,)).module()
    all_close(tree_leaves(exported(x)), tree_leaves(layer(x)), "outputs")


def test_gradients_are_whole_ones() -> None:
    layer, x = elman.GRU(D, H, bptt=bptt.Truncated(1)), torch.randn(T, 2, D)
    exported: Any = export(layer, (x,)).module()
    found = torch.autograd.grad(exported(x)[0].sum(), list(exported.parameters()))
    expected = torch.autograd.grad(layer(x, bptt=bptt.Full())[0].sum(), list(layer.parameters()))
    all_close(found, expected, "gradients")


def test_what_cannot_be_exported() -> None:
    layer, x = elman.GRU(D, H), torch.randn(T, 2, D)
    with pytest.raises(Exception, match=r"GRU: input: torch\.export: expected a tensor and lengths=, got a Packed"):
        export(layer, (pack_padded_sequence(x, [4, 2]),))
    with pytest.raises(Exception, match="GRU: lengths: expected 2 integers, got shape"):
        export(layer, (x,), {"lengths": torch.tensor([1, 2, 3])})


@pytest.mark.filterwarnings("ignore:`torch.jit")  # is deprecated
@pytest.mark.parametrize("build", [elman.GRU, lambda D, H: elman.Recurrent(nn.GRUCell(D, H))], ids=["GRU", "Recurrent"])
def test_torchscript_is_refused(build: Any) -> None:
    model, x = nn.Sequential(build(D, H)), torch.randn(T, 2, D)
    way: Any
    for way in (torch.jit.script, partial(torch.jit.trace, example_inputs=x)):
        with pytest.raises(
            RuntimeError, match=r": torch\.jit\.\w+: expected torch\.export\.export\(model, \(input,\)\)"
        ):
            way(model)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = elman.LSTM(D, H), elman.Recurrent(nn.GRUCell(H, D))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y, (h, c) = self.first(x * 2, lengths=lengths)
        z: Tensor = self.second(y, torch.tanh(h[0, :, :D]))[0]
        z += c.sum()
        return z


class Residual(elman.GRU):
    def forward(self, input: Any, *options: Any) -> Any:
        outputs, h = super().forward(input, *options)
        return outputs + input, h


def test_layers_are_leaves_of_fx() -> None:
    model = Model()
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.find_nodes(op="call_module", target="first")] == ["first"]
    x, lengths = torch.randn(T, 5, D), torch.tensor(LENGTHS)
    assert torch.equal(traced(x, lengths), model(x, lengths))
    for wrong in (elman.GRU(D, H), nn.Sequential(Residual(D, D))):
        with pytest.raises(RuntimeError, match=r"torch\.fx\.symbolic_trace: expected .*; use torch\.export\.export"):
            torch.fx.symbolic_trace(wrong)
