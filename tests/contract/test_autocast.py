"""Under autocast, layers return the dtypes of torch.nn's, on every executor."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import elman
from tests.cases import every_executor

D, H = 3, 5


def results(layer: nn.Module, *given: Any) -> list[Tensor]:
    outputs, state = layer(*given)
    rows = outputs.data if isinstance(outputs, PackedSequence) else outputs
    return [rows, *(state if isinstance(state, tuple) else (state,))]


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value


@pytest.mark.sample(8)
@every_executor
@pytest.mark.parametrize("given", ["single", "half", "packed", "without a batch", "states"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_dtypes_are_those_of_torch(name: str, options: dict[str, Any], given: str, executor: str) -> None:
    theirs, ours = getattr(nn, name)(D, H, **options), getattr(elman, name)(D, H, **options, executor=executor)
    ours.load_state_dict(theirs.state_dict())
    x: Any = torch.randn(4, 2, D)
    arguments: tuple[Any, ...] = (x,)
    if given == "half":
        arguments = (x.bfloat16(),)
    if given == "packed":
        arguments = (pack_sequence([x[:, 0], x[:2, 1]]),)
    if given == "without a batch":
        arguments = (x[:, 0],)
    if given == "states":
        h = torch.randn(ours.num_layers * (1 + ours.bidirectional), 2, H)
        arguments = (x, (h, h) if name == "LSTM" else h)
    with torch.autocast("cpu", torch.bfloat16):
        found = results(ours, *arguments)
        try:
            expected = results(theirs, *arguments)
        except RuntimeError as error:  # oneDNN has no LSTM in bfloat16 on CPUs without AVX-512
            if "primitive descriptor" not in str(error):
                raise
            expected = []
    if not expected:
        expected = [value.bfloat16() for value in results(theirs, *(_single(value) for value in arguments))]
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    for ours_is, theirs_is in zip(found, expected, strict=True):
        assert (ours_is.float() - theirs_is.float()).abs().max() < 0.05
    found[0].float().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


@every_executor
@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells(cell: Any, executor: str) -> None:
    layer, x = elman.Recurrent(cell(D, H), executor=executor), torch.randn(4, 2, D)
    generator = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found, one_step = results(layer, x), layer.cell(x[0])
        trajectory = layer.trajectory(x)
    expected = one_step if isinstance(one_step, tuple) else (one_step,)
    assert [value.dtype for value in found] == [expected[0].dtype, *(value.dtype for value in expected)]
    assert trajectory.outputs.dtype == found[0].dtype
    assert torch.equal(torch.get_rng_state(), generator)
    assert {value.dtype for value in results(layer, x)} == {torch.float32}


@every_executor
def test_double_precision_is_left_alone(executor: str) -> None:
    layer, x = elman.LSTM(D, H, executor=executor).double(), torch.randn(4, 2, D, dtype=torch.float64)
    expected = results(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, results(layer, x), expected))
        if executor == "native":
            assert results(layer, x.bfloat16())[0].dtype == torch.float64


@every_executor
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_dtypes_do_not_depend_on_lengths(name: str, executor: str) -> None:
    layer, x = getattr(elman, name)(D, H, executor=executor), torch.randn(4, D)
    with torch.autocast("cpu", torch.bfloat16):
        equal, ragged = (results(layer, pack_sequence([x, x[:length]])) for length in (4, 2))
    assert [value.dtype for value in equal] == [value.dtype for value in ragged]


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_a_compiled_layer(packed: bool) -> None:
    layer, x = elman.LSTM(D, H), torch.randn(4, 2, D)
    given: Any = pack_sequence([x[:, 0], x[:2, 1]], enforce_sorted=False) if packed else x
    compiled: Any = torch.compile(layer, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = results(compiled, given), results(layer, given)
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    assert all(map(torch.equal, found, expected))
