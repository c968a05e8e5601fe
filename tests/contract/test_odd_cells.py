"""Laws 2 and 3 for cells as users might write them; and the native executor says what the loop says."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from elman.engine import EXECUTORS
from tests.cases import Results, cotangents, every_executor
from tests.odd import STEPS, every_odd_cell, problem
from tests.tolerances import all_close, gradcheck

native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def gradients(results: Results, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of what nothing reaches, too."""
    asked = [(result, c) for result, c in zip(results, cotangents(results), strict=True) if result.requires_grad]
    of, received = zip(*asked, strict=True)
    return torch.autograd.grad(of, inputs, received, allow_unused=True, materialize_grads=True)


@pytest.mark.sample(12)
@native
@every_odd_cell
def test_native_is_loop(name: str) -> None:
    (run, inputs, _), (loop, same, _) = (problem(name, executor) for executor in ("native", "loop"))
    results, expected = run(*inputs), loop(*same)
    all_close(results, expected, "outputs")
    all_close(gradients(results, inputs), gradients(expected, same), "gradients")


@pytest.mark.sample(8)
@native
@every_odd_cell
def test_what_nothing_reaches_has_no_gradient(name: str) -> None:
    reached = []
    for executor in ("native", "loop"):
        run, inputs, _ = problem(name, executor)
        results = run(*inputs)
        found = torch.autograd.grad(results, inputs, cotangents(results), allow_unused=True)
        reached.append([gradient is not None for gradient in found])
    assert reached[0] == reached[1]


@pytest.mark.sample(8)
@native
@every_odd_cell
def test_nothing_is_compiled_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, inputs, _ = problem(name, "native")
    gradients(run(*inputs), inputs)
    monkeypatch.setattr("elman.engine.cpu.backend.NativeBackend.compile", None)
    for run, (x, *others), _ in (problem(name, "native"), problem(name, "native")):
        run(x[:2], *others)
        gradients(run(*inputs), inputs)


@pytest.mark.sample(5)
@native
@pytest.mark.parametrize("name", [name for name in STEPS if name != "no gradient through time"])
def test_gradients(name: str) -> None:
    run, inputs, _ = problem(name, "native")
    gradcheck(run, inputs)


@pytest.mark.sample(8)
@every_executor
@every_odd_cell
def test_split(name: str, executor: str) -> None:
    k = 4
    run, inputs, states = problem(name, executor)
    x, *others = inputs
    whole = run(*inputs)
    first, *carried = run(x[:k], *others)
    second, *final = run(x[k:], *carried, *others[states:])
    parts = (torch.cat([first, second]), *final)
    all_close(parts, whole, "outputs")
    all_close(gradients(parts, inputs), gradients(whole, inputs), "gradients")
