"""Layers are good modules: copied, pickled, converted, called with other weights, trained, given nothing."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.cases import Case, Sizes, call, every_case, every_executor, gradients, in_a_row, random_states
from tests.tolerances import all_close

T, B, D, H = Sizes(T=4, B=2, D=3, H=5)
pytestmark = [every_case, every_executor]


@pytest.mark.sample(8)
def test_a_deepcopy_is_equal_and_independent(case: Case, executor: str) -> None:
    layer, x = case.build(D, H, executor=executor), torch.randn(T, B, D)
    before = call(layer, x)
    copy = deepcopy(layer)
    all_close(call(copy, x), before, "outputs")
    halve(copy)
    assert not torch.allclose(call(copy, x)[0], before[0])
    all_close(call(layer, x), before, "outputs")


@pytest.mark.sample(8)
def test_a_pickle_is_equal(case: Case, executor: str) -> None:
    layer, x = case.build(D, H, executor=executor), torch.randn(T, B, D)
    before = call(layer, x)
    copy = pickle.loads(pickle.dumps(layer))
    assert repr(copy) == repr(layer)
    all_close(call(copy, x), before, "outputs")


@pytest.mark.sample(8)
def test_weights_changed_in_place_are_seen(case: Case, executor: str) -> None:
    """Nothing derived from the weights is kept from one call to the next."""
    layer, x = case.build(D, H, executor=executor), torch.randn(T, B, D)
    call(layer, x)
    halve(layer)
    fresh = case.build(D, H, executor=executor)
    fresh.load_state_dict(layer.state_dict())
    all_close(call(layer, x), call(fresh, x), "outputs")


@pytest.mark.sample(8)
def test_functional_call(case: Case, executor: str) -> None:
    layer, other = case.build(D, H, executor=executor), case.build(D, H, executor=executor)
    x = torch.randn(T, B, D)
    weights: dict[str, Tensor] = dict(other.named_parameters())
    borrowed, own, expected = in_a_row(functional_call(layer, weights, (x,))), call(layer, x), call(other, x)
    all_close(borrowed, expected, "outputs")
    assert not torch.allclose(own[0], expected[0])
    given = list(weights.values())
    all_close(gradients(borrowed, given), gradients(expected, given), "gradients")
    with pytest.raises(RuntimeError, match="not have been used"):
        gradients(borrowed, list(layer.parameters()))


@pytest.mark.sample(8)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_conversion(case: Case, executor: str, dtype: torch.dtype) -> None:
    layer = case.build(D, H, executor=executor).to(dtype)
    results = call(layer, torch.randn(T, B, D, dtype=dtype))
    assert {tensor.dtype for tensor in (*layer.parameters(), *results)} == {dtype}


@pytest.mark.sample(8)
def test_a_batch_of_nothing(case: Case, executor: str) -> None:
    layer = case.build(D, H, executor=executor).double()
    x, states = torch.zeros(T, 0, D, dtype=torch.float64, requires_grad=True), random_states(layer, (0,))
    results = call(layer, x, states)
    assert [result.shape for result in results] == [(T, 0, states[0].shape[-1]), *(state.shape for state in states)]
    weights = list(layer.parameters())
    all_close(gradients(results, weights), [torch.zeros_like(weight) for weight in weights], "gradients")


def halve(layer: nn.Module) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.5)
