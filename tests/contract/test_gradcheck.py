"""Law 2: every gradient is that of finite differences, in float64, with all cotangents on sequence and final state."""

import pytest
import torch
from hypothesis import assume, given, settings

from tests.cases import SMALL, Case, Sizes, different_sizes, every_case, every_executor, problem
from tests.tolerances import gradcheck


@pytest.mark.sample(6)
@pytest.mark.parametrize("sizes", SMALL, ids=str)
@every_executor
@every_case
def test_gradients(case: Case, executor: str, sizes: Sizes) -> None:
    run, inputs, _ = problem(case, sizes, executor)
    gradcheck(run, inputs)


@pytest.mark.sample(3)
@settings(max_examples=2)
@given(sizes=different_sizes)
@every_executor
@every_case
def test_gradients_of_any_sizes(case: Case, executor: str, sizes: Sizes) -> None:
    # What is normalized over two numbers is a step, but for rounding: no finite difference sees its slope.
    assume("norm" not in case.name or sizes.H > 2)
    run, inputs, _ = problem(case, sizes, executor)
    gradcheck(run, inputs)


# torch's own, on loading its rules for forward mode.
@pytest.mark.sample(2)
@every_case
def test_the_loop_does_whatever_torch_can(case: Case) -> None:
    """Second derivatives, forward mode, and vmap over the backward pass."""
    run, inputs, _ = problem(case, Sizes(T=2, B=1, D=1, H=2), "loop")
    gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, inputs)
