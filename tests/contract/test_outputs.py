"""What a step may return: the state, or an output that is no state beside it; and what is told of all else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.engine import EXECUTORS
from tests.cases import cotangents
from tests.tolerances import all_close, close

T, B, D, H, WIDE = 6, 3, 5, 4, 7


class Cell(nn.Module):
    def __init__(self, step: Callable[[Any, Tensor, Any], Any], state_size: Any) -> None:
        super().__init__()
        self.step, self.state_size = step, state_size
        self.U, self.W, self.V = (nn.Parameter(torch.randn(*shape) / 2) for shape in ((D, H), (H, H), (H, WIDE)))

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.step(self, x, state)


def elman_step(p: Any, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(x @ p.U + h @ p.W)


def with_output(p: Any, x: Tensor, h: Tensor) -> Any:
    h = elman_step(p, x, h)
    return h @ p.V, h


def beside_two(p: Any, x: Tensor, state: Any) -> Any:
    h, c = state
    h = elman_step(p, x, h)
    return (h * c) @ p.V, (h, h + c / 2)


def from_before(p: Any, x: Tensor, h: Tensor) -> Any:
    return h * 2, elman_step(p, x, h)


def of_one_width(p: Any, x: Tensor, h: Tensor) -> Any:
    return h.sum(-1, keepdim=True), elman_step(p, x, h)


def in_a_tuple(p: Any, x: Tensor, state: Any) -> Any:
    return (elman_step(p, x, state[0]),)


STEPS: dict[str, tuple[Callable[..., Any], Any, int]] = {
    "the state": (elman_step, H, H),
    "an output of another width": (with_output, H, WIDE),
    "an output beside two states": (beside_two, (H, H), WIDE),
    "the state before the step": (from_before, H, H),
    "the first of the states": (lambda p, x, s: (s[0], (elman_step(p, x, s[0]), s[1] + s[0])), (H, H), H),
    "the new state once more": (lambda p, x, s: (lambda h: (h, (h, s[1] * 0.5)))(elman_step(p, x, s[0])), (H, H), H),
    "a list": (lambda p, x, s: [elman_step(p, x, s[0]), s[1]], (H, H), H),
    "a tuple of one": (in_a_tuple, (H,), H),
    "a tuple of one beside an output": (lambda p, x, s: (x @ p.U, in_a_tuple(p, x, s)), (H,), H),
    "an output of width one": (of_one_width, H, 1),
    "an output without gradient": (lambda p, x, h: ((h > 0).to(h.dtype), elman_step(p, x, h)), H, H),
}


@pytest.mark.sample(8)
@pytest.mark.parametrize("executor", list(EXECUTORS))
@pytest.mark.parametrize("name", STEPS)
def test_outputs(name: str, executor: str) -> None:
    step, size, width = STEPS[name]
    torch.manual_seed(0)
    cell = Cell(step, size).double()
    layer = elman.Recurrent(cell, executor=executor)
    x = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    sizes = (size,) if isinstance(size, int) else size
    states = [torch.randn(B, H, dtype=torch.float64, requires_grad=True) for _ in sizes]
    given = states[0] if isinstance(size, int) else tuple(states)
    outputs, final = layer(x, given)
    assert outputs.shape == (T, B, width)
    assert isinstance(final, Tensor) == isinstance(size, int)
    inputs = (x, *states, *layer.parameters())
    found = (outputs, *((final,) if isinstance(final, Tensor) else final))

    state, expected = given, []
    for x_t in x:
        result = cell(x_t, state)
        if name.startswith(("the state", "a list", "a tuple of one")) and "beside" not in name and "before" not in name:
            output, state = (result if isinstance(result, Tensor) else result[0]), result
        else:
            output, state = result
        expected.append(output)
    right = (torch.stack(expected), *((state,) if isinstance(state, Tensor) else state))
    all_close(found, right, "outputs")
    options: Any = {"allow_unused": True, "materialize_grads": True}
    pairs = [(f, r, c) for f, r, c in zip(found, right, cotangents(right), strict=True) if r.requires_grad]
    all_close(
        torch.autograd.grad([f for f, _, _ in pairs], inputs, [c for *_, c in pairs], **options),
        torch.autograd.grad([r for _, r, _ in pairs], inputs, [c for *_, c in pairs], **options),
        "gradients",
    )


@pytest.mark.parametrize("executor", list(EXECUTORS))
def test_zeros_and_no_batch(executor: str) -> None:
    layer = elman.Recurrent(Cell(with_output, H), executor=executor)
    x = torch.randn(T, D)
    outputs, h = layer(x)
    assert (outputs.shape, h.shape) == ((T, WIDE), (H,))
    close(outputs, layer(x[:, None], torch.zeros(1, H))[0][:, 0], "outputs")


@pytest.mark.parametrize("executor", ["auto", "loop"])
@pytest.mark.parametrize(
    ("step", "size", "came"),
    [
        (lambda p, x, h: None, H, "None"),
        (lambda p, x, h: (h, h, h), H, "(a tensor, a tensor, a tensor)"),
        (lambda p, x, h: (h, None), H, "(a tensor, None)"),
        (lambda p, x, s: s[0], (H, H), "a tensor"),
        (lambda p, x, s: (s[0], s[1], s[0]), (H, H), "(a tensor, a tensor, a tensor)"),
        (lambda p, x, s: (s[0], (s[0],)), (H, H), "(a tensor, (a tensor))"),
        (lambda p, x, h: {"h": h}, H, "dict"),
    ],
)
@pytest.mark.filterwarnings("ignore:Cell cannot run on the native executor")
def test_what_is_no_state(step: Callable[..., Any], size: Any, came: str, executor: str) -> None:
    layer = elman.Recurrent(Cell(step, size), executor=executor)
    with pytest.raises(TypeError) as raised:
        layer(torch.randn(T, B, D))
    message = str(raised.value)
    assert message.startswith("Cell: expected the step to return the state")
    assert message.endswith(f"got {came}")


@pytest.mark.parametrize("executor", ["auto", "loop"])
@pytest.mark.filterwarnings("ignore:Cell cannot run on the native executor")
def test_a_state_that_changes_its_size(executor: str) -> None:
    layer = elman.Recurrent(Cell(lambda p, x, h: torch.cat((h, h), -1), H), executor=executor)
    with pytest.raises(
        ValueError, match=r"Cell: expected the step to return a state of the same shape, \(3, 4\), got \(3, 8\)"
    ):
        layer(torch.randn(T, B, D))
