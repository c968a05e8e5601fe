"""Cells that read tensors from elsewhere: their gradients are those of the mode, or it is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import RTRL, Checkpointed, Full, Mode, Truncated
from tests.tolerances import all_close

T, B, D, H, S = 7, 2, 3, 4, 6


class Attention(nn.Module):
    """Reads the keys and values of a memory, which it does not own; one is computed from the other."""

    state_size = H

    def __init__(self) -> None:
        super().__init__()
        self.query, self.read = nn.Linear(H, H), nn.Linear(D, H)
        self.keys = self.values = torch.zeros(S, H)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        weights = torch.softmax(self.query(h) @ self.keys.T, -1)
        return torch.tanh(self.read(x) + torch.cat([weights @ self.values, h], -1)[:, :H] + BIAS[0])


BIAS = [torch.zeros(H)]


class Problem:
    """An attention over the output of an encoder, plus a leaf; a bias that stands in a global."""

    def __init__(self, learn: bool = True) -> None:
        torch.manual_seed(0)
        self.cell, self.encoder, self.keys = (
            Attention().double(),
            nn.Linear(5, H).double(),
            nn.Linear(H, H, bias=False).double(),
        )
        self.cell.requires_grad_(learn)
        self.x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=learn)
        self.h = torch.randn(B, H, dtype=torch.float64, requires_grad=learn)
        self.leaf = torch.randn(S, H, dtype=torch.float64, requires_grad=True)
        BIAS[0] = torch.randn(H, dtype=torch.float64, requires_grad=True)
        self.encode()
        named = self.x, self.h, *self.cell.parameters()
        self.inputs = [*named] if learn else []
        self.inputs += [self.leaf, BIAS[0], *self.encoder.parameters(), *self.keys.parameters()]

    def encode(self, source: int = 1) -> None:
        torch.manual_seed(source)
        memory = self.encoder(torch.randn(S, 5, dtype=torch.float64))
        self.cell.values, self.cell.keys = memory + self.leaf, self.keys(memory)

    def gradients(self, mode: Mode, **options: Any) -> tuple[Tensor, ...]:
        outputs, final = elman.Recurrent(self.cell, bptt=mode, executor="auto")(self.x, self.h, **options)
        loss = outputs.square().sum() + final.sum()
        return torch.autograd.grad(loss, self.inputs)

    def expected(self, k1: int = T, k2: int = T) -> tuple[Tensor, ...]:
        """The gradient of Truncated(k1, k2), by its definition; that of Full where nothing else is asked."""
        states, loss = [self.h], torch.zeros(())
        with torch.no_grad():
            for x in self.x:
                states.append(self.cell(x, states[-1]))
        for last in range(0, T, k1):
            end = min(last + k1, T)
            begin = max(0, end - k2)
            h = states[begin]
            for t in range(begin, end):
                h = self.cell(self.x[t], h)
                loss = loss + (h.square().sum() if t >= last else 0)
        return torch.autograd.grad(loss + h.sum(), self.inputs)


pytestmark = pytest.mark.filterwarnings("ignore:.*cannot run on the native executor")
learning = pytest.mark.parametrize("learn", [True, False], ids=["all learn", "what is read learns"])


@learning
@pytest.mark.parametrize("mode", [Checkpointed(), Checkpointed(2), Checkpointed(memory="2KB")], ids=str)
def test_checkpointed_is_full(learn: bool, mode: Mode) -> None:
    problem = Problem(learn)
    expected = problem.expected()
    problem.encode()
    all_close(problem.gradients(Full()), expected, "gradients")
    problem.encode()
    all_close(problem.gradients(mode), expected, "gradients")


def test_checkpointed_is_full_for_ragged_sequences() -> None:
    found = []
    for mode in (Full(), Checkpointed(3)):
        problem = Problem()
        found.append(problem.gradients(mode, lengths=[4, T]))
    all_close(found[1], found[0], "gradients")


@learning
@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (2, 5)])
def test_truncated_is_its_definition(learn: bool, k1: int, k2: int) -> None:
    problem = Problem(learn)
    expected = problem.expected(k1, k2)
    problem.encode()
    all_close(problem.gradients(Truncated(k1, k2)), expected, "gradients")


def test_gradients_go_to_grad_once() -> None:
    problem = Problem()
    expected = problem.expected()
    problem.encode()
    outputs, final = elman.Recurrent(problem.cell, bptt=Checkpointed(3))(problem.x, problem.h)
    (outputs.square().sum() + final.sum()).backward()
    found = [tensor.grad for tensor in problem.inputs if tensor.grad is not None]
    all_close(found, expected, "gradients")


def test_gradients_of_gradients() -> None:
    found = []
    for mode in (Full(), Checkpointed(3)):
        problem = Problem()
        outputs, _ = elman.Recurrent(problem.cell, bptt=mode)(problem.x, problem.h)
        first = torch.autograd.grad(outputs.square().sum(), problem.inputs, create_graph=True)
        penalty = sum(g.square().sum() for g in first)
        assert isinstance(penalty, Tensor)
        found.append([*first, *torch.autograd.grad(penalty, problem.inputs)])
    all_close(found[1], found[0], "gradients")


@pytest.mark.parametrize("change", ["encoded again", "encoded again, and kept constant", "written to"])
@pytest.mark.parametrize("mode", [Checkpointed(3), Truncated(3)], ids=str)
def test_another_memory_between_forward_and_backward_is_refused(mode: Mode, change: str) -> None:
    problem = Problem()
    outputs, _ = elman.Recurrent(problem.cell, bptt=mode)(problem.x, problem.h)
    with torch.no_grad() if change != "encoded again" else torch.enable_grad():
        problem.encode(2) if change != "written to" else problem.cell.keys.add_(1)
    with pytest.raises(RuntimeError, match=r"one of the variables needed|expected the cell as it was"):
        outputs.sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_the_first_step_does_not_read_is_refused(create_graph: bool) -> None:
    memory = torch.ones(D, requires_grad=True)

    def step(x: Tensor, h: Tensor) -> Tensor:
        return h + x * memory if h.abs().max() > 0 else h + x

    outputs, _ = elman.Recurrent(step, D, bptt=Checkpointed(2))(torch.ones(4, 1, D, requires_grad=True))
    with pytest.raises(RuntimeError, match="step: bptt: expected Full, since a step of step reads a tensor"):
        outputs.square().sum().backward(create_graph=create_graph)


@learning
def test_rtrl_refuses(learn: bool) -> None:
    problem = Problem(learn)
    with pytest.raises(
        ValueError, match=r"RTRL: Attention: expected only parameters to require gradients, got .* shape"
    ):
        elman.Recurrent(problem.cell, bptt=RTRL())(problem.x.detach(), problem.h)
    problem.cell.requires_grad_(True)
    for tensor in (problem.leaf, BIAS[0], *problem.encoder.parameters(), *problem.keys.parameters()):
        tensor.requires_grad_(False)
    problem.encode()
    elman.Recurrent(problem.cell, bptt=RTRL())(problem.x.detach(), problem.h)[0].sum().backward()
    assert problem.cell.query.weight.grad is not None
