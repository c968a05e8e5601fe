"""The state, carried from each chunk of a stream to the next."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman
from elman.bptt import Chunk, stream
from tests.cases import every_executor
from tests.tolerances import all_close, close


def recurrent(executor: str) -> elman.Recurrent:
    return elman.Recurrent(elman.cells.LSTM(3, 5), executor=executor)


def stacked(executor: str) -> elman.Stack:
    return elman.LSTM(3, 5, num_layers=2, executor=executor)


@every_executor
@pytest.mark.parametrize("build", [recurrent, stacked])
def test_a_layer_walks_sequences_in_chunks_as_it_runs_over_each_whole(build: Any, executor: str) -> None:
    layer = build(executor)
    sequences = [torch.randn(length, 3) for length in (9, 4, 1, 6, 8)]
    chunks, state = stream([(x, x[:, 0]) for x in sequences], batch=2, steps=3), None
    outputs: dict[float, list[Tensor]] = {float(x[0, 0]): [] for x in sequences}
    of_row = [0.0, 0.0]
    for chunk in chunks:
        values, first = chunk.values
        after, state = layer(values, chunk.carry(state))
        for b in range(2):
            of_row[b] = float(first[0, b]) if chunk.fresh[b] else of_row[b]
            outputs[of_row[b]].append(after[: int(chunk.lengths[b]), b])
    for x, found in zip(sequences, outputs.values(), strict=True):
        close(torch.cat(found), layer(x)[0], "outputs")


def test_the_gradient_ends_where_a_chunk_begins() -> None:
    layer, series = nn.GRU(3, 5), torch.randn(6, 3)
    state, total = None, torch.zeros(())
    for chunk in stream(series, 1, 2):
        outputs, state = layer(chunk.values, chunk.carry(state))
        total = total + outputs.sum()
    found = torch.autograd.grad(total, list(layer.parameters()))
    h, expected = torch.zeros(1, 1, 5), torch.zeros(())
    for part in series.unsqueeze(1).split(2):
        outputs, h = layer(part, h.detach())
        expected = expected + outputs.sum()
    all_close(found, torch.autograd.grad(expected, list(layer.parameters())), "gradients")


def chunk_of(fresh: list[bool]) -> Chunk:
    return Chunk(torch.zeros(4, len(fresh), 2), torch.full((len(fresh),), 4), torch.tensor(fresh))


def test_a_state_of_any_form_is_detached_and_begun_anew() -> None:
    one, two = torch.randn(3, 5, requires_grad=True), torch.full((2, 3, 5), torch.nan).half()
    first, (second, third) = chunk_of([False, True, False]).carry((one, (two, one)))
    assert not first.requires_grad
    assert torch.equal(first, one * torch.tensor([1, 0, 1]).unsqueeze(1))
    assert second.dtype == torch.float16  # NaN is not carried into what is begun anew
    assert second.isnan().all(-1).tolist() == [[True, False, True]] * 2
    assert torch.equal(third, first)
    assert chunk_of([True]).carry(None) is None


def test_a_sequence_begins_from_what_is_given_and_can_be_learned() -> None:
    h0, c0 = (torch.randn(2, 1, 5, requires_grad=True) for _ in range(2))
    chunk = chunk_of([False, True, True])
    h, c = chunk.carry((torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)), start=(h0, c0))
    assert torch.equal(h, h0 * torch.tensor([0, 1, 1]).unsqueeze(1))
    close(torch.autograd.grad(c.sum(), c0)[0], torch.full((2, 1, 5), 2.0), "gradients")
    h, c = chunk.carry(None, start=(h0, c0))
    assert torch.equal(c, c0.expand(2, 3, 5))
    assert torch.equal(chunk.carry(None, start=h0[0, 0]), h0[0].expand(3, 5))


def test_a_state_of_another_batch() -> None:
    with pytest.raises(
        ValueError, match=r"carry: state: expected batch size 2 in the second-to-last axis, got shape \(3, 5\)"
    ):
        chunk_of([True, False]).carry((torch.zeros(1, 2, 5), torch.zeros(3, 5)))
