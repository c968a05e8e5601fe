"""What the engine tells of a backward pass: the same on both executors, and the gradients of autograd's own graph."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.cells._cell import Cell
from elman.engine import EXECUTORS, Inputs, State, as_tuple, run
from elman.engine.observe.events import BackwardEvent, CallLabel, labeled, observing
from tests.tolerances import all_close, close

T, B, D, H = 6, 3, 4, 5
SIZES = torch.tensor([3, 3, 2, 2, 1, 1])
CELLS = [cells.RNN, cells.GRU, cells.LSTM, cells.SLSTM, cells.MinGRU]


def by_hand(cell: nn.Module, x: Tensor, state: State, weight: Tensor) -> list[Tensor]:
    """The gradient that arrives at each state after every step: each state handed on is a leaf of its own."""
    handed: list[tuple[Tensor, ...]] = []
    losses = []
    for x_t, w in zip(x, weight, strict=True):
        given = tuple(s.detach().requires_grad_() for s in as_tuple(state))
        handed.append(given)
        state = cell(x_t, given[0] if len(given) == 1 else given)
        losses.append((as_tuple(state)[0] * w).sum())
        last = as_tuple(state)
    found = []
    d = tuple(s.cos() for s in last)  # of the loss's own part in the final state, which is the sum of its sines
    for t in reversed(range(len(x))):
        d = tuple(g + (weight[t] if i == 0 else 0) for i, g in enumerate(d))
        found.append(d)
        new = cell(x[t], handed[t][0] if len(handed[t]) == 1 else handed[t])
        d = torch.autograd.grad(as_tuple(new), handed[t], d, allow_unused=True, materialize_grads=True)
    return [torch.stack(of) for of in zip(*reversed(found), strict=True)]


@pytest.mark.sample(8)
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_gradients_that_arrive_at_states(cell_type: type[Cell], executor: str) -> None:
    torch.manual_seed(0)
    cell = cell_type(D, H).double()
    x, weight = torch.randn(T, B, D).double(), torch.randn(T, B, H).double()
    states = tuple(torch.randn(B, H).double() for _ in range(cell.num_states))
    state: State = states[0] if cell.num_states == 1 else states
    seen: list[BackwardEvent] = []
    with labeled(CallLabel("here")):
        outputs, final = run(Inputs(cell, dict(cell.named_parameters()), x, state), executor)
    assert isinstance(outputs, Tensor)
    with observing(seen.append):
        ((outputs * weight).sum() + sum(s.sin().sum() for s in as_tuple(final))).backward()
    (found,) = seen
    assert (found.call.label, found.call.begin) == ("here", 0)
    all_close(found.d_states, by_hand(cell, x, state, weight), "gradients")
    (d_outputs,) = found.d_outputs
    assert d_outputs is not None
    assert torch.equal(d_outputs, weight)


class OwnOutput(nn.Module):
    """An output that is no state, a state that the step leaves alone, and one that nobody reads."""

    state_size = (H, 2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(D + H, H))

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step."""
        h, same, unread = state
        new = torch.tanh(torch.cat((x, h), 1) @ self.W) * same[:, :1]
        return new * new, (new, same, unread.detach() + x[:, :1])


@pytest.mark.parametrize("sizes", [None, SIZES], ids=["even", "packed"])
def test_both_executors_see_the_same(sizes: Tensor | None) -> None:
    torch.manual_seed(0)
    cell = OwnOutput().double()
    x = torch.randn(T, B, D).double() if sizes is None else torch.randn(int(sizes.sum()), D).double()
    states = tuple(torch.randn(B, width).double().requires_grad_() for width in cell.state_size)
    seen: list[BackwardEvent] = []
    executors = [name for name, executor in EXECUTORS.items() if executor.any_cell]
    for executor in executors:
        with labeled(CallLabel("here")):
            outputs, finals = run(Inputs(cell, dict(cell.named_parameters()), x, states, sizes), executor)
        assert isinstance(outputs, Tensor)
        with observing(seen.append):
            (outputs.sin().sum() + finals[0].cos().sum() + finals[1].sum()).backward()
    assert len(seen) == len(executors)
    for found in seen:
        all_close(found.d_states, seen[0].d_states, "gradients")
        all_close(
            [d for d in found.d_outputs if d is not None], [d for d in seen[0].d_outputs if d is not None], "gradients"
        )
        assert seen[0].d_states[0].abs().max() > 0
        assert seen[0].d_states[1].abs().max() > 0


class Shows(nn.Module):
    """A cell whose output shows a state that is not its first, beside a value of its own."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
        """One step."""
        h, c = state
        h, c = torch.tanh(x[:, :2] + h - c), (h * x[:, 1:3]).sin() + c
        return {"both": h * c, "c": c}, (h, c)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_output_that_shows_a_state(executor: str) -> None:
    torch.manual_seed(0)
    cell, x, states = Shows(), torch.randn(T, B, D).double().requires_grad_(), (torch.randn(B, 2).double(),) * 2
    with labeled(CallLabel("here")):
        outputs, finals = run(Inputs(cell, {}, x, states), executor)
    assert isinstance(outputs, dict)
    found: list[BackwardEvent] = []
    with observing(found.append):
        for loss in (finals[0], outputs["c"].sin(), outputs["both"]):
            loss.sum().backward(retain_graph=True)
    final, c, both = found
    assert [d is None for d in final.d_outputs] == [True, True]
    assert final.d_finals[0] is not None
    close(c.d_states[1][-1], outputs["c"][-1].detach().cos(), "gradients")
    assert both.d_states[1][-1].abs().max() == 0  # an output of its own is a part of the step


@pytest.mark.parametrize("executor", EXECUTORS)
def test_windows_say_where_they_begin(executor: str) -> None:
    torch.manual_seed(0)
    layer = elman.GRU(D, H, executor=executor).double()
    x = torch.randn(T, B, D).double()
    found = {}
    for mode in (Full(), Checkpointed(3), Truncated(2), Truncated(2, 4)):
        seen: list[BackwardEvent] = []
        outputs, _ = layer(x, bptt=mode)
        with observing(seen.append):
            outputs.sin().sum().backward()
        whole = torch.zeros(T, B, H).double()
        for part in seen:
            whole[part.call.begin :][: len(part.call.x)] += part.d_states[0]
        found[mode] = whole, [(part.call.begin, len(part.call.x)) for part in seen]
        assert {part.call.label.names.states for part in seen} == {("h_l0",)}
    assert found[Checkpointed(3)][1] == [(4, 2), (2, 2), (0, 2)]
    assert found[Truncated(2, 4)][1] == [(2, 4), (0, 4)]
    close(found[Checkpointed(3)][0], found[Full()][0], "gradients")
    assert (found[Truncated(2)][0] - found[Full()][0]).abs().max() > 0.1


@pytest.mark.parametrize("executor", EXECUTORS)
def test_nobody_looks(executor: str) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(T, B, D)
    seen: list[BackwardEvent] = []
    with observing(seen.append):
        layer(x)[0].sum().backward()
    layer(x)[0].sum().backward()
    zeros = x.new_zeros(B, H)
    inputs = Inputs(layer._cells[0], layer._parameters_of(layer._weights(), layer._steps[0], 0), x, (zeros, zeros))
    outputs, _ = run(inputs, executor)
    assert isinstance(outputs, Tensor)
    with observing(seen.append):
        outputs.sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("layer_type", [elman.RNN, elman.GRU, elman.LSTM])
def test_observers_do_not_change_gradients(layer_type: type[nn.Module], executor: str) -> None:
    layer, x = layer_type(D, H, num_layers=2, bidirectional=True, executor=executor), torch.randn(30, B, D)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x)[0].square().sum(), list(layer.parameters()))

    expected, seen = gradients(), list[BackwardEvent]()
    with observing(seen.append):
        observed = gradients()
    assert len(seen) == 4
    assert all(map(torch.equal, observed, expected))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_backward_pass_that_breaks_off(executor: str) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(T, B, D, requires_grad=True)
    outputs, _ = layer(x * 1)
    seen: list[BackwardEvent] = []
    with observing(seen.append):
        handle = layer.get_parameter("weight_hh_l0").register_hook(lambda gradient: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            outputs.sum().backward(retain_graph=True)
        handle.remove()
        seen.clear()
        outputs[2].sum().backward()
    (found,) = seen
    assert found.d_states[0][2].abs().sum() == B * H
    assert found.d_states[0][3:].abs().max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_gone_with_the_graph(executor: str, again: bool) -> None:
    layer, x = elman.LSTM(D, H, executor=executor), torch.randn(T, B, D, requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        seen: list[BackwardEvent] = []
        outputs, finals = layer(x)
        with observing(seen.append):
            gradients = torch.autograd.grad(outputs.sum(), [x], create_graph=again)
            if again:
                torch.autograd.grad(gradients[0].sum(), [x])
        label = weakref.ref(seen[-1].call.label)
        del seen, outputs, finals, gradients
        assert label() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_gradient_that_can_be_differentiated(executor: str) -> None:
    layer, x = elman.GRU(D, H, executor=executor).double(), torch.randn(T, B, D).double()
    outputs, _ = layer(x)
    seen: list[BackwardEvent] = []
    with observing(seen.append):
        torch.autograd.grad(outputs.sin().sum(), [*layer.parameters()], create_graph=True)
        outputs.sin().sum().backward()
    close(seen[0].d_states[0], seen[1].d_states[0], "gradients")
    assert [found.later for found in seen] == [False, True]


def of_second_order(cell: Cell, x: Tensor, bent: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A loss on the gradient of another, and its own at every state: those of zeros that are added there."""
    x, h = x.clone().requires_grad_(), [x.new_zeros(B, H)] * cell.num_states
    zeros = [[torch.zeros_like(s).requires_grad_() for s in h] for _ in x]
    outputs = []
    for x_t, added in zip(x, zeros, strict=True):
        new = as_tuple(cell(x_t, h[0] if cell.num_states == 1 else tuple(h)))
        h = [s + zero for s, zero in zip(new, added, strict=True)]
        outputs.append(h[0])
    (g,) = torch.autograd.grad(bent(torch.stack(outputs)).sum(), x, create_graph=True)
    loss = g.square().sum()
    found = torch.autograd.grad(loss, [zero for added in zeros for zero in added], materialize_grads=True)
    return loss, [torch.stack(found[i :: cell.num_states]) for i in range(cell.num_states)]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    "bent", [torch.sin, torch.negative]
)  # to the second loss the outputs themselves matter, or not
@pytest.mark.sample(8)
@pytest.mark.parametrize("mode", [Full(), Checkpointed(3)], ids=str)
@pytest.mark.parametrize("cell_type", [cells.GRU, cells.LSTM])
def test_the_gradient_of_a_gradient(
    cell_type: type[Cell], mode: Mode, bent: Callable[[Tensor], Tensor], executor: str
) -> None:
    torch.manual_seed(0)
    cell, x = cell_type(D, H).double(), torch.randn(T, B, D).double()
    layer = elman.Recurrent(cell, executor=executor, bptt=mode)
    loss, expected = of_second_order(cell, x, bent)
    x.requires_grad_()
    seen: list[BackwardEvent] = []
    outputs, _ = layer(x)
    (g,) = torch.autograd.grad(bent(outputs).sum(), x, create_graph=True)  # nobody looks
    close(g.square().sum(), loss, "gradients")
    with observing(seen.append):
        g.square().sum().backward()
    for i, of_state in enumerate(expected):
        total = torch.zeros_like(of_state)
        for part in seen:
            total[part.call.begin :][: len(part.call.x)] += part.d_states[i]
        close(total, of_state, "gradients")
    assert any(part.later for part in seen)


@pytest.mark.skipif("native" not in EXECUTORS, reason="whose gradients of gradients are float32 under autocast")
def test_a_gradient_of_a_gradient_in_the_precision_of_the_first() -> None:
    layer, x = elman.GRU(D, H, executor="native"), torch.randn(T, B, D, requires_grad=True)
    found = []
    for inside in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            (g,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
        found.append((g, *torch.autograd.grad(g.square().sum(), layer.all_weights[0][0])))
    all_close(found[1], found[0], "gradients")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_many_gradients_at_once(executor: str) -> None:
    layer, x = elman.GRU(D, H, executor=executor), torch.randn(T, B, D, requires_grad=True)
    outputs, _ = layer(x)
    seen: list[BackwardEvent] = []
    every = torch.eye(outputs.numel()).view(-1, *outputs.shape)
    with observing(seen.append):
        (found,) = torch.autograd.grad(outputs, x, every, is_grads_batched=True, retain_graph=True)
        assert not seen
        (one,) = torch.autograd.grad(outputs, x, every[-1])
    close(found[-1], one, "gradients")
    assert len(seen) == 1
