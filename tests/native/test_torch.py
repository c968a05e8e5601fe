"""The native executor as torch sees it: operators, compilers, modes."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import elman
from elman.engine import EXECUTORS
from elman.engine.compiled.torch_ops import backward_op, forward_op
from tests.cases import call, cotangents
from tests.native.pairs import LAYERS, B, Build, D, H, T, agrees, key_of, native, on_loop, problem
from tests.tolerances import all_close, close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
SIZES = torch.tensor([2, 2, 1])  # of packed sequences: three, one of which has no step
either_layout = pytest.mark.parametrize("sizes", [None, SIZES], ids=["even", "packed"])


# torch 2.14's opcheck looks at .grad of copies that it makes itself.
opchecked = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


def tensors_of(layer: elman.Stack, sizes: Tensor | None = None) -> tuple[str, Tensor, list[Tensor], list[Tensor]]:
    """What the operators take for a layer of one cell: the plan, x, the states, the parameters."""
    x, states = problem(layer, T, B, D)
    x = x if sizes is None else x.detach().flatten(0, 1)[: int(sizes.sum())].requires_grad_()
    inner = [state.detach()[0].requires_grad_() for state in states]
    return key_of(layer), x, inner, list(layer.parameters())


@pytest.mark.sample(2)
@opchecked
@either_layout
@every_layer
@pytest.mark.sample(1)
@pytest.mark.parametrize("keep", [True, False], ids=["training", "inference"])
def test_opcheck_of_forward(build: Callable[..., elman.Stack], keep: bool, sizes: Tensor | None) -> None:
    key, x, states, parameters = tensors_of(build(D, H, executor="native"), sizes)
    if not keep:
        x, states, parameters = x.detach(), [s.detach() for s in states], [p.detach() for p in parameters]
    torch.library.opcheck(forward_op, (key, x, states, parameters, [], sizes, keep))


@pytest.mark.sample(4)
@opchecked
@either_layout
@every_layer
@pytest.mark.sample(2)
@pytest.mark.parametrize("of_outputs", [True, False])
@pytest.mark.parametrize("asked", [(True,) * 3, (False, True, True), (True, False, True), (True, True, False)], ids=str)
def test_opcheck_of_backward(
    build: Callable[..., elman.Stack], of_outputs: bool, asked: tuple[bool, bool, bool], sizes: Tensor | None
) -> None:
    key, x, states, parameters = tensors_of(build(D, H, executor="native"), sizes)
    with torch.no_grad():
        outputs, finals, kept = forward_op(key, x, states, parameters, [], sizes, True)
    d_finals = [None if of_outputs and i == 0 else torch.randn_like(final) for i, final in enumerate(finals)]
    dy = torch.randn_like(outputs) if of_outputs else None
    given = (key, dy, d_finals, x.detach(), [s.detach() for s in states], [p.detach() for p in parameters])
    torch.library.opcheck(
        backward_op,
        (*given, [], sizes, outputs, kept, *asked),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_static"),
    )


class Model(nn.Module):
    def __init__(self, executor: str) -> None:
        super().__init__()
        self.lstm = elman.LSTM(D, H, num_layers=2, executor=executor)
        self.gru = elman.GRU(H, 3, executor=executor)
        self.rnn = elman.RNN(3, 4, executor=executor)
        self.cell = elman.Recurrent(nn.LSTMCell(4, H), executor=executor)

    def forward(self, x: Tensor) -> Tensor:
        x, (h, c) = self.lstm(x)
        y, last = self.gru(torch.tanh(x))
        y, _ = self.rnn(y)
        y, (_, memory) = self.cell(y)
        loss: Tensor = y.square().mean() + h.mean() * c.mean() + last.mean() + memory.square().mean()
        return loss


def loss_and_gradients(model: Callable[..., Any], x: Tensor, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    loss = model(x)
    return [loss, *torch.autograd.grad(loss, parameters)]


@pytest.fixture
def fresh_compiler() -> None:
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_in_training(dynamic: bool | None, fresh_compiler: None) -> None:
    model, loop = Model("native"), Model("loop")
    loop.load_state_dict(model.state_dict())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in [(4, 3, D), (6, 2, D)]:
        x = torch.randn(shape)
        found = loss_and_gradients(compiled, x, list(model.parameters()))
        all_close(found, loss_and_gradients(model, x, list(model.parameters())), "gradients")
        all_close(found, loss_and_gradients(loop, x, list(loop.parameters())), "gradients")


@pytest.mark.slow
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_compiled_in_inference(mode: Callable[[], Any], fresh_compiler: None) -> None:
    model = Model("native")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for shape in [(4, 3, D), (6, 2, D)]:
        x = torch.randn(shape)
        with mode():
            found = compiled(x)
        close(found, model(x).detach(), "outputs")


def test_compiled_gradient_of_x_alone(fresh_compiler: None) -> None:
    layer = native(elman.LSTM)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, _ = problem(layer, T, B, D)
    d = torch.randn(T, B, H)
    (found,) = torch.autograd.grad(compiled(x)[0], [x], d)
    (expected,) = torch.autograd.grad(on_loop(layer)(x)[0], [x], d)
    close(found, expected, "gradients")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("build", "size"), [(elman.LSTM, 6), (elman.GRU, 7), (elman.RNN, 8)])
def test_first_planned_without_gradients(build: Build, size: int, mode: Callable[[], Any]) -> None:
    """No other test has cells of these sizes, so that nothing of them is planned yet."""
    H = size + 10 * (mode is torch.no_grad)
    layer = build(D, H, executor="native")
    with mode():
        x = torch.randn(T, B, D)
        found = call(layer, x)
        all_close(found, call(on_loop(layer), x), "outputs")
        assert not any(result.requires_grad for result in found)
    agrees(layer, *problem(layer, T, B, D))


@every_layer
def test_autocast(build: Build) -> None:
    linear, layer = nn.Linear(3, D), native(build)
    loop, inputs = on_loop(layer), torch.randn(T, B, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = linear(inputs)
        results = call(layer, hidden)
        dtypes = [result.dtype for result in call(loop, hidden)]
    assert hidden.dtype == torch.bfloat16
    single = hidden.detach().float().requires_grad_()
    # Returned in the dtypes of the loop executor, or of torch's LSTM.
    expected = call(loop, single)
    assert [result.dtype for result in results] == dtypes
    all_close([result.bfloat16() for result in results], [value.bfloat16() for value in expected], "outputs")
    d = [value.to(torch.bfloat16).float() for value in cotangents(expected)]
    given = [value.to(result.dtype) for value, result in zip(d, results, strict=True)]
    found = torch.autograd.grad(results, [*layer.parameters(), hidden, linear.weight], given)
    *of_layer, of_hidden = torch.autograd.grad(expected, [*loop.parameters(), single], d)
    assert {gradient.dtype for gradient in found[:-2]} == {torch.float32}
    expected_gradients = [value.bfloat16() for value in (*of_layer, of_hidden)]
    all_close([value.bfloat16() for value in found[:-1]], expected_gradients, "gradients")
    assert found[-1].abs().max() > 0


@pytest.mark.slow
def test_nothing_large_is_imported() -> None:
    """Whoever has this layer in the cache waits for it no longer than for a call: sympy takes ten times as long."""
    script = (
        "import sys, torch, elman\n"
        f"elman.RNN({D}, {H}, executor='native')(torch.ones({T}, {B}, {D}))[0].sum().backward()\n"
        "print([name for name in ('sympy', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


class _Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_whoever_watches_sees_the_operations() -> None:
    # Without a watcher torch's dispatcher is left out.
    layer = native(elman.GRU)
    x = torch.randn(T, B, D)
    seen = _Seen()
    with seen:
        layer(x)[0].sum().backward()
    assert {"elman.forward.default", "elman.backward.default"} <= set(seen.names)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        layer(x)[0].sum().backward()
    assert {"elman::forward", "elman::backward"} <= {event.key for event in profile.key_averages()}


@pytest.mark.sample(1)
@every_layer
def test_export_writes_down_plain_torch(build: Build) -> None:
    """What is exported must run where there is no plan of ours."""
    layer, x = build(D, H), torch.randn(T, B, D)
    exported = torch.export.export(layer, (x,))
    assert "elman" not in str(exported.graph)
    close(exported.module()(x)[0], call(layer, x)[0], "outputs")


def test_planned_while_somebody_traces() -> None:
    layer = native(elman.RNN, nonlinearity="relu")
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert layer(torch.randn(T, B, D))[0].shape == (T, B, H)
    agrees(layer, *problem(layer, T, B, D))
