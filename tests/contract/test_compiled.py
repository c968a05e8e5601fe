"""Law 13 under torch.compile: a layer is one graph, which does what the layer does in eager mode, whatever changes."""

import copy
import gc
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch.aot_autograd import make_boxed_func  # type: ignore[attr-defined]
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves

import elman
from elman import bptt, flow

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* cannot run on the native executor"),
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch's own, for pruned weights
]
compiled_by_torch: Any = torch.compile
D, H = 3, 5
SHAPES = [
    (4, 2),
    (5, 3),
    (6, 4),
    (7, 5),
    (2, 9),
    (3, 8),
    (9, 11),
    (12, 6),
    (8, 8),
    (11, 12),
]  # more than the limit of 8


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()
    torch.manual_seed(0)


class Own(nn.Module):
    """A cell whose step depends on attributes of all kinds, a module within and its mode."""

    input_size, state_size = D, H

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(D + H, H), nn.Dropout(0.4)
        self.scale, self.act, self.options = 1.0, "tanh", {"gain": [1.0]}

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        h = self.linear(torch.cat([x, self.drop(h)], -1))
        activated: Tensor = getattr(torch, self.act)(h) * self.scale * self.options["gain"][0]
        return activated


def layers(executor: str = "auto") -> dict[str, nn.Module]:
    return {
        "GRU": elman.GRU(D, H, executor=executor),
        "LSTM": elman.LSTM(D, H, num_layers=2, bidirectional=True, batch_first=True, executor=executor),
        "Recurrent": elman.Recurrent(nn.LSTMCell(D, H), learn_state=True, executor=executor),
        "Own": elman.Recurrent(Own(), executor=executor),
    }


def inputs(kind: str, batch_first: bool, shapes: Sequence[tuple[int, int]]) -> list[tuple[Any, dict[str, Any]]]:
    found: list[tuple[Any, dict[str, Any]]] = []
    for T, B in shapes:
        x = torch.randn((B, T, D) if batch_first else (T, B, D))
        if kind == "packed":
            lengths = torch.randint(1, T + 1, (B,))
            found.append((pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False), {}))
        else:
            found.append((x, {"lengths": torch.randint(0, T + 1, (B,))} if kind == "lengths" else {}))
    return found


def results(layer: Any, called: Callable[..., Any], x: Any, **options: Any) -> list[Tensor]:
    """What a call returns, and the gradients of all parameters; random numbers are the same in every call."""
    torch.manual_seed(1)
    tensors = [t for t in tree_leaves(called(x, **options)) if t.is_floating_point()]
    parameters = list(layer.parameters())
    found = torch.autograd.grad(sum((t * t).sum() for t in tensors), parameters, allow_unused=True)
    return [*tensors, *(torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True))]


def same(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected)
    assert all(map(torch.equal, actual, expected))


def count_graphs(layer: Any, kind: str, shapes: Sequence[tuple[int, int]], backend: str, **options: Any) -> int:
    """Return how many graphs a layer is compiled to; AssertionError unless they give the numbers of eager mode."""
    graphs = CompileCounterWithBackend(backend)
    compiled = compiled_by_torch(layer, backend=graphs, fullgraph=True, **options)
    for x, of_call in inputs(kind, layer.batch_first, shapes):
        same(results(layer, compiled, x, **of_call), results(layer, layer, x, **of_call))
    return graphs.frame_count


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["plain", "lengths", "packed"])
@pytest.mark.parametrize("name", layers())
def test_two_graphs_serve_every_length_and_batch(name: str, kind: str) -> None:
    assert count_graphs(layers()[name].eval(), kind, SHAPES, "eager") == 2


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["plain", "lengths"])
def test_one_dynamic_graph(kind: str) -> None:
    layer = elman.LSTM(D, H, num_layers=2, bidirectional=True)
    assert count_graphs(layer, kind, SHAPES, "eager", dynamic=True) == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("build", [lambda: elman.GRU(D, H), lambda: elman.Recurrent(nn.GRUCell(D, H))])
def test_layers_of_one_kind_share_a_graph(build: Any) -> None:
    graphs = CompileCounterWithBackend("eager")
    first = build()
    for layer in (first, build(), copy.deepcopy(first), copy.copy(first), pickle.loads(pickle.dumps(first))):
        layer.executor = "loop" if layer is first else "auto"
        compiled, x = compiled_by_torch(layer, backend=graphs, fullgraph=True), torch.randn(4, 2, D)
        same(results(layer, compiled, x), results(layer, layer, x))
    assert graphs.frame_count == 1


def _modes(*, training: bool) -> Callable[[Any], None]:
    def change(layer: Any) -> None:
        for module in layer.modules():
            module.training = training

    return change


def _set(of: str, **values: Any) -> Callable[[Any], None]:
    def change(layer: Any) -> None:
        for name, value in values.items():
            setattr(layer.get_submodule(of), name, value() if callable(value) else value)

    return change


CHANGES: dict[str, tuple[Callable[[], Any], list[Callable[[Any], Any]], int]] = {
    # a layer, what is changed one after the other, and how many graphs that may take
    "zoneout": (
        lambda: elman.LSTM(D, H, zoneout=0.3),
        [lambda layer: layer.eval(), lambda layer: layer.train(), _modes(training=False), _modes(training=True)],
        1,
    ),
    "dropout": (
        lambda: elman.GRU(D, H, num_layers=2, dropout=0.5, weight_drop=0.2, locked_dropout=0.3, recurrent_dropout=0.3),
        [lambda layer: layer.eval(), lambda layer: layer.train(), _set("", dropout=0.1), _set("", executor="loop")],
        1,
    ),
    "attributes": (
        lambda: elman.Recurrent(Own()),
        [
            _set("cell", scale=2.0),
            _set("cell", act="sin"),
            lambda layer: layer.cell.options["gain"].append(layer.cell.options["gain"].pop() / 2),
            _set("cell.drop", training=False),
            _set("cell.drop", p=0.0),
            _set("cell", linear=lambda: nn.Linear(D + H, H)),
            lambda layer: layer.cell.register_forward_hook(lambda *given: given[-1] / 2),
            lambda layer: layer.cell._forward_hooks.clear(),
            lambda layer: layer.cell.drop.register_forward_pre_hook(lambda _, given: (given[0] / 2,)),
        ],
        1,
    ),
    "nonlinearity": (lambda: elman.Recurrent(nn.RNNCell(D, H)), [_set("cell", nonlinearity="relu")], 1),
    "cell": (
        lambda: elman.Recurrent(nn.GRUCell(D, H)),
        [_set("", cell=lambda: nn.GRUCell(D, H)), _set("", cell=lambda: nn.RNNCell(D, H)), _set("", cell=Own)],
        3,
    ),
    "bptt": (
        lambda: elman.GRU(D, H, num_layers=2),
        [_set("", bptt=bptt.Truncated(2)), _set("", bptt=bptt.Truncated(1)), _set("", bptt=bptt.Truncated(2, 3)),
         _set("", bptt=bptt.Checkpointed(2))],
        3,
    ),
}  # fmt: skip


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_acts_as_in_eager_mode(name: str) -> None:
    build, changes, most = CHANGES[name]
    layer, graphs = build(), CompileCounterWithBackend("aot_eager")
    compiled, x = compiled_by_torch(layer, backend=graphs, fullgraph=True), torch.randn(4, 2, D)
    before = results(layer, compiled, x)
    same(before, results(layer, layer, x))
    for change in changes:
        change(layer)
        same(results(layer, compiled, x), results(layer, layer, x))
    assert graphs.frame_count <= most


@pytest.mark.slow
def test_a_mode_of_the_call() -> None:
    layer, x = elman.GRU(D, H), torch.randn(6, 2, D)
    compiled = compiled_by_torch(layer, backend="aot_eager")
    for mode in (None, bptt.Truncated(2), bptt.Truncated(3), bptt.Checkpointed()):
        same(results(layer, compiled, x, bptt=mode), results(layer, layer, x, bptt=mode))


@pytest.mark.slow
def test_online_modes_run_in_python() -> None:
    layer, x = elman.GRU(D, H), torch.randn(3, 2, D)
    compiled = compiled_by_torch(layer, backend="aot_eager")
    same(results(layer, compiled, x), results(layer, layer, x))
    layer.bptt = bptt.RTRL()
    with torch.no_grad():
        h = layer(x)[1]
    _, last = compiled(x, h)
    again, _ = compiled(x, last)  # whose gradient goes through what the state knows of the first call
    found = torch.autograd.grad(again.square().sum(), list(layer.parameters()))
    layer.bptt = bptt.Full()
    _, last = layer(x, h)
    expected = torch.autograd.grad(layer(x, last)[0].square().sum(), list(layer.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["parametrized", "pruned", "weight norm"])
def test_computed_weights(kind: str) -> None:
    layer: Any = elman.GRU(D, H)
    if kind == "parametrized":
        parametrizations.spectral_norm(layer, "weight_hh_l0")
        layer.eval()
    elif kind == "pruned":
        prune.l1_unstructured(layer, "weight_hh_l0", 0.3)
    else:
        parametrizations.weight_norm(layer, "weight_hh_l0")
    compiled = compiled_by_torch(layer, backend="aot_eager", fullgraph=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        x = torch.randn(4, 2, D)
        same(results(layer, compiled, x), results(layer, layer, x))
        optimizer.zero_grad()
        compiled(x)[0].square().sum().backward()
        optimizer.step()


def test_a_packed_sequence_comes_back_as_one() -> None:
    layer, x = elman.GRU(D, H), torch.randn(4, 3, D)
    for packed in (pack_padded_sequence(x, [4, 2, 1]), pack_padded_sequence(x, [1, 4, 2], enforce_sorted=False)):
        found, _ = compiled_by_torch(layer, backend="eager")(packed)
        expected, _ = layer(packed)
        assert isinstance(found, PackedSequence)
        for one, other in zip(found, expected, strict=True):
            assert one is other or (one is not None and other is not None and torch.equal(one, other))


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", [list, tuple])
def test_lengths_as_numbers(kind: Any) -> None:
    layer, graphs = elman.GRU(D, H, bidirectional=True), CompileCounterWithBackend("eager")
    compiled = compiled_by_torch(layer, backend=graphs, fullgraph=True)
    for k in range(10):
        lengths = [3 + k, 5 + k, 2 + k % 3, 4]
        x = torch.randn(5 + k, 4, D)
        same(results(layer, compiled, x, lengths=kind(lengths)), results(layer, layer, x, lengths=kind(lengths)))
    assert graphs.frame_count <= 3  # torch.compile guards on numbers until they change


def test_several_calls_before_a_backward_pass() -> None:
    layer = elman.LSTM(D, H, zoneout=0.2)
    compiled = compiled_by_torch(layer, backend="aot_eager", fullgraph=True)
    parameters, found = list(layer.parameters()), []
    xs = [torch.randn(4, 2, D) for _ in range(3)]
    for called in (compiled, layer):
        torch.manual_seed(2)
        losses = [called(x)[0].square().sum() for x in xs]
        gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in reversed(losses)]
        again = torch.autograd.grad(losses[1], parameters)
        found.append([g for row in (*gradients, again) for g in row])
    same(*found)


def test_nothing_is_left_of_a_call() -> None:
    from elman.layers._compiled import _handles

    layer = elman.GRU(D, H)
    compiled = compiled_by_torch(layer, backend="aot_eager", fullgraph=True)
    for backward in (True, False):
        outputs, h = compiled(torch.randn(4, 2, D))
        if backward:
            outputs.sum().backward()
        del outputs, h
        gc.collect()
        assert not _handles


def test_backward_asks_for_what_it_needs() -> None:
    """A compiler, as inductor, uses the memory of an input or a result again when no later operator asks for it."""
    backward = []

    def seen(graph: Any, inputs: Any) -> Any:
        backward.extend(graph.graph.find_nodes(op="call_function", target=torch.ops.elman.layer_backward.default))
        return make_boxed_func(graph)

    layer, x = elman.LSTM(D, H), torch.randn(4, 2, D, requires_grad=True)
    backend = aot_autograd(fw_compiler=lambda graph, _: make_boxed_func(graph), bw_compiler=seen)
    compiled_by_torch(layer, backend=backend, fullgraph=True)(x)[0].sum().backward()
    (call,) = backward
    _, _, inputs, results, _ = call.args
    assert [tuple(node.meta["val"].shape) for node in inputs] == [x.shape, *(p.shape for p in layer.parameters())]
    assert [tuple(node.meta["val"].shape) for node in results] == [(4, 2, H), (1, 2, H), (1, 2, H)]


def test_autocast() -> None:
    linear, layer, x = nn.Linear(D, D), elman.GRU(D, H), torch.randn(4, 2, D)
    model = nn.Sequential(linear, layer)
    compiled = compiled_by_torch(model, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(x), model(x)
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert all(map(torch.equal, found, expected))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_wrong_input(backend: str) -> None:
    layer, x = elman.GRU(D, H), torch.randn(4, 2, D)
    compiled = compiled_by_torch(layer, backend=backend)
    compiled(x)
    with pytest.raises(ValueError, match=r"GRU: input: expected width 3 \(input_size\), got 4"):
        compiled(torch.randn(4, 2, 4))
    with pytest.raises(ValueError, match="GRU: input: RNN input dtype"):
        compiled(x.double())
    with pytest.raises(ValueError, match=r"GRU: state: expected shape \(1, 2, 5\), got \(1, 3, 5\)"):
        compiled(x, torch.zeros(1, 3, H))
    with pytest.raises(ValueError, match="GRU: lengths: expected 2 integers from 0 to 4, got"):
        compiled(x, lengths=torch.tensor([1, 5]))


@pytest.mark.slow
def test_step_and_trajectory() -> None:
    layer: Any = elman.Recurrent(nn.GRUCell(D, H))
    x = torch.randn(4, 2, D)
    step = compiled_by_torch(layer.step, backend="aot_eager", fullgraph=True)
    same(tree_leaves(step(x[0])), tree_leaves(layer.step(x[0])))
    trajectory: Any = compiled_by_torch(layer.trajectory, backend="aot_eager")
    for _ in range(2):
        same(list(trajectory(x)[:2]), list(layer.trajectory(x)[:2]))
        layer.cell.register_forward_hook(lambda *given: given[-1] / 2)


@pytest.mark.slow
def test_a_gradient_of_what_a_cell_reads_from_elsewhere() -> None:
    class Attending(nn.Module):
        input_size, state_size = D, D
        memory: Tensor | None = None

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(x + h if self.memory is None else x + h * self.memory)

    layer: Any = elman.Recurrent(Attending())
    source, x = torch.randn(D, requires_grad=True), torch.randn(4, 2, D, requires_grad=True)
    compiled, found = compiled_by_torch(layer, backend="aot_eager"), []
    for called in (layer, compiled):
        layer.cell.memory = source * 2
        found.append(torch.autograd.grad(called(x)[0].sum(), [source, x]))
    same(*map(list, found))
    torch.compiler.reset()
    layer.cell.memory = None
    compiled(x)
    layer.cell.memory = source * 2
    with pytest.raises(RuntimeError, match=r"call torch.compiler.reset\(\) after such a change"):
        compiled(x)


def test_flow_sees_a_compiled_layer() -> None:
    layer, x = elman.GRU(D, H), torch.randn(4, 2, D)
    compiled, found = compiled_by_torch(layer, backend="aot_eager", fullgraph=True), []
    for called in (layer, compiled, compiled):
        with flow.record(layer) as recording:
            called(x)[0].square().sum().backward()
        found.append(recording.state_gradients)
    assert all(torch.equal(found[0]["h_l0"], other["h_l0"]) for other in found[1:])


def test_a_cell_that_returns_another_form() -> None:
    class Cell(nn.Module):
        input_size, state_size, width = D, D, 1

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(x + h)
            return h[:, : self.width], h

    layer: Any = elman.Recurrent(Cell())
    compiled, x = compiled_by_torch(layer, backend="aot_eager", fullgraph=True), torch.randn(4, 2, D)
    assert compiled(x)[0].shape == (4, 2, 1)
    layer.cell.width = 2
    with pytest.raises(
        RuntimeError, match=r"call torch.compiler.reset\(\) after the shapes that a cell returns change"
    ):
        compiled(x)


def test_the_trace_leaves_nothing_behind() -> None:
    """To know what a layer returns, it is called once: no hook, counter or random number may tell."""

    class Counting(nn.Module):
        input_size, state_size = D, D

        def __init__(self) -> None:
            super().__init__()
            self.calls, self.norm = 0, nn.BatchNorm1d(D)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            self.calls += 1
            return torch.tanh(self.norm(x) + h + torch.rand_like(h))

    layer: Any = elman.Recurrent(Counting(), executor="loop")
    x, calls = torch.randn(4, 2, D), list[int]()
    layer.cell.register_forward_hook(lambda *_: calls.append(1))
    other = copy.deepcopy(layer)
    torch.manual_seed(5)
    expected = other(x)
    calls.clear()
    torch.manual_seed(5)
    found = compiled_by_torch(layer, backend="aot_eager", fullgraph=True)(x)
    same(list(found), list(expected))
    assert (len(calls), layer.cell.calls) == (4, 4)
    assert torch.equal(layer.cell.norm.running_mean, other.cell.norm.running_mean)
