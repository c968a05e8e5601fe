"""Gradient modes: what they keep, draw and refuse. That their gradients are right is the contract's."""

import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import RTRL, Checkpointed, Full, Mode, Truncated
from tests.cases import call, cotangents, every_executor
from tests.tolerances import all_close

T, B, D, H = 11, 2, 3, 5
MODES: list[Mode] = [Checkpointed(3), Truncated(3), Truncated(2, 5)]
every_mode = pytest.mark.parametrize("mode", MODES, ids=str)
PACKED = torch.tensor([4, 4, 3, 3, 3, 2, 2, 1, 1, 1, 1])


class Drawing(nn.Module):
    """A cell that drops units of its state; the noise is its own, or stands in the last columns of x."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.own, self.state_size, self.input_size = own, H, D if own else D + H
        self.read, self.recur = nn.Linear(D, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        noise = torch.rand_like(h) if self.own else x[:, D:]
        return torch.tanh(self.read(x[:, :D]) + self.recur(h)) * (noise < 0.7)


@every_executor
@pytest.mark.parametrize("mode", [*MODES, Checkpointed(memory="3KB")], ids=str)
@pytest.mark.parametrize("sizes", [None, PACKED], ids=["padded", "packed"])
def test_steps_that_run_again_draw_the_same(executor: str, mode: Mode, sizes: Tensor | None) -> None:
    torch.manual_seed(0)
    random, given = Drawing(own=True).double(), Drawing(own=False).double()
    given.load_state_dict(random.state_dict())
    rows = [B] * T if sizes is None else sizes.tolist()
    x, h = torch.randn(sum(rows), D, dtype=torch.float64), torch.randn(max(rows), H, dtype=torch.float64)
    torch.manual_seed(1)
    noise = torch.cat([torch.rand(count, H, dtype=torch.float64) for count in rows])
    behind, found = torch.get_rng_state(), []
    for cell, values in ((random, x), (given, torch.cat((x, noise), 1))):
        torch.manual_seed(1)
        values = (values.unflatten(0, (T, B)) if sizes is None else values).requires_grad_()
        named = dict(cell.named_parameters())
        results: Any = mode.run(cell, named, values, h, executor, sizes)
        assert cell is given or torch.equal(torch.get_rng_state(), behind)
        torch.manual_seed(2)
        before = torch.get_rng_state()
        dx, *others = torch.autograd.grad(results, [values, *cell.parameters()], cotangents(results))
        assert torch.equal(torch.get_rng_state(), before)
        found.append([*results, dx[..., :D], *others])
    all_close(found[0], found[1], "gradients")


@pytest.mark.parametrize(
    ("mode", "again"), [(Full(), 0), (Checkpointed(3), 11), (Truncated(3), 3 * 3 + 3), (Truncated(2, 5), 4 + 4 * 5)]
)
def test_how_many_steps_run(mode: Mode, again: int) -> None:
    steps = []

    def counting(x: Tensor, h: Tensor, a: Tensor) -> Tensor:
        steps.append(1)
        return a * h + x

    layer = elman.Recurrent(counting, D, executor="loop", bptt=mode, parameters={"a": torch.ones(D)})
    layer(torch.randn(T, B, D))  # whether its steps can run again is tried once
    steps.clear()
    with torch.no_grad():
        layer(torch.randn(T, B, D))
    assert len(steps) == T
    layer(torch.randn(T, B, D))[0].sum().backward()
    assert len(steps) == T + T + again


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
def test_a_second_run_in_the_precision_of_the_first(executor: str) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(T, B, D)
    found = []
    for layer.bptt in (Full(), Checkpointed(3)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = layer(x)[0]
        found.append(torch.autograd.grad(outputs.float().square().sum(), list(layer.parameters())))
    # In half precision nothing is near; in another one it would be further.
    error = max((a - b).abs().max() / b.abs().max() for a, b in zip(*found, strict=True))
    assert error <= (torch.finfo(torch.bfloat16).eps if executor == "loop" else 1e-6)


class Piece:
    """What autograd keeps, as long as it does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def most_kept(run: Callable[[], object], beside: list[Tensor]) -> int:
    """Bytes that autograd keeps at once at most, without these tensors."""
    living, most = weakref.WeakSet[Piece](), [0]
    known = {tensor.untyped_storage().data_ptr() for tensor in beside}

    def keep(tensor: Tensor) -> Piece:
        piece = Piece(tensor)
        living.add(piece)
        memory = {p.tensor.untyped_storage().data_ptr(): p.tensor.untyped_storage().nbytes() for p in living}
        most[0] = max(most[0], sum(size for pointer, size in memory.items() if pointer not in known))
        return piece

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda piece: piece.tensor):
        run()
    return most[0]


@every_executor
@pytest.mark.parametrize(("memory", "size"), [("4KB", 4000), ("5.5 kib", 5632), (10_000, 10_000)])
def test_the_memory_asked_for_is_enough(executor: str, memory: int | str, size: int) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(50, B, D)

    def run() -> None:
        layer(x)[0].sum().backward()

    found = []
    for layer.bptt in (Full(), Checkpointed(memory=memory)):
        run()
        found.append(most_kept(run, [x, *layer.parameters()]))
    assert found[0] > 10_000
    assert size / 3 < found[1] <= size


class Changing(nn.Module):
    """A cell that does something beside returning its state."""

    state_size = D
    count: Tensor

    def __init__(self, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.change, self.steps, self.seen = change, 0, list[int]()
        self.rate, self.norm = nn.Parameter(torch.ones(D)), nn.BatchNorm1d(D)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        factor = self.change(self)
        h = self.rate * h + x
        return h * factor if isinstance(factor, float) else factor(h) if callable(factor) else h


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "attribute": (lambda cell: setattr(cell, "steps", cell.steps + 1), "an attribute, 'steps', which the step changes"),
    "list": (lambda cell: cell.seen.append(1), "an attribute, 'seen', which the step changes"),
    "numpy": (lambda cell: float(np.random.rand()), "random numbers that are not torch's"),
    "buffer": (lambda cell: setattr(cell, "count", cell.count + 1), "a buffer, 'count', which the step changes"),
    "buffer in place": (lambda cell: cell.count.add_(1), "a buffer, 'count', which the step changes"),
    "batch norm": (lambda cell: cell.norm, "a buffer, 'norm.[a-z_]+', which the step changes"),
}


@every_mode
@pytest.mark.parametrize("name", CHANGES)
def test_a_cell_whose_steps_cannot_run_again(name: str, mode: Mode) -> None:
    change, reason = CHANGES[name]
    cell = Changing(change)
    layer, x = elman.Recurrent(cell, executor="loop", bptt=mode), torch.randn(T, B, D)
    before = [value.clone() for value in cell.buffers()]
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf"Changing: bptt: expected Full, for .* cannot run again: {reason}"):
            layer(x)
    assert cell.steps == len(cell.seen) == 0
    assert all(map(torch.equal, cell.buffers(), before))
    with torch.no_grad():
        layer(x)
    layer.bptt = Full()
    layer(x)
    layer.bptt = mode
    if name == "batch norm":
        layer.eval()
        layer(x)


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
    with pytest.raises(RuntimeError, match=r"Truncated: expected gradients of torch.autograd, got a transform"):
        torch.func.grad(loss)(x)


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "k1": (lambda: Truncated(0), "Truncated: k1: expected a whole number of at least 1, got 0"),
    "k1 is no number": (lambda: Truncated("5"), "Truncated: k1: expected .* at least 1, got '5'"),  # type: ignore[arg-type]
    "k1 is a fraction": (lambda: Truncated(2.5), "Truncated: k1: .* got 2.5"),  # type: ignore[arg-type]
    "k1 is a bool": (lambda: Truncated(True), "Truncated: k1: .* got True"),
    "k1 is NumPy's fraction": (lambda: Truncated(np.float64(2)), "Truncated: k1: .* got np.float64"),  # type: ignore[arg-type]
    "k1 is NumPy's bool": (lambda: Truncated(np.bool_(True)), "Truncated: k1: .* got np.True_"),  # type: ignore[arg-type]
    "k1 is torch's bool": (lambda: Truncated(torch.tensor(True)), "Truncated: k1: .* got tensor"),  # type: ignore[arg-type]
    "k1 is several": (lambda: Truncated(np.array([2, 3])), "Truncated: k1: .* got array"),  # type: ignore[arg-type]
    "k1 is NumPy's": (lambda: Truncated(np.int64(0)), "Truncated: k1: .* at least 1, got 0"),  # type: ignore[arg-type]
    "k2": (lambda: Truncated(5, 3), "Truncated: k2: expected a whole number of at least k1=5, got 3"),
    "segments": (lambda: Checkpointed(0), "Checkpointed: segments: expected a whole number .* or 'sqrt', got 0"),
    "segments by bool": (lambda: Checkpointed(True), "Checkpointed: segments: .* got True"),
    "segments by name": (lambda: Checkpointed("root"), "Checkpointed: segments: .* got 'root'"),
    "memory": (lambda: Checkpointed(memory="much"), "Checkpointed: memory: expected an amount such as .* got 'much'"),
    "memory in no unit": (lambda: Checkpointed(memory="5 pages"), "Checkpointed: memory: .* got '5 pages'"),
    "no memory": (lambda: Checkpointed(memory=0), "Checkpointed: memory: .* got 0"),
    "both": (lambda: Checkpointed(4, "5MB"), "Checkpointed: memory: expected none beside segments=4, got '5MB'"),
    "too little": (
        lambda: elman.GRU(D, H, bptt=Checkpointed(memory="1KB"))(torch.randn(100, B, D)),
        r"Checkpointed: memory: expected at least [\d,]+ bytes for 100 steps, got '1KB'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_says(name: str) -> None:
    do, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        do()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("build", [elman.GRU, lambda *sizes: elman.Recurrent(nn.GRUCell(*sizes))])
def test_a_layer_says_what_its_bptt_must_be(build: Callable[..., Any]) -> None:
    layer = build(D, H)
    name = type(layer).__name__
    for layer.bptt in (20, Truncated, None):
        runs = (layer, layer.trajectory, lambda x, mode=layer.bptt: build(D, H)(x, bptt=mode))
        for run in runs[: 2 if layer.bptt is None else 3]:
            with pytest.raises(
                TypeError, match=rf"{name}: bptt: expected a mode of elman.bptt, Truncated\(20\) perhaps"
            ):
                run(torch.zeros(T, B, D))


@pytest.mark.parametrize(
    "number", [np.int64, np.uint8, np.array, torch.tensor], ids=["int64", "uint8", "array", "tensor"]
)
def test_whole_numbers_of_any_kind(number: Callable[[int], Any]) -> None:
    assert repr(Truncated(number(5), number(10))) == "Truncated(k1=5, k2=10)"
    assert repr(Checkpointed(number(4))) == "Checkpointed(segments=4, memory=None)"
    assert Truncated(number(5)) == Truncated(5)
    elman.GRU(D, H, bptt=Checkpointed(memory=number(200)))(torch.zeros(1, B, D))
    with pytest.raises(ValueError, match="Checkpointed: memory: expected none beside segments=4"):
        Checkpointed(number(4), "5MB")


def test_modes_are_values() -> None:
    assert Truncated(5, 10) == Truncated(5, 10) != Truncated(5)
    assert repr(Checkpointed(memory="5MB")) == "Checkpointed(segments='sqrt', memory='5MB')"


class Noisy(nn.Module):
    """h + a * noise."""

    def __init__(self, noise: Any) -> None:
        super().__init__()
        self.noise, self.on, self.state_size, self.a = noise, True, 3, nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h + self.a * (self.noise() if self.on else 1)


@pytest.mark.parametrize("mode", [Checkpointed(2), Truncated(2, 3), RTRL()], ids=str)
@pytest.mark.parametrize(
    "noise",
    [
        np.random.default_rng(0).random,
        random.Random(0).random,
        partial(torch.rand, 3, generator=torch.Generator()),
        np.random.rand,
    ],
    ids=["NumPy's generator", "Python's", "a generator of torch", "NumPy's own"],
)
def test_generators_that_are_not_torchs_are_refused(noise: Any, mode: Any) -> None:
    cell, x = Noisy(noise), torch.randn(8, 2, 3)
    layer = elman.Recurrent(cell, bptt=mode, executor="loop")
    for on in (True, False, True):
        cell.on = on
        if on:
            with pytest.raises(
                RuntimeError, match="Noisy: bptt: expected Full, for the steps of Noisy cannot run again"
            ):
                layer(x)
        else:
            layer(x)


@every_executor
@pytest.mark.parametrize("mode", [Checkpointed(3), Truncated(3, 8)], ids=str)
def test_evaluation_between_forward_and_backward(mode: Any, executor: str) -> None:
    found = []
    for bptt, evaluated in ((Full(), False), (mode, False), (mode, True)):
        torch.manual_seed(0)
        layer = elman.GRU(3, 4, zoneout=0.5, bptt=bptt, executor=executor).double()
        outputs, _ = layer(torch.randn(8, 2, 3, dtype=torch.float64))
        layer.train(not evaluated)
        found.append(torch.autograd.grad(outputs.square().sum(), list(layer.parameters())))
        assert layer.training is not evaluated
    all_close(found[1], found[0], "gradients")
    all_close(found[2], found[0], "gradients")


def test_an_attribute_changed_between_forward_and_backward_is_refused() -> None:
    cell = Noisy(lambda: 1.0)
    outputs, _ = elman.Recurrent(cell, bptt=Checkpointed(2))(torch.randn(8, 2, 3))
    cell.on = False
    with pytest.raises(RuntimeError, match="Noisy: bptt: expected the cell as it was in the forward pass"):
        outputs.sum().backward()
