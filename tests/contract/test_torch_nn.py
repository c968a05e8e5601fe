"""The numbers of torch.nn, from a layer with the same weights: its twin."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from elman import Stack
from tests.cases import CASES, STACKS, Case, Sizes, call, every_executor, gradients, name_of, random_states
from tests.tolerances import all_close

T, B, D, H = Sizes(T=4, B=2, D=3, H=5)

depths = [pytest.param(case, {}, id=name_of(case)) for case in CASES if case.twin]
depths += [pytest.param(case, {"num_layers": n}, id=f"{name_of(case)}-{n}") for case in STACKS for n in (2, 3)]


@pytest.mark.sample(40)
@pytest.mark.parametrize("given", [True, False], ids=["given state", "no state"])
@pytest.mark.parametrize("batched", [True, False], ids=["batch", "no batch"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "time first"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@every_executor
@pytest.mark.parametrize(("case", "depth"), depths)
def test_numbers(
    case: Case, depth: dict[str, int], executor: str, bias: bool, batch_first: bool, batched: bool, given: bool
) -> None:
    layer, twin = pair(case, executor, bias=bias, batch_first=batch_first, **depth)
    compare(
        layer, twin, random_input(batched, batch_first), random_states(layer, (B,) if batched else ()) if given else []
    )


@pytest.mark.sample(8)
@pytest.mark.parametrize("batched", [True, False], ids=["batch", "no batch"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "time first"])
@pytest.mark.parametrize("num_layers", [2, 3])
@every_executor
@pytest.mark.parametrize("case", STACKS, ids=name_of)
def test_one_seed_drops_the_same(case: Case, executor: str, num_layers: int, batch_first: bool, batched: bool) -> None:
    layer, twin = pair(case, executor, num_layers=num_layers, batch_first=batch_first, dropout=0.5)
    x, states = random_input(batched, batch_first), random_states(layer, (B,) if batched else ())
    compare(layer, twin, x, states)
    assert not torch.equal(*(call(layer, x, states)[0] for _ in range(2)))
    compare(layer.eval(), twin.eval(), x, states)
    assert torch.equal(*(call(layer, x, states)[0] for _ in range(2)))


def pair(case: Case, executor: str, **options: Any) -> tuple[nn.Module, nn.Module]:
    """A layer and its twin with the same weights."""
    assert case.twin is not None
    layer, twin = case.build(D, H, executor=executor, **options).double(), case.twin(D, H, **options).double()
    with torch.no_grad():
        for theirs, ours in zip(twin.parameters(), layer.parameters(), strict=True):
            theirs.copy_(ours)
    return layer, twin


def random_input(batched: bool, batch_first: bool) -> Tensor:
    shape = (T, D) if not batched else (B, T, D) if batch_first else (T, B, D)
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def compare(layer: nn.Module, twin: nn.Module, x: Tensor, states: list[Tensor]) -> None:
    """Outputs, final states and all gradients; both runs begin from one seed, for dropout."""
    torch.manual_seed(2)
    ours = call(layer, x, states)
    torch.manual_seed(2)
    # Recurrent's states are the cell's; those of torch.nn have the number of layers in front.
    theirs = call(twin, x, [state if isinstance(layer, Stack) else state[None] for state in states])
    theirs = tuple(their.view_as(our) for our, their in zip(ours, theirs, strict=True))
    all_close(ours, theirs, "outputs")
    ours, theirs = (gradients(r, (x, *states, *m.parameters())) for r, m in ((ours, layer), (theirs, twin)))
    all_close(ours, theirs, "gradients")
