"""Law 3: run(x) is run(x[:k]), then run(x[k:]) from the state that the first left."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import CASES, SMALL, STACKS, Case, Problem, Results, Sizes, every_executor, gradients, name_of, problem
from tests.tolerances import TOLERANCES, all_close

size = st.integers(1, 6)
# In both dtypes those of torch.nn: the others' numbers in single precision are test_shelf.py's.
cases = [pytest.param(case, {}, dtype, id=f"{name_of(case)}-{dtype}") for case in STACKS for dtype in TOLERANCES]
cases += [pytest.param(case, {}, torch.float64, id=name_of(case)) for case in CASES if case not in STACKS]
cases += [pytest.param(case, {"num_layers": 3}, torch.float64, id=f"{name_of(case)}-3-layers") for case in STACKS]


# Widths that other tests compile as well: what is split is time.
@pytest.mark.sample(4)
@given(k=size, rest=size, B=size, widths=st.sampled_from([(s.D, s.H) for s in SMALL]))
@every_executor
@pytest.mark.parametrize(("case", "options", "dtype"), cases)
def test_split(
    case: Case,
    options: dict[str, Any],
    executor: str,
    dtype: torch.dtype,
    k: int,
    rest: int,
    B: int,
    widths: tuple[int, int],
) -> None:
    check(problem(case, Sizes(k + rest, B, *widths), executor, dtype, **options), k)


def check(made: Problem, k: int) -> None:
    whole, parts = made.run(*made.inputs), in_two(made, k)
    all_close(parts, whole, "outputs")
    all_close(gradients(parts, made.inputs), gradients(whole, made.inputs), "gradients")


def in_two(made: Problem, k: int) -> Results:
    """The first k steps, then the others from the state that these leave."""
    run, (x, *others), states = made
    first, *carried = run(x[:k], *others)
    second, *final = run(x[k:], *carried, *others[states:])
    return (torch.cat([first, second]), *final)
