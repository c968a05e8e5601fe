"""What the gradients of every mode are asked for: parts, twice, of views, of ragged batches."""

import pytest
import torch
from torch import Tensor

import elman
from elman.bptt import Checkpointed, Mode, Truncated
from tests.bptt.modes import B, D, H, T, every_mode
from tests.cases import call, cotangents, every_executor
from tests.tolerances import all_close


@every_executor
@every_mode
def test_only_what_is_asked_for(executor: str, mode: Mode) -> None:
    layer = elman.LSTM(D, H, executor=executor, bptt=mode).double()
    x, h, c = (torch.randn(*shape, dtype=torch.float64) for shape in ((T, B, D), (1, B, H), (1, B, H)))
    every = [x, h, c, *layer.parameters()]
    whole = [t.requires_grad_() for t in every]
    results = call(layer, x, (h, c))
    expected = torch.autograd.grad(results, whole, cotangents(results))
    for wanted in [{0}, {1}, {2}, {5}, {0, 1}, {3, 4, 5, 6}, set(range(7))]:
        for k, tensor in enumerate(every):
            tensor.requires_grad_(k in wanted)
            tensor.grad = None
        results = call(layer, x, (h, c))
        torch.autograd.backward(results, cotangents(results))
        assert {k for k, tensor in enumerate(every) if tensor.grad is not None} == wanted
        found = [tensor.grad for tensor in every if tensor.grad is not None]
        all_close(found, [expected[k] for k in sorted(wanted)], "gradients")
    for tensor in every:
        tensor.requires_grad_(False)
    assert not any(result.requires_grad for result in call(layer, x))


@every_executor
@every_mode
def test_one_result_alone(executor: str, mode: Mode) -> None:
    """A loss on one result is that on all of them, with zeros for the others."""
    layer = elman.LSTM(D, H, executor=executor, bptt=mode).double()
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    for k in range(3):
        results = call(layer, x)
        d = [d if k == i else torch.zeros_like(d) for i, d in enumerate(cotangents(results))]
        expected = torch.autograd.grad(results, [x, *layer.parameters()], d, retain_graph=True)
        found = torch.autograd.grad(results[k], [x, *layer.parameters()], d[k], allow_unused=True)
        all_close([torch.zeros_like(e) if f is None else f for f, e in zip(found, expected, strict=True)], expected,
                  "gradients")  # fmt: skip


@every_executor
@every_mode
def test_a_second_backward(executor: str, mode: Mode) -> None:
    layer = elman.GRU(D, H, executor=executor, bptt=mode)
    x = torch.randn(T, B, D, requires_grad=True)
    inputs, results = [x, *layer.parameters()], call(layer, x)
    first = torch.autograd.grad(results, inputs, cotangents(results), retain_graph=True)
    second = torch.autograd.grad(results, inputs, cotangents(results))
    assert all(map(torch.equal, first, second))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(results, inputs, cotangents(results))


@every_mode
@pytest.mark.parametrize("which", ["x", "weight"])
def test_what_backward_needs_must_not_change(mode: Mode, which: str) -> None:
    layer = elman.GRU(D, H, bptt=mode)
    x = torch.randn(T, B, D, requires_grad=True)
    outputs, _ = layer(x)
    with torch.no_grad():
        (x if which == "x" else next(layer.parameters())).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def twice(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h = state[0] + x
    return h, h


@every_executor
@every_mode
def test_results_have_memory_of_their_own(executor: str, mode: Mode) -> None:
    layer = elman.Recurrent(twice, (D, D), executor=executor, bptt=mode)
    x, states = torch.randn(T, B, D, requires_grad=True), [torch.randn(B, D, requires_grad=True) for _ in range(2)]
    results = call(layer, x, states)
    pointers = [tensor.untyped_storage().data_ptr() for tensor in (x, *states, *results)]
    assert len(set(pointers)) == len(pointers)


@every_executor
@every_mode
def test_the_gradient_of_a_gradient_of_a_sequence_in_two(executor: str, mode: Mode) -> None:
    """The second call's state is made of the same parameters, and what it is made of is not the second call's."""
    layer = elman.GRU(D, H, executor=executor, bptt=mode).double()
    x, inputs = torch.randn(T, B, D, dtype=torch.float64), list(layer.parameters())
    outputs, h = layer(x[:5])
    results = [outputs, *call(layer, x[5:], [h])]
    once = torch.autograd.grad(results, inputs, cotangents(results), retain_graph=True)
    all_close(torch.autograd.grad(results, inputs, cotangents(results), create_graph=True), once, "gradients")


@pytest.mark.sample(4)
@every_executor
@every_mode
def test_layouts_and_trajectories(executor: str, mode: Mode) -> None:
    layer = elman.GRU(D, H, num_layers=2, batch_first=True, executor=executor, bptt=mode).double()
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(layer(x)[0].square().sum(), x)
    one_by_one = torch.autograd.grad(torch.stack([layer(row)[0].square().sum() for row in x]).sum(), x)
    all_close(one_by_one, found, "gradients")
    if isinstance(mode, Truncated):
        with pytest.raises(ValueError, match=r"GRU: trajectory: bptt: expected Full or Checkpointed, got Truncated\("):
            layer.trajectory(x)
        layer = elman.GRU(D, H, batch_first=True, executor=executor, bptt=mode).double()
        found = torch.autograd.grad(layer(x)[0].square().sum(), x)
    seen = torch.autograd.grad(layer.trajectory(x).outputs.square().sum(), x)
    all_close(seen, found, "gradients")


@every_executor
@every_mode
def test_ragged_batches_are_their_rows_one_by_one(executor: str, mode: Mode) -> None:
    """Each row has windows of its own, in both directions."""
    layer = elman.GRU(D, H, bidirectional=True, executor=executor, bptt=mode).double()
    lengths, inputs = [11, 4, 1, 8], [*layer.parameters()]
    x = torch.randn(T, 4, D, dtype=torch.float64, requires_grad=True)
    outputs, h = layer(x, lengths=lengths)
    found = torch.autograd.grad(outputs.square().sum() + h.sum(), [x, *inputs])
    rows = [layer(x[:length, row]) for row, length in enumerate(lengths)]
    loss = torch.stack([outputs.square().sum() + h.sum() for outputs, h in rows]).sum()
    all_close(found, torch.autograd.grad(loss, [x, *inputs]), "gradients")


@every_executor
def test_torch_func(executor: str) -> None:
    layer, x = elman.GRU(D, H, executor=executor).double(), torch.randn(T, B, D, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        outputs: Tensor = layer(x)[0]
        return outputs.square().sum()

    expected = torch.func.grad(loss)(x)
    layer.bptt = Checkpointed(3)
    all_close([torch.func.grad(loss)(x).detach()], [expected.detach()], "gradients")
    layer.bptt = Truncated(3)
    with pytest.raises(RuntimeError, match=r"Truncated: expected gradients by torch.autograd, got a transform"):
        torch.func.grad(loss)(x)
