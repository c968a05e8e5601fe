"""What autograd promises holds for the native executor, and derivatives that only the loop has go there."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import elman
from elman.engine import EXECUTORS
from elman.layers import _prepared_calls
from tests.cases import as_function, call, cotangents
from tests.native.pairs import LAYERS, B, Build, D, H, Layer, T, forward_and_backward, native, on_loop, problem
from tests.tolerances import all_close, close

pytestmark = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")
every_layer = pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)


@every_layer
def test_one_cotangent_alone(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    inputs = [x, *states, *layer.parameters()]
    twin = on_loop(layer)
    theirs = [x, *states, *twin.parameters()]
    for k in range(len(call(layer, x, states))):
        result, expected = call(layer, x, states)[k], call(twin, x, states)[k]
        d = cotangents([result])
        all_close(torch.autograd.grad(result, inputs, d), torch.autograd.grad(expected, theirs, d), "gradients")


@every_layer
def test_hooks(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    expected = forward_and_backward(layer, x, states)[1]
    seen: dict[str, Any] = {}

    def keeping(name: str) -> Callable[..., None]:
        return lambda *given: seen.update({name: given})

    handles = [x.register_hook(keeping("x")), layer.register_full_backward_hook(keeping("layer"))]
    weight = next(layer.parameters())
    handles += [weight.register_hook(keeping("weight")), weight.register_post_accumulate_grad_hook(keeping("after"))]
    results = call(layer, x, states)
    results[0].register_hook(keeping("outputs"))
    d = cotangents(results)
    torch.autograd.backward(results, d)
    assert set(seen) == {"x", "layer", "weight", "after", "outputs"}
    close(seen["x"][0], expected[0], "gradients")
    close(seen["weight"][0], expected[1 + len(states)], "gradients")
    close(seen["layer"][1][0], expected[0], "gradients")
    assert torch.equal(seen["outputs"][0], d[0])
    assert seen["after"][0] is weight
    for handle in handles:
        handle.remove()


@every_layer
def test_a_second_backward(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    inputs, results = [x, *states, *layer.parameters()], call(layer, x, states)
    d = cotangents(results)
    first = torch.autograd.grad(results, inputs, d, retain_graph=True)
    copies = [gradient.clone() for gradient in first]
    call(layer, torch.randn(T, B, D, requires_grad=True))[0].sum().backward()
    second = torch.autograd.grad(results, inputs, d)
    assert all(torch.equal(a, b) for a, b in zip(second, copies, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(results, inputs, d)


@every_layer
@pytest.mark.parametrize("which", ["x", "state", "parameter", "outputs"])
def test_what_backward_needs_must_not_change(build: Build, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if which == "outputs":  # of which prepared calls keep copies: they may be written to
        monkeypatch.setattr(_prepared_calls, "MAX_PREPARED_ROWS", 0)
    layer = native(build)
    x, states = problem(layer, T, B, D)
    # Leaves that ask for gradients cannot be changed in place but in no_grad.
    results = call(layer, x, states)
    changed = {"x": x, "state": states[0], "parameter": next(layer.parameters()), "outputs": results[0]}[which]
    with torch.no_grad():
        changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(results, [x], cotangents(results))


@every_layer
def test_the_final_state_is_memory_of_its_own(build: Build) -> None:
    """Carried into the next call and changed there, it must not reach back into the outputs."""
    layer = native(build)
    x, states = problem(layer, T, B, D)
    outputs, *finals = call(layer, x, states)
    before = outputs.clone()
    with torch.no_grad():
        for final in finals:
            final.zero_()
    assert torch.equal(outputs, before)
    pointers = [tensor.data_ptr() for tensor in (x, *states, outputs, *finals)]
    assert len(set(pointers)) == len(pointers)


@every_layer
def test_gradients_share_no_memory(build: Build) -> None:
    layer = native(build)
    call(layer, torch.randn(T, B, D))[0].sum().backward()
    pointers = [p.grad.untyped_storage().data_ptr() for p in layer.parameters() if p.grad is not None]
    assert len(set(pointers)) == 4


@every_layer
def test_only_what_is_asked_for(build: Build) -> None:
    layer = native(build)
    x, states = problem(layer, T, B, D)
    expected = forward_and_backward(on_loop(layer), x, states)
    count = len(expected[1])
    for wanted in [{0}, {1}, {count - 1}, {count - 4}, set(range(1 + len(states), count)), {0, 1}, {1, count - 2}]:
        every = [x, *states, *layer.parameters()]
        for k, tensor in enumerate(every):
            tensor.requires_grad_(k in wanted)
            tensor.grad = None
        results = call(layer, x, states)
        torch.autograd.backward(results, cotangents(results))
        assert {k for k, tensor in enumerate(every) if tensor.grad is not None} == wanted
        all_close(results, expected[0], "outputs")
        found = [tensor.grad for tensor in every if tensor.grad is not None]
        all_close(found, [expected[1][k] for k in sorted(wanted)], "gradients")


@every_layer
def test_nothing_asked_for(build: Build) -> None:
    layer = native(build).requires_grad_(False)
    assert not any(result.requires_grad for result in call(layer, torch.randn(T, B, D)))


@every_layer
def test_double_backward(build: Build) -> None:
    layer = native(build, torch.float64)
    x, states = problem(layer, T, B, D)

    def twice(layer: Layer) -> Sequence[Tensor]:
        results, inputs = call(layer, x, states), [x, *states, *layer.parameters()]
        first = torch.autograd.grad(results, inputs, cotangents(results), create_graph=True)
        penalty = torch.stack([gradient.square().sum() for gradient in first]).sum()
        return [*first, *torch.autograd.grad(penalty, inputs)]

    all_close(twice(layer), twice(on_loop(layer)), "gradients")


@every_layer
def test_double_backward_of_a_sequence_in_two(build: Build) -> None:
    """The second call's state is made of the same parameters: what goes back through it is the first call's alone."""
    layer = native(build, torch.float64)
    x, states = problem(layer, T, B, D)

    def twice(layer: Layer) -> Sequence[Tensor]:
        inputs = [x, *states, *layer.parameters()]
        first, *carried = call(layer, x[:2], states)
        results = [first, *call(layer, x[2:], carried)]
        found = torch.autograd.grad(results, inputs, cotangents(results), create_graph=True)
        penalty = torch.stack([gradient.square().sum() for gradient in found]).sum()
        return [*found, *torch.autograd.grad(penalty, inputs)]

    all_close(twice(layer), twice(on_loop(layer)), "gradients")


def functions(build: Build) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Tensor, ...]]:
    """A layer as a function of tensors alone, native and on the loop, and tensors to give it."""
    layer = native(build, torch.float64)
    x, states = problem(layer, T, B, D)
    inputs = tuple(tensor.detach() for tensor in (x, *states, *layer.parameters()))
    return as_function(layer, len(states)), as_function(on_loop(layer), len(states)), inputs


@every_layer
def test_vmap(build: Build) -> None:
    f, loop, inputs = functions(build)
    many = [torch.stack([tensor, tensor / 2, -tensor]) for tensor in inputs]
    all_close(torch.func.vmap(f)(*many), torch.func.vmap(loop)(*many), "outputs")
    over_x = (0, *(None for _ in inputs[1:]))
    all_close(
        torch.func.vmap(f, in_dims=over_x)(many[0], *inputs[1:]),
        torch.func.vmap(loop, in_dims=over_x)(many[0], *inputs[1:]),
        "outputs",
    )


@every_layer
def test_jvp(build: Build) -> None:
    f, loop, inputs = functions(build)
    tangents = tuple(torch.randn_like(tensor) for tensor in inputs)
    found, expected = torch.func.jvp(f, inputs, tangents), torch.func.jvp(loop, inputs, tangents)
    all_close(found[0], expected[0], "outputs")
    all_close(found[1], expected[1], "gradients")


@every_layer
def test_forward_mode(build: Build) -> None:
    layer = native(build, torch.float64)
    x, _ = problem(layer, T, B, D)
    tangent = torch.randn_like(x)

    def both(layer: Layer) -> Any:
        with forward_ad.dual_level():
            outputs = call(layer, forward_ad.make_dual(x, tangent))[0]
            return forward_ad.unpack_dual(outputs)

    found, expected = both(layer), both(on_loop(layer))
    close(found.primal, expected.primal, "outputs")
    close(found.tangent, expected.tangent, "gradients")


@every_layer
def test_grad_of_functions(build: Build) -> None:
    f, loop, inputs = functions(build)
    every = tuple(range(len(inputs)))

    def loss(f: Callable[..., Any]) -> Callable[..., Tensor]:
        return lambda *given: torch.stack([result.square().sum() for result in f(*given)]).sum()

    all_close(
        torch.func.grad(loss(f), argnums=every)(*inputs),
        torch.func.grad(loss(loop), argnums=every)(*inputs),
        "gradients",
    )


def test_a_gradient_of_a_gradient_is_that_of_the_cell_as_it_was() -> None:
    """A deep copy in evaluation, a mean teacher say, has the same plan; and so has the layer itself a moment later."""
    layer = elman.GRU(D, H, zoneout=0.5, executor="native").double()
    x = torch.randn(T, B, D, dtype=torch.float64)
    teachers = [copy.deepcopy(layer) for _ in range(8)]
    for teacher in teachers:
        teacher(x)[0].sum().backward()
        teacher.eval()
    outputs, _ = layer(x)
    plain = torch.autograd.grad(outputs.sin().sum(), [*layer.parameters()], retain_graph=True)
    layer.eval()
    again = torch.autograd.grad(outputs.sin().sum(), [*layer.parameters()], create_graph=True)
    all_close(again, plain, "gradients")
    assert not layer.training
