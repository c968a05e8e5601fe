"""torch's own test inputs for RNN, GRU and LSTM, valid and wrong, with the layers of this package in their place."""

import re
from typing import Any

import pytest
import torch

import elman
from tests.cases import every_executor
from tests.tolerances import all_close

# torch's own, on loading its test cases.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
LAYERS: dict[str, Any] = {"RNN": elman.RNN, "GRU": elman.GRU, "LSTM": elman.LSTM}


def of(name: str) -> Any:
    from torch.testing._internal.common_modules import module_db

    return next(info for info in module_db if info.module_cls is getattr(torch.nn, name))


def in_a_row(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [tensor for value in values for tensor in in_a_row(value)]


@pytest.mark.slow
@every_executor
@pytest.mark.parametrize("name", LAYERS)
def test_valid(name: str, executor: str) -> None:
    info, dtype = of(name), torch.float64
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(samples) >= 16
    for sample in samples:
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        layer = LAYERS[name](*args, **kwargs, executor=executor).to(dtype)
        twin = getattr(torch.nn, name)(*args, **kwargs).to(dtype)
        twin.load_state_dict(layer.state_dict(), strict=True)
        found, expected = (
            in_a_row(m(*sample.forward_input.args, **sample.forward_input.kwargs)) for m in (layer, twin)
        )
        all_close(found, expected, "outputs")
        both = [torch.autograd.grad([v.sum() for v in values], list(m.parameters()))
                for values, m in ((found, layer), (expected, twin))]  # fmt: skip
        all_close(both[0], both[1], "gradients")
        if sample.reference_fn is not None:
            reference = sample.reference_fn(layer, *sample.forward_input.args)
            all_close(found, in_a_row(reference), "outputs")


@pytest.mark.parametrize("name", LAYERS)
def test_wrong(name: str) -> None:
    info = of(name)
    samples = info.module_error_inputs_func(info, "cpu", torch.float64, requires_grad=False, training=False)
    assert len(samples) >= 10
    for sample in samples:
        wrong = sample.module_error_input
        with pytest.raises(sample.error_type) as raised:
            made_and_called(LAYERS[name], wrong)
        assert re.search(sample.error_regex, str(raised.value)), raised.value


def made_and_called(layer: Any, wrong: Any) -> None:
    made = layer(*wrong.constructor_input.args, **wrong.constructor_input.kwargs)
    made(*wrong.forward_input.args)
