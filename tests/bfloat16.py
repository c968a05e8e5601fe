"""Shared by the tests of bfloat16: both ways to ask for it, and the loop executor with the same roundings."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cases import Case, Problem, Results, Run, Sizes, cotangents, problem
from tests.tolerances import Tolerance, within

DTYPE = torch.bfloat16
Way = Literal["layer", "autocast"]  # layer.bfloat16(), or torch.autocast("cpu", torch.bfloat16)
WAYS: tuple[Way, ...] = ("layer", "autocast")
aten = torch.ops.aten
FACTORS: dict[Any, tuple[int, int]] = {aten.mm: (0, 1), aten.bmm: (0, 1), aten.addmm: (1, 2), aten.baddbmm: (1, 2)}


class RoundedProducts(TorchDispatchMode):
    """Rounds the factors of every matrix product to bfloat16, and nothing else."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        factors = FACTORS.get(func.overloadpacket, ())
        rounded = [arg.to(DTYPE).to(arg.dtype) if i in factors else arg for i, arg in enumerate(args)]
        return func(*rounded, **(kwargs or {}))


class Computed(NamedTuple):
    """Results, and the gradients of all inputs for cotangents that bfloat16 has."""

    results: Results
    gradients: Results


def half_problem(case: Case, sizes: Sizes, executor: str, way: Way, **options: Any) -> Problem:
    """The problem of a case, which computes in bfloat16."""
    candidate = problem(case, sizes, executor, DTYPE if way == "layer" else torch.float32, **options)
    return candidate._replace(run=under_autocast(candidate.run) if way == "autocast" else candidate.run)


def under_autocast(run: Run) -> Run:
    def cast(*given: Any, **options: Any) -> Results:
        with torch.autocast("cpu", DTYPE):
            return run(*given, **options)

    return cast


def compute(run: Callable[..., Results], inputs: Sequence[Tensor]) -> Computed:
    """Run a problem forward and backward."""
    results = run(*inputs)
    d = [c.to(DTYPE).to(c.dtype) for c in cotangents([result.double() for result in results])]
    received = [c.to(result.dtype) for c, result in zip(d, results, strict=True)]
    gradients = torch.autograd.grad(results, inputs, received, allow_unused=True, materialize_grads=True)
    return Computed(results, gradients)


def compute_wide(run: Run, inputs: Sequence[Tensor]) -> Computed:
    """The same in double precision."""
    return compute(run, [tensor.detach().double().requires_grad_() for tensor in inputs])


def compare(tolerances: Tolerance, actual: Computed, expected: Computed) -> None:
    """Raise AssertionError unless results and gradients are those expected, both in double precision."""
    for a, b in zip(actual.results, expected.results, strict=True):
        within(tolerances, a.double(), b.double(), "outputs")
    for a, b in zip(actual.gradients, expected.gradients, strict=True):
        within(tolerances, a.double(), b.double(), "gradients")
