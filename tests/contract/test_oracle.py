"""Law 1: outputs and every gradient are those of NumPy code that shares nothing with the package."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.cases import (
    CASES,
    SMALL,
    STACKS,
    Case,
    Problem,
    Results,
    Sizes,
    cotangents,
    every_executor,
    name_of,
    problem,
)
from tests.oracle import Answer, Array, Oracle, Weights
from tests.tolerances import TOLERANCES, all_close

# Beyond the small ones, a size where every loop of a kernel has a full vector and a rest.
SIZES = [*SMALL, Sizes(T=29, B=6, D=17, H=35)]


@pytest.mark.sample(60)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@every_executor
@pytest.mark.parametrize("case", [case for case in CASES if case.oracle], ids=name_of)
def test_outputs_and_gradients(case: Case, executor: str, dtype: torch.dtype, sizes: Sizes, bias: bool) -> None:
    check(case, executor, dtype, sizes, bias)


@pytest.mark.sample(4)
@settings(max_examples=5)
@given(sizes=st.builds(Sizes, T=st.integers(1, 9), B=st.integers(1, 20), D=st.integers(1, 40), H=st.integers(1, 40)))
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@every_executor
@pytest.mark.parametrize("case", STACKS, ids=name_of)
def test_any_sizes(case: Case, executor: str, dtype: torch.dtype, sizes: Sizes) -> None:
    check(case, executor, dtype, sizes, bias=True)


def check(case: Case, executor: str, dtype: torch.dtype, sizes: Sizes, bias: bool) -> None:
    """Raise AssertionError unless the layer's results and gradients are the oracle's."""
    asked = problem(case, sizes, executor, dtype, bias=bias)
    results = asked.run(*asked.inputs)
    received = cotangents(results)
    gradients = torch.autograd.grad(results, asked.inputs, received)

    assert case.oracle is not None
    answer = ask(case.oracle, asked, received)
    all_close(results, as_tensors((answer.outputs, *answer.final), results), "outputs")
    x, states, weights = answer.gradients
    all_close(gradients, as_tensors((x, *states, *weights)[: len(gradients)], gradients), "gradients")


def ask(oracle: Oracle, asked: Problem, received: list[Tensor]) -> Answer:
    """The oracle's answer; it computes in float64 whatever the layer did, with zeros where there is no bias."""
    x, *rest = map(as_array, asked.inputs)
    h_0, weights = rest[: asked.states], rest[asked.states :]
    no_bias = [np.zeros(len(weights[0]))] * (4 - len(weights))
    dy, *d_final = map(as_array, received)
    return oracle(Weights(*weights, *no_bias), x, one_layer(h_0), dy, one_layer(d_final))


def as_array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().double().numpy())


def one_layer(states: list[Array]) -> tuple[Array, ...]:
    """(B, H) of each state, which the stacks have as (1, B, H)."""
    return tuple(state.reshape(state.shape[-2:]) for state in states)


def as_tensors(arrays: tuple[Array, ...], like: Results) -> Results:
    pairs = zip(arrays, like, strict=True)
    return tuple(torch.from_numpy(array).to(tensor.dtype).view_as(tensor) for array, tensor in pairs)
