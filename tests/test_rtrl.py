"""Real-time recurrent learning: the gradient of `Full`, at once and step by step, in memory that does not grow."""

import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import elman
from elman import cells
from elman.bptt import RTRL, Full
from elman.bptt._influence import Influence
from elman.bptt._influence_steps import InfluenceSteps
from tests.cases import CASES, Case, call, cotangents, every_executor, in_a_row, name_of, random_states
from tests.contract.test_modes import CELLS, LENGTHS, Problem
from tests.oracle.rtrl import rtrl
from tests.tolerances import all_close, close

T, B, D, H = 4, 2, 3, 5

STACKS: dict[str, Callable[..., elman.Stack]] = {
    "RNN": elman.RNN,
    "LSTM-2": partial(elman.LSTM, num_layers=2),
    "GRU-3": partial(elman.GRU, num_layers=3, bias=False, batch_first=True),
    "projected": partial(elman.LSTM, num_layers=2, proj_size=2),
    "zoneout": partial(elman.GRU, num_layers=2, zoneout=0.3),
}
every_stack = pytest.mark.parametrize("stack", STACKS)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def both(layer: Any, x: Any, states: Sequence[Tensor] = (), **options: Any) -> list[tuple[Tensor, ...]]:
    """Results, and gradients of the states and of the parameters, by `Full` and by `RTRL`."""
    inputs, found = [*states, *layer.parameters()], []
    for layer.bptt in (Full(), RTRL()):
        results = in_a_row(
            layer(x, None if not states else states[0] if len(states) == 1 else tuple(states), **options)
        )
        found += [results, torch.autograd.grad(results, inputs, cotangents(results))]
    return found


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_cell(case: Case, executor: str) -> None:
    layer = case.build(D, H, executor=executor).double()
    expected, of_full, found, of_rtrl = both(layer, random(T, B, D), random_states(layer, (B,)))
    all_close(found, expected, "outputs")
    all_close(of_rtrl, of_full, "gradients")


@pytest.mark.sample(5)
@every_executor
@every_stack
def test_stacks(stack: str, executor: str) -> None:
    """Of two layers and more, the parameters of the lower ones have influence on the states of the upper ones."""
    layer = STACKS[stack](D, H, executor=executor).double().eval()
    for batch in ((B,), ()):
        shape = (B, T, D) if layer.batch_first and batch else (T, *batch, D)
        expected, of_full, found, of_rtrl = both(layer, random(*shape), random_states(layer, batch))
        all_close(found, expected, "outputs")
        all_close(of_rtrl, of_full, "gradients")


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("steps", [1, 7, LENGTHS], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_the_engine(name: str, executor: str, steps: Any) -> None:
    """Outputs of their own and by name; packed sequences, which keep their influence when they have ended."""
    problem = Problem(name, 7 if steps is LENGTHS else steps, LENGTHS if steps is LENGTHS else None)
    problem.x = problem.x.detach()
    problem.inputs = problem.inputs[1:]
    expected, found = (problem.results(mode, executor) for mode in (Full(), RTRL()))
    all_close(found, expected, "outputs")
    all_close(problem.gradients(found), problem.gradients(expected), "gradients")


def step_by_step(layer: Any, x: Tensor, state: Any = None) -> list[tuple[Tensor, ...]]:
    """After each step, the gradient of what it made, and of its states."""
    found, layer.bptt = [], RTRL()
    for x_t in x:
        output, state = layer.step(x_t, state)
        results = in_a_row((output, state))
        found.append(torch.autograd.grad(results, list(layer.parameters()), cotangents(results)))
    return found


def whole(layer: Any, x: Tensor) -> list[tuple[Tensor, ...]]:
    """The same by `Full`, which for every step goes through all from the first."""
    found, layer.bptt = [], Full()
    for t in range(1, len(x) + 1):
        outputs, state = layer(x[:t])
        results = in_a_row((outputs[-1], state))
        found.append(torch.autograd.grad(results, list(layer.parameters()), cotangents(results)))
    return found


ONLINE: dict[str, Callable[..., Any]] = {
    **{name: STACKS[name] for name in ("RNN", "LSTM-2", "projected")},
    "LSTMCell": lambda D, H, executor: elman.Recurrent(nn.LSTMCell(D, H), executor=executor),
    "OwnOutput": lambda D, H, executor: elman.Recurrent(CELLS["OwnOutput"](D, H), executor=executor),
    "learned": lambda D, H, executor: elman.Recurrent(cells.GRU(D, H), executor=executor, learn_state=True),
}


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("batch", [(B,), ()], ids=["batch", "unbatched"])
@pytest.mark.parametrize("name", ONLINE)
def test_step_by_step(name: str, executor: str, batch: tuple[int, ...]) -> None:
    """Every step's gradient is the exact one through the whole past, to where the state began."""
    layer, x = ONLINE[name](D, H, executor=executor).double(), random(6, *batch, D)
    for found, expected in zip(step_by_step(layer, x), whole(layer, x), strict=True):
        all_close(found, expected, "gradients")


def test_an_influence_that_is_a_little_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, advance = elman.LSTM(D, H).double(), random(6, B, D), InfluenceSteps.advance

    def wrong(self: InfluenceSteps, t: int) -> None:
        advance(self, t)
        self.P[1] = self.P[1] * 1.001

    monkeypatch.setattr(InfluenceSteps, "advance", wrong)
    steps = step_by_step(layer, x)
    with pytest.raises(AssertionError, match="gradients"):
        all_close(steps[-1], whole(layer, x)[-1], "gradients")


@every_executor
def test_by_the_book(executor: str) -> None:
    layer, x, dy = elman.RNN(D, H, executor=executor, bptt=RTRL()).double(), random(6, B, D), random(6, B, H)
    h_0 = random(1, B, H)
    W, U, b, c = layer.parameters()
    w = torch.cat((W, U, (b + c).unsqueeze(1)), 1)
    rows = [rtrl(*(t.detach().numpy() for t in (w, x[:, b], h_0[0, b], dy[:, b]))) for b in range(B)]
    state = h_0
    for t in range(6):
        output, state = layer.step(x[t], state)
        close(output.detach(), torch.tensor(np.stack([outputs[t] for outputs, _ in rows])), "outputs")
        dW, dU, db, _ = torch.autograd.grad(output, list(layer.parameters()), dy[t])
        expected = torch.tensor(sum(gradients[t] for _, gradients in rows))
        close(torch.cat((dW, dU, db.unsqueeze(1)), 1), expected, "gradients")


@every_executor
@pytest.mark.parametrize("packed", [False, True], ids=["lengths", "packed"])
def test_ragged_chunks(executor: str, packed: bool) -> None:
    """The rows change their order from chunk to chunk, and their influence with them."""
    layer: Any = elman.LSTM(D, H, num_layers=2, executor=executor).double()
    chunks = [(random(4, B, D), lengths) for lengths in ((3, 1), (1, 4), (0, 2), (0, 0), (2, 2))]
    chunks = [chunk for chunk in chunks if not packed or min(chunk[1])]

    def run(x: Tensor, lengths: tuple[int, ...], state: Any) -> tuple[Any, Any]:
        if packed:
            rows = [x[:length, b] for b, length in enumerate(lengths)]
            outputs, state = layer(pack_sequence(rows, enforce_sorted=False), state)
            return outputs.data, state
        outputs, state = layer(x, state, lengths=torch.tensor(lengths))
        return outputs, state

    found, initial = [], tuple(random(2, B, H).requires_grad_() for _ in range(2))
    inputs = [*initial, *layer.parameters()]
    for layer.bptt in (Full(), RTRL()):
        state, gradients = initial, list[Tensor]()
        for x, lengths in chunks:
            outputs, state = run(x, lengths, state)
            results = (outputs, *state) if any(lengths) else (outputs,)
            gradients += torch.autograd.grad(results, inputs, cotangents(results), retain_graph=True)
        found.append(gradients)
    all_close(found[1], found[0], "gradients")


def reachable(tensor: Tensor) -> int:
    """How many places of autograd's graph a gradient of it would come to."""
    seen, todo = set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [next_node for next_node, _ in node.next_functions]
    return len(seen)


@pytest.mark.slow
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("name", ["LSTM-2", "learned"])
def test_nothing_grows(name: str, learns: bool) -> None:
    layer, state, found = ONLINE[name](D, H, executor="auto"), None, []
    layer.bptt = RTRL()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    gc.collect()
    gc.disable()  # what is not needed any more must go by itself
    try:
        for t in range(6):
            output, state = layer.step(torch.randn(B, D), state)
            if learns:
                output.square().sum().backward()
                optimizer.step()
                optimizer.zero_grad()
            if t in (2, 5):
                living = [o for o in gc.get_objects() if type(o) in (Tensor, Influence)]
                size = sum(o.nbytes for o in living if isinstance(o, Tensor))
                found.append((len(living), size, reachable(output)))
                del living
    finally:
        gc.enable()
    assert found[0] == found[1]


@every_executor
def test_detach_cuts(executor: str) -> None:
    layer, x = elman.GRU(D, H, num_layers=2, executor=executor, bptt=RTRL()).double(), random(6, B, D)
    _, state = layer(x[:3])
    for cut in (state.detach(), state.clone().detach_(), state.detach().requires_grad_()):
        layer.bptt = RTRL()
        found = torch.autograd.grad(layer(x[3:], cut)[0].square().sum(), list(layer.parameters()))
        layer.bptt = Full()
        expected = torch.autograd.grad(layer(x[3:], cut)[0].square().sum(), list(layer.parameters()))
        all_close(found, expected, "gradients")
    with torch.no_grad():
        layer.bptt = RTRL()
        assert layer(x[3:], state)[1].grad_fn is None


def test_states_of_another_layer() -> None:
    """An encoder and a decoder: to the decoder, the encoder's state is one that asks for a gradient; and so are its own
    states in another order.
    """
    encoder, decoder = elman.LSTM(D, H).double(), elman.LSTM(D, H).double()
    parameters, found, x = [*encoder.parameters(), *decoder.parameters()], [], random(6, B, D)
    for mode in (Full(), RTRL()):
        encoder.bptt = decoder.bptt = mode
        _, state = encoder(x[:2])
        first, state = decoder(x[2:4], state)
        second, state = decoder(x[4:5], state)
        third, state = decoder(x[5:], state[::-1])
        found.append(
            torch.autograd.grad(first.sum() + second.square().sum() + third.sum() + state[1].sum(), parameters)
        )
    all_close(found[1], found[0], "gradients")


def test_a_second_backward() -> None:
    layer, x = elman.GRU(D, H, bptt=RTRL()), torch.randn(T, B, D)
    parameters, results = list(layer.parameters()), call(layer, x)
    first = torch.autograd.grad(results, parameters, cotangents(results), retain_graph=True)
    second = torch.autograd.grad(results, parameters, cotangents(results))
    assert all(map(torch.equal, first, second))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(results, parameters, cotangents(results))


def test_what_backward_needs_must_not_change() -> None:
    layer, x = elman.GRU(D, H, bptt=RTRL()), torch.randn(T, B, D)
    for changed in (x, next(layer.parameters())):
        outputs, _ = layer(x)
        with torch.no_grad():
            changed.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            outputs.sum().backward()


def test_only_what_is_asked_for() -> None:
    layer, x = elman.LSTM(D, H, num_layers=2).double(), random(T, B, D)
    layer.weight_ih_l0.requires_grad_(False)
    layer.bias_hh_l1.requires_grad_(False)
    asked, found = [p for p in layer.parameters() if p.requires_grad], []
    for layer.bptt in (Full(), RTRL()):
        results = call(layer, x)
        found.append(torch.autograd.grad(results, asked, cotangents(results)))
    all_close(found[1], found[0], "gradients")
    layer.requires_grad_(False)
    assert not layer(x)[0].requires_grad
    h, c = (random(2, B, H).requires_grad_() for _ in range(2))
    for layer.bptt in (Full(), RTRL()):
        found.append(torch.autograd.grad(layer(x, (h, c))[0].square().sum(), (h, c)))
    all_close(found[3], found[2], "gradients")


def test_a_trajectory_goes_back() -> None:
    layer, x = elman.GRU(D, H, num_layers=2, bptt=RTRL()), torch.randn(T, B, D, requires_grad=True)
    layer.trajectory(x).outputs.sum().backward()
    assert x.grad is not None


class Normed(nn.Module):
    """What the step does with a row depends on all rows, and its buffers change."""

    state_size = D

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(D)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return self.norm(x + h)


def reads_numbers(x: Tensor, h: Tensor, a: Tensor) -> Tensor:
    return h * a if x.sum().item() > 0 else x - h * a


def of(layer: Any, x: Tensor | None = None) -> Callable[[], Any]:
    return lambda: layer(torch.randn(T, B, D) if x is None else x)[0].sum().backward()


def frozen_meanwhile() -> None:
    layer = elman.RNN(D, H, bias=False, bptt=RTRL())
    _, h = layer(torch.randn(T, B, D))
    layer.weight_ih_l0.requires_grad_(False)
    layer(torch.randn(T, B, D), h)


def twice_differentiated() -> None:
    layer = elman.RNN(D, H, bptt=RTRL())
    outputs, _ = layer(torch.randn(T, B, D))
    gradient = torch.autograd.grad(outputs.square().sum(), list(layer.parameters()), create_graph=True)
    gradient[0].sum().backward()


def transformed() -> None:
    layer = elman.RNN(D, H, bptt=RTRL())
    x = torch.randn(T, B, D)
    torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,))[0].sum())(dict(layer.named_parameters()))


def in_half_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        of(elman.RNN(D, H, bptt=RTRL()))()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "memory": (
        of(elman.GRU(D, H, bptt=RTRL(memory="2 KB"))),
        r"RTRL: memory: the influence of 150 parameters on 5 states needs 6 KB for a batch of 2, more than 2 KB; use "
        r"Checkpointed or Truncated, a smaller cell, or a larger memory=",
    ),
    "initial": (
        lambda: elman.GRU(D, H, bptt=RTRL(6000))(torch.randn(T, B, D), torch.zeros(1, B, H, requires_grad=True)),
        r"of 150 parameters and 5 initial values on 5 states needs 6.2 KB for a batch of 2, more than 6 KB",
    ),
    "none": (lambda: RTRL(memory="much"), r"RTRL: memory: expected an amount such as '512MB' .*, got 'much'"),
    "input": (
        of(elman.GRU(D, H, bptt=RTRL()), torch.randn(T, B, D, requires_grad=True)),
        r"RTRL: input: expected requires_grad=False, .* got requires_grad=True; detach the input, or",
    ),
    "bidirectional": (
        of(elman.GRU(D, H, bidirectional=True, bptt=RTRL())),
        r"GRU: bptt: RTRL: expected one direction, got bidirectional=True",
    ),
    "dropout": (
        of(elman.GRU(D, H, num_layers=2, dropout=0.5, bptt=RTRL())),
        r"GRU: bptt: RTRL: expected a stack without this dropout in training, got dropout=0.5",
    ),
    "zoneout": (
        of(elman.GRU(D, H, zoneout=0.5, bptt=RTRL())),
        r"RTRL: GRU.*: expected steps without random numbers; use Full for this cell",
    ),
    "batch norm": (
        of(elman.Recurrent(Normed(), bptt=RTRL())),
        r"Normed: bptt: expected Full, since the steps of Normed cannot be recomputed: a buffer",
    ),
    "row by row": (
        of(elman.Recurrent(reads_numbers, D, executor="loop", bptt=RTRL(), parameters={"a": torch.ones(D)})),
        r"RTRL: reads_numbers: expected a step that torch.func can differentiate row by row",
    ),
    "frozen": (frozen_meanwhile, "RTRL: state: expected a state computed with gradients of the same .*detach it"),
    "second": (twice_differentiated, "once_differentiable"),
    "func": (transformed, r"RTRL: expected gradients by torch.autograd, got a transform of torch.func; use Full with"),
    "autocast": (in_half_precision, r"RTRL: expected one precision for all steps, got autocast; use Full under"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises((ValueError, RuntimeError), match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_dropout_in_evaluation() -> None:
    layer = elman.GRU(D, H, num_layers=2, dropout=0.5, weight_drop=0.5, locked_dropout=0.5).double().eval()
    expected, of_full, found, of_rtrl = both(layer, random(T, B, D))
    all_close(found, expected, "outputs")
    all_close(of_rtrl, of_full, "gradients")
