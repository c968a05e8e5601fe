"""Law 9: a ragged batch is its rows run one by one, those without a step too; on every executor, for every cell."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman
from elman import cells
from elman.engine import EXECUTORS
from tests import odd
from tests.cases import (
    CASES,
    Case,
    Problem,
    Results,
    Sizes,
    every_executor,
    in_a_row,
    problem,
    random_states,
)
from tests.contract.test_draws import CELLS as DRAWING
from tests.contract.test_odd_cells import gradients
from tests.tolerances import all_close, gradcheck

SIZES = Sizes(T=5, B=4, D=3, H=5)
LENGTHS = [2, 5, 0, 3]
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def one_by_one(made: Problem, lengths: Sequence[int], lead: int) -> Results:
    """Each row by itself, without padding; `lead` axes of the states stand before the batch's."""
    run, (x, *rest), states = made
    rows = []
    for row, length in enumerate(lengths):
        before = [state.narrow(lead, row, 1) for state in rest[:states]]
        outputs, *final = run(x[: max(length, 1), row : row + 1], *before, *rest[states:])
        if length == 0:  # nothing has happened
            outputs, final = 0 * outputs, [old + 0 * new for old, new in zip(before, final, strict=True)]
        rows.append((nn.functional.pad(outputs, (0, 0, 0, 0, 0, len(x) - len(outputs))), *final))
    parts = list(zip(*rows, strict=True))
    return (torch.cat(parts[0], 1), *(torch.cat(final, lead) for final in parts[1:]))


def check(made: Problem, lead: int, lengths: Sequence[int] = LENGTHS) -> None:
    results, expected = made.run(*made.inputs, lengths=lengths), one_by_one(made, lengths, lead)
    all_close(results, expected, "outputs")
    all_close(gradients(results, made.inputs), gradients(expected, made.inputs), "gradients")


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case(case: Case, executor: str) -> None:
    check(problem(case, SIZES, executor), lead=0 if "Recurrent" in case.name else 1)


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("name", cells.REGISTRY)
def test_the_shelf_in_both_directions(name: str, executor: str) -> None:
    build: Any = partial(elman.Stack, cell_type=cells.by_name(name))
    case = Case(name, build)
    check(problem(case, SIZES, executor, num_layers=2, bidirectional=True), lead=1)


@pytest.mark.sample(8)
@every_executor
@odd.every_odd_cell
def test_odd_cells(name: str, executor: str) -> None:
    check(odd.problem(name, executor), lead=0, lengths=[1, odd.T, 3])


@every_executor
@pytest.mark.parametrize("lengths", [[0, 0, 0, 0], [5, 5, 5, 5], [1, 0, 0, 0]], ids=str)
def test_other_lengths(lengths: list[int], executor: str) -> None:
    check(problem(CASES[3], SIZES, executor), lead=1, lengths=lengths)


@native
@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.name)
def test_gradients(case: Case) -> None:
    run, inputs, _ = problem(case, Sizes(T=3, B=3, D=2, H=4), "native", bidirectional=True)
    gradcheck(partial(run, lengths=[1, 3, 0]), inputs)


@pytest.mark.slow
@every_executor
def test_a_gradient_of_a_gradient(executor: str) -> None:
    run, inputs, _ = problem(CASES[2], Sizes(T=3, B=3, D=2, H=3), executor)
    assert torch.autograd.gradgradcheck(partial(run, lengths=[1, 3, 0]), inputs)


@native
@pytest.mark.parametrize("name", DRAWING)
def test_a_seed_draws_the_same_on_both_executors(name: str) -> None:
    found = []
    for executor in ("loop", "native"):
        torch.manual_seed(0)
        layer = elman.Recurrent(DRAWING[name](), executor=executor).double()
        x, states = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True), random_states(layer, (4,))
        state = states[0] if len(states) == 1 else tuple(states)
        results = in_a_row(layer(x, state, lengths=LENGTHS))
        found.append((results, gradients(results, (x, *states, *layer.parameters()))))
    all_close(found[1][0], found[0][0], "outputs")
    all_close(found[1][1], found[0][1], "gradients")


@every_executor
def test_locked_dropout_has_one_mask_for_a_sequence(executor: str) -> None:
    layer = elman.RNN(3, 4, nonlinearity="relu", locked_dropout=0.5, executor=executor)
    nn.init.zeros_(layer.get_parameter("weight_hh_l0"))
    x = torch.randn(1, 4, 3).expand(5, 4, 3)
    outputs, _ = layer(x, lengths=[5, 3, 2, 4])
    for row, length in enumerate([5, 3, 2, 4]):
        assert all(torch.equal(outputs[t, row], outputs[0, row]) for t in range(length))
    assert not torch.equal(outputs[:2, 0], layer.eval()(x)[0][:2, 0])


@every_executor
@pytest.mark.parametrize("batch_first", [True, False])
def test_own_outputs_and_a_learned_state(batch_first: bool, executor: str) -> None:
    def step(x: Tensor, h: Tensor, w: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        h = torch.tanh(h @ w + x)
        return {"square": h * h, "sum": h.sum(-1)}, h

    layer = elman.Recurrent(
        step, 3, batch_first, executor, learn_state=True, parameters={"w": torch.randn(3, 3)}
    ).double()
    assert layer.initial_state is not None
    nn.init.normal_(layer.initial_state[0])
    x = torch.randn(4, 5, 3, dtype=torch.float64) if batch_first else torch.randn(5, 4, 3, dtype=torch.float64)
    outputs, h = layer(x, lengths=LENGTHS)
    assert torch.equal(h[2], layer.initial_state[0])
    for row, length in enumerate(LENGTHS):
        values = {name: value[row] if batch_first else value[:, row] for name, value in outputs.items()}
        assert all(not value[length:].any() for value in values.values())
        if length:
            alone, last = layer((x[row] if batch_first else x[:, row])[:length])
            all_close([value[:length] for value in values.values()], list(alone.values()), "outputs")
            all_close([h[row]], [last], "outputs")
    packed, last = layer(pack_padded_sequence(x, torch.tensor([2, 5, 1, 3]), batch_first, enforce_sorted=False))
    back = pad_packed_sequence(packed["square"], batch_first)[0]
    again, final = layer(x, lengths=[2, 5, 1, 3])
    all_close([back, last], [again["square"], final], "outputs")


@every_executor
def test_without_a_batch(executor: str) -> None:
    layer, x = elman.LSTM(3, 4, bidirectional=True, executor=executor).double(), torch.randn(5, 3, dtype=torch.float64)
    outputs, (h, c) = layer(x, lengths=[3])
    expected, (last_h, last_c) = layer(x[:3])
    all_close([outputs[:3], h, c], [expected, last_h, last_c], "outputs")
    assert not outputs[3:].any()


@native
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, at a break of the graph
def test_compiled_by_torch() -> None:
    layer, x = elman.GRU(3, 4, bidirectional=True).double(), torch.randn(5, 4, 3, dtype=torch.float64)
    torch.compiler.reset()
    found = torch.compile(layer, backend="aot_eager")(x, lengths=torch.tensor(LENGTHS))
    all_close(found, layer(x, lengths=torch.tensor(LENGTHS)), "outputs")


@every_executor
@pytest.mark.parametrize(
    "kind", [list, tuple, torch.tensor, lambda of: np.array(of, np.uint16)], ids=["list", "tuple", "tensor", "array"]
)
def test_transforms_of_torch(kind: Any, executor: str) -> None:
    layer, x = elman.GRU(3, 4, executor=executor).double(), torch.randn(5, 4, 3, dtype=torch.float64)
    parameters: dict[str, Tensor] = dict(layer.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = torch.func.functional_call(layer, values, (x,), {"lengths": kind(LENGTHS)})[0]
        return outputs.square().sum()

    found = torch.func.grad(loss)(parameters)
    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    all_close(list(found.values()), expected, "gradients")


@every_executor
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=str)
def test_many_gradients_at_once(lengths: list[int] | None, executor: str) -> None:
    layer, x = elman.GRU(3, 4, executor=executor).double(), torch.randn(5, 4, 3, dtype=torch.float64)
    parameters = list(layer.parameters())
    outputs = layer(x, lengths=lengths)[0]
    several = torch.randn(3, *outputs.shape, dtype=torch.float64)
    found = torch.autograd.grad(outputs, parameters, several, is_grads_batched=True, retain_graph=True)
    for k, one in enumerate(several):
        expected = torch.autograd.grad(outputs, parameters, one, retain_graph=True)
        all_close([value[k] for value in found], expected, "gradients")


def test_bad_lengths() -> None:
    layer, x = elman.GRU(3, 4), torch.randn(5, 2, 3)
    bad: Any
    for bad in ([1], [1, 6], [1, -1], [1.0, 2.0], [True, False], [None, 1], "ab", {1: 2}, [[1], [1, 2]]):
        with pytest.raises(ValueError, match="GRU: lengths: expected 2 integers from 0 to 5, got"):
            layer(x, lengths=bad)
    with pytest.raises(ValueError, match="GRU: lengths: expected a tensor with values, got one on meta; pass a list"):
        elman.GRU(3, 4, device="meta")(x.to("meta"), lengths=torch.tensor([5, 5], device="meta"))
    with pytest.raises(ValueError, match="GRU: lengths: expected none for a PackedSequence, which has its own"):
        layer(pack_padded_sequence(x, [5, 5]), lengths=[5, 5])
    with pytest.raises(ValueError, match=r"GRU: input: expected width 3 \(input_size\), got 4"):
        layer(pack_padded_sequence(torch.randn(5, 2, 4), [5, 5]))
    packed = pack_padded_sequence(x, [5, 5])
    with pytest.raises(ValueError, match=r"GRU: state: expected shape \(1, 2, 4\), got \(1, 3, 4\)"):
        layer(packed, torch.zeros(1, 3, 4))
