"""A stream that several processes share."""

import multiprocessing
import warnings
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from torch import distributed, nn

from elman.bptt import Stream, stream
from tests.bptt.streams import numbered, several, told, walked

PATIENCE = 60  # seconds


def shares(sequences: Any, world_size: int, **options: Any) -> list[Stream]:
    return [stream(sequences, 2, 3, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


@given(lengths=several, world_size=st.integers(1, 4))
def test_processes_share_the_sequences_and_have_as_many_chunks(lengths: list[int], world_size: int) -> None:
    of_each = shares(numbered(lengths), world_size)
    assert len({len(chunks) for chunks in of_each}) == 1
    found = [sequence for chunks in of_each for sequence in walked(chunks)]
    assert sorted(found) == [s.tolist() for s in numbered(lengths) if len(s)]


def test_processes_share_one_long_sequence() -> None:
    [sequence] = numbered([50])
    of_each = shares(sequence, 3, drop_last=True)
    found = chain(*map(walked, of_each))
    assert sorted(found) == walked(stream(sequence, 6, 3, drop_last=True))


def test_torch_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before, alone = stream(numbered([50])[0], 2, 3), stream(numbered([50])[0], 2, 3, rank=0, world_size=1)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    found = stream(numbered([50])[0], 2, 3)
    with pytest.raises(
        RuntimeError, match=r"stream: created before torch\.distributed was initialized for 3 processes"
    ):
        next(iter(before))
    assert len(told(alone)) == len(alone)
    assert told(found) == told(shares(numbered([50])[0], 3)[1])


def train_in_step(rank: int, store: Path, sender: Connection) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model, state, steps = nn.parallel.DistributedDataParallel(nn.GRU(1, 4)), None, 0
    for chunk in stream([s.float().unsqueeze(1) / 100 for s in numbered([9, 4, 1])], batch=2, steps=3):
        outputs, state = model(chunk.values, chunk.carry(state))
        model.zero_grad()
        outputs.masked_fill(~chunk.mask.unsqueeze(-1), 0).sum().backward()
        steps += int(chunk.lengths.sum())
    sender.send((steps, [parameter.grad.tolist() for parameter in model.parameters() if parameter.grad is not None]))
    distributed.destroy_process_group()


def test_two_processes_train_in_step(tmp_path: Path) -> None:
    """The second has nothing left in its last chunks, and waits for no one."""
    if "fork" not in multiprocessing.get_all_start_methods() or not distributed.is_available():
        pytest.skip("no fork here, or no processes of torch")
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    started = [
        context.Process(target=train_in_step, args=(rank, tmp_path / "store", sender))
        for rank, (_, sender) in enumerate(pipes)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of any fork while threads live
        for process in started:
            process.start()
    try:
        assert all(receiver.poll(PATIENCE) for receiver, _ in pipes), "a process hangs"
        (steps, gradients), (other_steps, other_gradients) = (receiver.recv() for receiver, _ in pipes)
    finally:
        for process in started:
            process.kill()
            process.join()
    assert (steps, other_steps) == (10, 4)
    assert len(gradients) == 4
    assert gradients == other_gradients
