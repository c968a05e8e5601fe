"""Law 4: gradient modes agree where they must, and `Truncated` equals its definition.

The definition, written here once more, calls the cell in a Python loop, window by window, and shares no code with the
package.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import elman
from elman import cells
from elman.bptt import Checkpointed, Full, Mode, Truncated
from elman.engine import Inputs, as_tuple
from tests.cases import CASES, Case, TwoWidths, call, every_executor, in_form, name_of, random_states, same
from tests.tolerances import all_close

B, D, H = 2, 3, 5
LENGTHS = [7, 6, 6, 4, 1, 0]  # of packed sequences, the last without a step
steps = st.integers(1, 9)


class OwnOutput(TwoWidths):
    """Two states of different widths, and an output that is neither."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        h, m = super().forward(x, state)
        return torch.cat((h * h, m[:, :1]), 1), (h, m)


class ByName(TwoWidths):
    """Outputs by name, one without an axis of its own."""

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        h, m = super().forward(x, state)
        return {"product": h * m[:, :-2], "sum": m.sum(1)}, (h, m)


CELLS: dict[str, Callable[..., nn.Module]] = {
    "RNN": cells.RNN, "GRU": cells.GRU, "LSTM": cells.LSTM, "OwnOutput": OwnOutput, "ByName": ByName,
}  # fmt: skip
every_cell = pytest.mark.parametrize("name", CELLS)


class Problem:
    """A cell, a sequence, states and cotangents: always the same for the same arguments."""

    def __init__(self, name: str, T: int, lengths: Sequence[int] | None = None) -> None:
        torch.manual_seed(0)
        self.cell = CELLS[name](D, H).double()
        rows = B if lengths is None else len(lengths)
        self.sizes = None if lengths is None else torch.tensor([sum(t < L for L in lengths) for t in range(T)])
        self.x = random(T, B, D) if self.sizes is None else random(int(self.sizes.sum()), D)
        state_size: Any = self.cell.state_size
        self.states = [random(rows, width) for width in as_tuple(state_size)]
        self.inputs = [self.x, *self.states, *self.cell.parameters()]

    def results(self, mode: Mode, executor: str) -> list[Tensor]:
        """Outputs and final states."""
        state = self.states[0] if len(self.states) == 1 else tuple(self.states)
        named = dict(self.cell.named_parameters()) | dict(self.cell.named_buffers())
        outputs, final = mode.run(Inputs(self.cell, named, self.x, state, self.sizes), executor)
        return [*values_of(outputs), *((final,) if isinstance(final, Tensor) else final)]

    def gradients(self, results: Sequence[Tensor], create_graph: bool = False) -> tuple[Tensor, ...]:
        d = self.cotangents(results)
        found = torch.autograd.grad(results, self.inputs, d, allow_unused=True, create_graph=create_graph)
        return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, self.inputs, strict=True))

    def cotangents(self, results: Sequence[Tensor]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(1)
        return [torch.randn(result.shape, generator=generator, dtype=result.dtype) for result in results]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def values_of(outputs: Any) -> list[Tensor]:
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def step(cell: nn.Module, x: Tensor, states: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and the new states."""
    result = cell(x, in_form(states))
    if isinstance(result, Tensor):
        return [result], [result]
    if isinstance(result[1], tuple):
        return values_of(result[0]), list(result[1])
    return [result[0]], list(result)


def losses(
    cell: nn.Module, x: Tensor, initial: list[Tensor], k1: int, k2: int, dy: list[Tensor], d_final: list[Tensor]
) -> Tensor:
    """The sum of all windows' losses, of x (T, B, D): its gradient is the truncated one."""
    T, before, total = len(x), [initial], torch.zeros((), dtype=x.dtype)
    with torch.no_grad():
        for x_t in x:
            before.append(step(cell, x_t, before[-1])[1])
    for e in sorted({*range(k1, T, k1), T}):
        begin, newest = max(0, e - k2), (e - 1) // k1 * k1
        states = initial if begin == 0 else [state.detach() for state in before[begin]]
        for t in range(begin, e):
            outputs, states = step(cell, x[t], states)
            if t >= newest:
                total = total + sum((y * d[t]).sum() for y, d in zip(outputs, dy, strict=True))
        if e == T:
            total = total + sum((s * d).sum() for s, d in zip(states, d_final, strict=True))
    return total


def by_definition(
    problem: Problem, results: Sequence[Tensor], k1: int, k2: int, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """The truncated gradients, of packed sequences one by one."""
    d, count = problem.cotangents(results), len(problem.states)
    dy, d_final = d[:-count], d[-count:]
    if problem.sizes is None:
        loss = losses(problem.cell, problem.x, problem.states, k1, k2, dy, d_final)
    else:
        first = [0, *problem.sizes.cumsum(0).tolist()]
        loss = torch.zeros((), dtype=torch.float64)
        for row, length in enumerate((problem.sizes > torch.arange(len(problem.states[0])).unsqueeze(1)).sum(1)):
            own, one = [first[t] + row for t in range(length)], slice(row, row + 1)
            loss = loss + (
                losses(
                    problem.cell, problem.x[own].unsqueeze(1), [s[one] for s in problem.states], k1, k2,
                    [d[own].unsqueeze(1) for d in dy], [d[one] for d in d_final],
                ) if length else sum((s[row] * d[row]).sum() for s, d in zip(problem.states, d_final, strict=True))
            )  # fmt: skip
    found = torch.autograd.grad(loss, problem.inputs, allow_unused=True, create_graph=create_graph)
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(found, problem.inputs, strict=True))


@pytest.mark.sample(2)
@given(T=st.integers(1, 12), k1=steps, more=st.integers(0, 5))
@every_executor
@every_cell
def test_truncated_is_its_definition(name: str, executor: str, T: int, k1: int, more: int) -> None:
    problem = Problem(name, T)
    results = problem.results(Truncated(k1, k1 + more), executor)
    same(results, problem.results(Full(), executor), executor)
    all_close(problem.gradients(results), by_definition(problem, results, k1, k1 + more), "gradients")


@pytest.mark.sample(2)
@given(k1=steps, more=st.integers(0, 5))
@every_executor
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["GRU", "OwnOutput", "ByName"])
def test_packed_sequences_are_truncated_one_by_one(name: str, executor: str, k1: int, more: int) -> None:
    problem = Problem(name, 7, LENGTHS)
    results = problem.results(Truncated(k1, k1 + more), executor)
    same(results, problem.results(Full(), executor), executor)
    all_close(problem.gradients(results), by_definition(problem, results, k1, k1 + more), "gradients")


@given(k1=steps, more=st.integers(0, 3), T=st.integers(1, 7))
@every_executor
def test_a_window_over_everything_is_full(executor: str, k1: int, more: int, T: int) -> None:
    problem = Problem("LSTM", T)
    k2 = max(k1, T) + more
    found, expected = (problem.gradients(problem.results(mode, executor)) for mode in (Truncated(k1, k2), Full()))
    assert all(map(torch.equal, found, expected))


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("segments", ["sqrt", 8])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_checkpointed_is_full(case: Case, executor: str, segments: int | str) -> None:
    torch.manual_seed(0)
    layer = case.build(D, H, executor=executor).double()
    x, states = torch.randn(8, B, D, dtype=torch.float64, requires_grad=True), random_states(layer, (B,))
    inputs, found = [x, *states, *layer.parameters()], []
    for layer.bptt in (Full(), Checkpointed(segments)):
        results = call(layer, x, states)
        d = [torch.linspace(-1, 1, r.numel(), dtype=r.dtype).view(r.shape) for r in results]
        found.append((results, torch.autograd.grad(results, inputs, d)))
    same(found[1][0], found[0][0], executor)
    all_close(found[1][1], found[0][1], "gradients")


@pytest.mark.sample(2)
@given(segments=st.integers(1, 8))
@every_executor
@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["LSTM", "OwnOutput", "ByName"])
def test_packed_sequences_are_checkpointed(name: str, executor: str, segments: int) -> None:
    problem = Problem(name, 7, LENGTHS)
    found, expected = (problem.results(mode, executor) for mode in (Checkpointed(segments), Full()))
    same(found, expected, executor)
    all_close(problem.gradients(found), problem.gradients(expected), "gradients")


@pytest.mark.sample(8)
@every_executor
@every_cell
@pytest.mark.parametrize("mode", [Checkpointed(3), Truncated(3), Truncated(2, 5)], ids=str)
def test_the_gradient_of_a_gradient(name: str, executor: str, mode: Mode) -> None:
    problem = Problem(name, 8)
    results = problem.results(mode, executor)
    if isinstance(mode, Truncated):
        expected = by_definition(problem, results, mode.k1, mode.k2 or mode.k1, create_graph=True)
    else:
        expected = problem.gradients(problem.results(Full(), "loop"), create_graph=True)
    found = problem.gradients(results, create_graph=True)
    all_close(found, expected, "gradients")
    penalties = [torch.stack([g.pow(2).sum() for g in of]).sum() for of in (found, expected)]
    second = [torch.autograd.grad(penalty, problem.inputs) for penalty in penalties]
    all_close(second[0], second[1], "gradients")


class TwoLayers(nn.Module):
    """A stack as one cell, whose layers share their windows."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper, self.state_size = cells.GRU(D, H), cells.GRU(H, H), (H, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        lower = self.lower(x, state[0])
        upper = self.upper(lower, state[1])
        return upper, (lower, upper)


@pytest.mark.sample(4)
@every_executor
@pytest.mark.parametrize("lengths", [None, [12, 3, 7]], ids=str)
@pytest.mark.parametrize("T", [12, 11])
@pytest.mark.parametrize("mode", [Truncated(3), Truncated(3, 5), Truncated(5, 20), Checkpointed(4)], ids=str)
def test_the_layers_of_a_stack_share_their_windows(
    mode: Mode, T: int, lengths: list[int] | None, executor: str
) -> None:
    torch.manual_seed(0)
    cell = TwoLayers()
    joint = elman.Recurrent(cell, bptt=mode, executor=executor).double()
    stack = elman.GRU(D, H, num_layers=2, bptt=mode, executor=executor).double()
    for k, layer in enumerate((cell.lower, cell.upper)):
        layer.load_state_dict({name[:-3]: value for name, value in stack.state_dict().items() if name[-1] == str(k)})
    x = torch.randn(T, 3, D, dtype=torch.float64, requires_grad=True)
    of = None if lengths is None else [min(length, T) for length in lengths]
    found, expected = (torch.autograd.grad(run(x, lengths=of)[0].square().sum(), x) for run in (stack, joint))
    all_close(found, expected, "gradients")


@every_executor
def test_dropout_between_layers_is_drawn_again_in_a_window(executor: str) -> None:
    """With a window over all steps but the first, the gradients are nearly those of the same masks without windows."""
    layer = elman.RNN(D, H, 2, dropout=0.5, executor=executor, bptt=Truncated(1, 9)).double()
    x = torch.randn(10, B, D, dtype=torch.float64, requires_grad=True)
    outputs, _ = layer(x)
    weights = torch.randn_like(outputs[9])
    found = torch.autograd.grad((outputs[9] * weights).sum(), x)[0]
    assert not found[0].any()
    changed = x.detach().clone()
    changed[9] += 1e-6 * found[9].sign()
    state = torch.get_rng_state()
    again = layer(x)[0][9]
    torch.set_rng_state(state)
    more = ((layer(changed)[0][9] - again) * weights).sum()
    torch.set_rng_state(state)
    of_these = torch.autograd.grad((layer(x)[0][9] * weights).sum(), x)[0]
    assert more.item() == pytest.approx(1e-6 * (of_these[9] * found[9].sign()).sum().item(), rel=1e-3)


def test_a_mask_for_all_steps_spans_no_windows() -> None:
    layer = elman.RNN(D, H, 2, locked_dropout=0.5, bptt=Truncated(3, 5))
    with pytest.raises(ValueError, match="RNN: bptt: Truncated: expected a stack without this dropout"):
        layer(torch.randn(12, B, D))
    layer(torch.randn(5, B, D))
    layer.bptt = Truncated(3)
    layer(torch.randn(12, B, D))
