"""Law 8: the checker is checked. A gradient wrong by 0.1 %, in its largest entry alone, is rejected."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from tests.cases import STACKS, Case, Results, Run, Sizes, asking_for, every_case, gradients, name_of, problem
from tests.tolerances import TOLERANCES, all_close, close, gradcheck

SIZES = Sizes(T=3, B=2, D=1, H=4)
every_stack = pytest.mark.parametrize("case", STACKS, ids=name_of)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


class Wrong(torch.autograd.Function):
    """The identity; of its gradient, the largest entry is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        gradient = cotangents[0].clone()
        gradient.view(-1)[gradient.abs().argmax()] *= ctx.factor
        return gradient, None


def with_wrong(run: Run, which: int, factor: float) -> Run:
    """The same function, where the gradient of one input is wrong."""

    def run_wrong(*inputs: Tensor) -> Results:
        changed = list(inputs)
        changed[which] = Wrong.apply(inputs[which], factor)  # type: ignore[no-untyped-call]
        return run(*changed)

    return run_wrong


@pytest.mark.sample(2)
@every_stack
@pytest.mark.sample(1)
def test_gradcheck_rejects_one_part_in_a_thousand(case: Case) -> None:
    run, inputs, _ = problem(case, SIZES, "loop")
    for which in range(len(inputs)):
        alone = asking_for(which, inputs)
        gradcheck(with_wrong(run, which, factor=1.0), alone)
        with pytest.raises(GradcheckError, match="Jacobian mismatch"):
            gradcheck(with_wrong(run, which, factor=1.001), alone)


@pytest.mark.sample(8)
@every_case
@every_dtype
def test_close_rejects_one_part_in_a_thousand(case: Case, dtype: torch.dtype) -> None:
    run, inputs, _ = problem(case, SIZES, "loop", dtype)
    right = gradients(run(*inputs), inputs)
    for which in range(len(inputs)):
        all_close(gradients(with_wrong(run, which, factor=1.0)(*inputs), inputs), right, "gradients")
        wrong = gradients(with_wrong(run, which, factor=1.001)(*inputs), inputs)
        with pytest.raises(AssertionError, match="gradients of"):
            close(wrong[which], right[which], "gradients")


@every_dtype
def test_close_rejects_nan_other_shapes_and_other_dtypes(dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype)
    close(x, x.clone(), "outputs")
    for wrong in (x * 1.001, x * float("nan"), x * float("inf"), x[:2], x[:, None], x.half()):
        with pytest.raises(AssertionError):
            close(wrong, x, "outputs")
    with pytest.raises(AssertionError):
        close(x, torch.zeros_like(x), "outputs")
