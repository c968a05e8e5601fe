"""`layer.step`: a stream step by step is the sequence, whichever way it takes."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman import cells
from elman.engine import EXECUTORS, as_tuple
from elman.engine.executor import MAX_STEP_ROWS
from tests.cases import every_executor
from tests.tolerances import TOLERANCES, all_close

T, D, H = 5, 3, 20
native = pytest.mark.skipif("native" not in EXECUTORS, reason="the native executor is switched off")


def stepped(layer: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    outputs = []
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
    return torch.stack(outputs), state


def agrees(layer: Any, x: Tensor, state: Any = None) -> None:
    (outputs, last), (expected, final) = stepped(layer, x, state), layer(x, state)
    all_close((outputs, *as_tuple(last)), (expected, *as_tuple(final)), "outputs")


@pytest.mark.sample(8)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("B", [1, 3, 6])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@every_executor
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "projected_lstm", "min_gru", "multiplicative_lstm", "slstm"])
def test_a_stream_is_the_sequence(
    name: str, executor: str, dtype: torch.dtype, B: int, mode: Callable[[], Any], ran: list[int]
) -> None:
    layer = elman.Stack(D, H, 2, cell_type=cells.by_name(name), executor=executor, dtype=dtype)
    with mode():
        agrees(layer, torch.randn(T, B, D, dtype=dtype))
    assert bool(ran) == (executor == "native")


@pytest.mark.sample(8)
@native
@torch.no_grad()
@pytest.mark.sample(4)
@pytest.mark.parametrize(("num_layers", "dtype"), [(1, torch.float32), (2, torch.float32), (1, torch.bfloat16)])
@pytest.mark.parametrize("name", cells.REGISTRY)
def test_a_row_of_a_step_is_the_same_in_every_batch(
    name: str, num_layers: int, dtype: torch.dtype, ran: list[int]
) -> None:
    """Bit for bit: a step of one stream, and the same with those of others."""
    layer = elman.Stack(D, H, num_layers, cell_type=cells.by_name(name), dtype=dtype, executor="native")
    x = torch.randn(2, MAX_STEP_ROWS, D, dtype=dtype)
    state = tuple(part.contiguous() for part in as_tuple(layer(x[:1])[1]))

    def step(begin: int, end: int) -> tuple[Tensor, ...]:
        rows = [part[:, begin:end].contiguous() for part in state]
        output, last = layer.step(x[1, begin:end], rows[0] if len(rows) == 1 else tuple(rows))
        return output, *as_tuple(last)

    whole = step(0, MAX_STEP_ROWS)
    for begin, end in ((0, 1), (31, 32), (10, 12), (14, 19), (1, 30)):
        for part, expected in zip(step(begin, end), whole, strict=True):
            assert torch.equal(part, expected.narrow(part.dim() - 2, begin, end - begin))
    assert len(ran) >= 6


@pytest.mark.sample(8)
@native
@torch.no_grad()
@pytest.mark.sample(4)
@pytest.mark.parametrize("B", [1, 4, 5, 64])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_small_calls_are_prepared(name: str, batch_first: bool, B: int, ran: list[int]) -> None:
    layer = elman.Stack(D, H, 2, cell_type=cells.by_name(name), batch_first=batch_first)
    x = torch.randn(B, 2, D) if batch_first else torch.randn(2, B, D)
    loop = elman.Stack(D, H, 2, cell_type=cells.by_name(name), batch_first=batch_first, executor="loop")
    loop.load_state_dict(layer.state_dict())
    expected, final = loop(x)
    whole, last = layer(x)
    all_close((whole, *as_tuple(last)), (expected, *as_tuple(final)), "outputs")
    assert len(ran) == 1
    first, state = layer(x.narrow(int(batch_first), 0, 1))
    second, state = layer(x.narrow(int(batch_first), 1, 1), state)
    assert len(ran) == 3
    all_close((torch.cat((first, second), int(batch_first)), *as_tuple(state)), (expected, *as_tuple(final)), "outputs")
    calls = []
    layer.register_forward_hook(lambda *arguments: calls.append(1))
    layer(x.narrow(int(batch_first), 0, 1))
    assert (len(ran), len(calls)) == (4, 1)


@every_executor
def test_without_a_batch(executor: str) -> None:
    agrees(elman.LSTM(D, H, executor=executor), torch.randn(T, D))


def test_gradients_go_through_steps() -> None:
    layer, x = elman.GRU(D, H, 2).double(), torch.randn(T, 2, D, dtype=torch.float64)
    found = [torch.autograd.grad(run(layer, x)[0].square().sum(), list(layer.parameters()))
             for run in (stepped, lambda layer, x: layer(x))]  # fmt: skip
    all_close(found[0], found[1], "gradients")


@native
@torch.no_grad()
def test_changes_are_seen(ran: list[int]) -> None:
    layer, x = elman.LSTM(D, H, 2), torch.randn(T, 1, D)
    agrees(layer, x)
    layer.weight_hh_l0.data.mul_(2)  # type: ignore[operator]
    agrees(layer, x)
    layer.weight_ih_l1.data = torch.randn_like(layer.weight_ih_l1)  # type: ignore[arg-type]
    agrees(layer, x)
    layer.weight_hh_l1 = nn.Parameter(torch.randn(2 * H, 4 * H).t()[:, :H])  # lies in columns
    agrees(layer, x)
    layer.weight_hh_l1 = nn.Parameter(layer.weight_hh_l1.contiguous())
    agrees(layer.double(), x.double())
    agrees(layer.float(), x)
    agrees(copy.deepcopy(layer), x)
    agrees(pickle.loads(pickle.dumps(layer)), x)
    assert len(ran) > 3 * T


@native
@torch.no_grad()
def test_what_takes_the_long_way(ran: list[int]) -> None:
    layer, x = elman.GRU(D, H, 2, dropout=0.5), torch.randn(T, 1, D)
    layer.step(x[0])
    assert not ran, "dropout in training"
    agrees(layer.eval(), x)
    count = len(ran)
    assert count == T + 1
    with torch.autocast("cpu"):
        layer.step(x[0])
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    agrees(layer, x)
    assert len(ran) == count, "autocast, parametrized weights"
    agrees(elman.GRU(D, H), torch.randn(T, D, 1).transpose(1, 2))  # not contiguous
    assert len(ran) == 2 * count


@native
@torch.no_grad()
def test_hooks_and_dropout_that_come_later(ran: list[int]) -> None:
    layer, x = elman.GRU(D, H, 2), torch.randn(1, D)
    plain = layer.step(x)[0]
    assert len(ran) == 1
    hook = layer.register_forward_hook(lambda module, given, result: (2 * result[0], result[1]))
    all_close([layer.step(x)[0]], [2 * plain], "outputs")
    hook.remove()
    assert len(ran) == 2  # the call, with its hook around it, takes the short way too
    layer.dropout = 0.9
    assert not torch.equal(layer.step(x)[0], layer.step(x)[0])
    assert len(ran) == 2


@native
@torch.no_grad()
def test_what_streams_look_like(ran: list[int]) -> None:
    """Steps of a batch_first sequence, a state that is a view, a layer with more than its own parameters."""

    class WithHead(elman.LSTM):
        def __init__(self) -> None:
            super().__init__(D, H, 2, batch_first=True)
            self.head = nn.Linear(H, 1)
            self.register_parameter("nothing", None)

    layer, x = WithHead(), torch.randn(2, T, D)
    layer.weight_hh_l1 = layer.weight_hh_l0
    state: Any = (torch.randn(2, 1, H).expand(2, 2, H), torch.zeros(2, 2, H))
    expected = layer(x, state)[0]
    for t in range(T):
        output, state = layer.step(x[:, t], state)
        all_close([output], [expected[:, t]], "outputs")
    assert len(ran) == 1 + T
    negative = torch._neg_view(torch.randn(2, 2, H))
    output, _ = layer.step(x[:, 0], (negative, negative))
    assert len(ran) == 1 + T
    all_close([output], [layer(x[:, :1], (negative.resolve_neg(),) * 2)[0][:, 0]], "outputs")


@native
@torch.no_grad()
def test_several_at_once() -> None:
    layer, x = elman.LSTM(D, H, 2), torch.randn(50, 8, 1, D)
    expected = [layer(x[:, k])[0] for k in range(8)]
    found: dict[int, Tensor] = {}

    @torch.no_grad()
    def run(k: int) -> None:
        found[k] = stepped(layer, x[:, k])[0]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_close([found[k] for k in range(8)], expected, "outputs")


@torch.no_grad()
def test_the_output_is_nobody_elses() -> None:
    layer, x = elman.GRU(D, H), torch.randn(2, 1, D)
    output, h = layer.step(x[0])
    output.zero_()
    assert h.any()


def test_wrong() -> None:
    with pytest.raises(ValueError, match="GRU: step: expected one direction, got bidirectional=True"):
        elman.GRU(D, H, bidirectional=True).step(torch.zeros(1, D))
    with torch.no_grad(), pytest.raises(ValueError, match="GRU: state: expected shape"):
        elman.GRU(D, H).step(torch.zeros(1, D), torch.zeros(2, 1, H))
    with torch.no_grad(), pytest.raises(ValueError, match="GRU: input: expected width 3"):
        elman.GRU(D, H).step(torch.zeros(1, 4))


@pytest.mark.parametrize("given", [None, [[1.0]], torch.zeros(1, 2, D), torch.tensor(0.0)], ids=str)
def test_no_step(given: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=r"GRU: step: input: expected (a tensor )?\(B, D\) or \(D,\), got"
    ):
        elman.GRU(D, H).step(given)


@every_executor
def test_of_any_cell(executor: str) -> None:
    layer = elman.Recurrent(nn.LSTMCell(D, H), executor=executor)
    agrees(layer, torch.randn(T, 2, D))
    agrees(elman.Recurrent(nn.GRUCell(D, H), batch_first=True), torch.randn(T, D))
