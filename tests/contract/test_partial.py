"""What autograd may ask of an executor: one gradient, one cotangent, any memory layout, none at all."""

import pytest
import torch

from tests.cases import Case, Sizes, asking_for, cotangents, every_case, every_executor, gradients, problem
from tests.tolerances import all_close

SIZES = Sizes(T=4, B=2, D=3, H=5)
pytestmark = [every_case, every_executor]


@pytest.mark.sample(8)
def test_one_gradient_alone(case: Case, executor: str) -> None:
    run, inputs, _ = problem(case, SIZES, executor)
    together = gradients(run(*inputs), inputs)
    for which, expected in enumerate(together):
        alone = asking_for(which, inputs)
        all_close(gradients(run(*alone), [alone[which]]), [expected], "gradients")


@pytest.mark.sample(8)
def test_one_cotangent_alone(case: Case, executor: str) -> None:
    """The gradient is linear in the cotangents, so that those of each result alone sum to those of all."""
    run, inputs, _ = problem(case, SIZES, executor)
    results = run(*inputs)
    total = [torch.zeros_like(tensor) for tensor in inputs]
    for result, cotangent in zip(results, cotangents(results), strict=True):
        parts = torch.autograd.grad(
            result, inputs, cotangent, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        total = [sum_ + part for sum_, part in zip(total, parts, strict=True)]
    all_close(total, gradients(results, inputs), "gradients")


@pytest.mark.sample(8)
def test_any_memory_layout(case: Case, executor: str) -> None:
    run, inputs, _ = problem(case, SIZES, executor)
    strided = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in inputs]
    assert not any(tensor.is_contiguous() for tensor in strided)
    all_close(run(*strided), run(*inputs), "outputs")
    all_close(gradients(run(*strided), inputs), gradients(run(*inputs), inputs), "gradients")


@pytest.mark.sample(8)
def test_expanded_cotangents(case: Case, executor: str) -> None:
    """What sum().backward() sends is one number with strides of zero."""
    run, inputs, _ = problem(case, SIZES, executor)
    results = run(*inputs)
    from_sums = torch.autograd.grad([result.sum() for result in results], inputs, retain_graph=True)
    from_ones = torch.autograd.grad(results, inputs, [torch.ones_like(result) for result in results])
    all_close(from_sums, from_ones, "gradients")


@pytest.mark.sample(8)
def test_backward_twice(case: Case, executor: str) -> None:
    run, inputs, _ = problem(case, SIZES, executor)
    results = run(*inputs)
    first = torch.autograd.grad(results, inputs, cotangents(results), retain_graph=True)
    all_close(gradients(results, inputs), first, "gradients")


@pytest.mark.sample(8)
def test_no_gradient_at_all(case: Case, executor: str) -> None:
    run, inputs, _ = problem(case, SIZES, executor)
    with torch.no_grad():
        results = run(*inputs)
    assert not any(result.requires_grad for result in results)
    all_close(results, run(*inputs), "outputs")
