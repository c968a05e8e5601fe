"""Law 1 for the shelf: outputs and every gradient are those of NumPy code that shares nothing with the package."""

from functools import cache

import numpy as np
import pytest
import torch

from elman import cells
from tests.cases import CASES, Case, Sizes, cotangents, every_executor, problem
from tests.oracle import shelf
from tests.tolerances import all_close

SIZES = [Sizes(T=4, B=2, D=3, H=5), Sizes(T=1, B=2, D=3, H=4), Sizes(T=5, B=3, D=1, H=17)]
OF_TORCH = {"rnn", "gru", "lstm"}  # whose oracles have their backward step by hand: test_oracle.py

by_name = {case.name.removeprefix("Recurrent-shelf-"): case for case in CASES if "shelf" in case.name}


def test_every_cell_has_an_oracle() -> None:
    assert set(cells.REGISTRY) == set(shelf.STEPS) | OF_TORCH


@cache
def truth(name: str, sizes: Sizes) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """In double precision, whatever the executor."""
    asked = problem(by_name[name], sizes, "loop")
    arrays = [tensor.detach().numpy() for tensor in asked.inputs]
    cell = cells.by_name(name)(sizes.D, sizes.H)
    names = [parameter for parameter, _ in cell.named_parameters()]
    shapes = asked.run(*asked.inputs)
    x, states, weights = arrays[0], tuple(arrays[1 : 1 + asked.states]), arrays[1 + asked.states :]
    received = [np.asarray(c.numpy()) for c in cotangents(shapes)]
    results, gradients = shelf.answer(shelf.STEPS[name], names, x, states, weights, received)
    return [torch.from_numpy(r) for r in results], [torch.from_numpy(g) for g in gradients]


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("sizes", "dtype"), [*((s, torch.float64) for s in SIZES), (SIZES[-1], torch.float32)], ids=str
)
@every_executor
@pytest.mark.parametrize("name", shelf.STEPS)
def test_outputs_and_gradients(name: str, executor: str, dtype: torch.dtype, sizes: Sizes) -> None:
    case: Case = by_name[name]
    exact = problem(case, sizes, executor)
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in exact.inputs]
    results = exact.run(*inputs)
    received = [c.to(dtype) for c in cotangents([r.double() for r in results])]
    gradients = torch.autograd.grad(results, inputs, received, allow_unused=True, materialize_grads=True)
    right = truth(name, sizes)
    all_close(results, [r.to(dtype) for r in right[0]], "outputs")
    all_close(gradients, [g.to(dtype) for g in right[1]], "gradients")
