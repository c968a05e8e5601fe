"""Long sequences in chunks: every step once and in its place."""

from itertools import chain, pairwise
from math import ceil
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from elman.bptt import stream
from tests.bptt.streams import numbered, several, small, told, walked


@given(lengths=several, batch=small, steps=small)
def test_several_sequences_are_walked_once_each_from_beginning_to_end(
    lengths: list[int], batch: int, steps: int
) -> None:
    chunks = stream(numbered(lengths), batch, steps)
    assert sorted(walked(chunks)) == [s.tolist() for s in numbered(lengths) if len(s)]
    assert all(chunk.values.shape == (steps, batch) for chunk in chunks)
    assert any(chunks[len(chunks) - 1].lengths > 0)
    for before, after in pairwise(chunks):  # nobody waits while there is something to walk
        assert not bool(((before.lengths == 0) & (after.lengths > 0)).any())


@given(length=st.integers(1, 60), batch=small, steps=small)
def test_one_long_sequence_is_cut_into_streams_that_follow_each_other(length: int, batch: int, steps: int) -> None:
    [sequence] = numbered([length])
    chunks = stream(sequence, batch, steps)
    assert list(chain(*walked(chunks))) == sequence.tolist()
    assert len(walked(chunks)) <= batch
    assert len(chunks) == ceil(ceil(length / batch) / steps)


@given(length=st.integers(1, 60), batch=small, steps=small)
def test_what_fills_no_chunk_can_be_left_out(length: int, batch: int, steps: int) -> None:
    [sequence] = numbered([length])
    width = length // batch
    if width < steps:
        with pytest.raises(ValueError, match=f"expected more steps to fill {batch} rows, got {length} in 1 sequences"):
            stream(sequence, batch, steps, drop_last=True)
        return
    chunks = stream(sequence, batch, steps, drop_last=True)
    assert all(bool(chunk.mask.all()) for chunk in chunks)
    expected = [sequence[b * width :][: width // steps * steps].tolist() for b in range(batch)]
    assert walked(chunks) == expected


def test_of_several_what_leaves_a_row_empty_can_be_left_out() -> None:
    assert [chunk.lengths.tolist() for chunk in stream(numbered([5, 2, 1]), 2, 2)] == [[2, 2], [2, 1], [1, 0]]
    chunks = stream(numbered([5, 2, 1]), 2, 2, drop_last=True)
    assert [chunk.lengths.tolist() for chunk in chunks] == [[2, 2], [2, 1]]


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor], ids=["int64", "uint8", "tensor"])
def test_whole_numbers_of_any_kind(number: Any) -> None:
    sequences = numbered([9, 4, 5])
    found = stream(sequences, number(2), number(3), rank=number(1), world_size=number(2))
    assert told(found) == told(stream(sequences, 2, 3, rank=1, world_size=2))
