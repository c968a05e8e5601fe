"""Steps that run again: how many, with the same random numbers, in the same precision, in what memory."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import Inputs
from tests.bptt.modes import MODES, B, D, H, T
from tests.cases import cotangents, every_executor
from tests.tolerances import all_close

PACKED = torch.tensor([4, 4, 3, 3, 3, 2, 2, 1, 1, 1, 1])


class DrawingCell(nn.Module):
    """A cell that drops units of its state; the noise is its own, or stands in the last columns of x."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.own, self.state_size, self.input_size = own, H, D if own else D + H
        self.read, self.recur = nn.Linear(D, H), nn.Linear(H, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        noise = torch.rand_like(h) if self.own else x[:, D:]
        return torch.tanh(self.read(x[:, :D]) + self.recur(h)) * (noise < 0.7)


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("mode", [*MODES, Checkpointed(memory="3KB")], ids=str)
@pytest.mark.parametrize("sizes", [None, PACKED], ids=["padded", "packed"])
def test_steps_that_run_again_draw_the_same(executor: str, mode: Mode, sizes: Tensor | None) -> None:
    torch.manual_seed(0)
    random, given = DrawingCell(own=True).double(), DrawingCell(own=False).double()
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
        results: Any = mode.run(Inputs(cell, named, values, h, sizes), executor)
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
def test_a_second_run_in_the_precision_of_the_first(executor: str) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(T, B, D)
    found = []
    for layer.bptt in (Full(), Checkpointed(3)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = layer(x)[0]
        found.append(torch.autograd.grad(outputs.float().square().sum(), list(layer.parameters())))
    # In half precision nothing is near; in another one it would be further.
    error = max((a - b).abs().max() / b.abs().max() for a, b in zip(*found, strict=True))
    assert error <= torch.finfo(torch.bfloat16).eps


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


@pytest.mark.sample(3)
@every_executor
@pytest.mark.parametrize(("memory", "size"), [("4KB", 4000), ("5.5 kib", 5632), (10_000, 10_000)])
def test_the_memory_asked_for_is_enough(executor: str, memory: int | str, size: int) -> None:
    # oneDNN, which runs the LSTM of the torch executor, saves several pages of memory for the shortest call.
    layer, x = (elman.GRU if executor == "torch" else elman.LSTM)(D, H, executor=executor), torch.randn(50, B, D)

    def run() -> None:
        layer(x)[0].sum().backward()

    found = []
    for layer.bptt in (Full(), Checkpointed(memory=memory)):
        run()
        found.append(most_kept(run, [x, *layer.parameters()]))
    assert found[0] > 10_000
    assert size / 3 < found[1] <= size
