"""What a stream walks: sequences of any kind, what stands behind them, and what is told of those that cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from elman.bptt import Chunk, stream
from tests.bptt.streams import numbered, told
from tests.tolerances import close


def test_parts_of_a_sequence_keep_their_kind_and_have_their_padding(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.arange(5, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    [chunk] = stream([(mapped, y), (mapped[:2], y[:2])], batch=2, steps=6, padding=(-1, 7))
    values, targets = chunk.values
    assert (values.dtype, targets.dtype) == (torch.float32, torch.uint8)
    np.testing.assert_array_equal(values[:5, 0], x)
    assert targets.T.tolist() == [[0, 1, 2, 3, 4, 7], [0, 1, 7, 7, 7, 7]]
    assert bool((values[2:, 1] == -1).all())
    values.add_(1)
    np.testing.assert_array_equal(mapped, x)
    moved = chunk.to("meta")
    assert type(moved) is Chunk
    assert {moved.values[0].device, moved.lengths.device, moved.fresh.device} == {torch.device("meta")}


@pytest.mark.parametrize("padding", [np.int16(-100), np.float32(-100), [np.int64(-100)], np.array([-100])], ids=repr)
def test_padding_of_any_kind(padding: Any) -> None:
    [chunk] = stream(numbered([1, 2]), 2, 2, padding=padding)
    assert chunk.values.T.tolist() == [[100, -100], [200, 201]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.bool, torch.uint8], ids=str)
def test_numbers_of_every_kind_of_torch(dtype: torch.dtype) -> None:
    sequences = [torch.randn(length, 3).to(dtype) for length in (5, 2)]
    chunk, last = stream(sequences, 2, 3, padding=1)
    expected = torch.ones(6, 2, 3, dtype=dtype)
    for b, sequence in enumerate(sequences):
        expected[: len(sequence), b] = sequence
    assert torch.equal(torch.cat([chunk.values, last.values]), expected)


def test_gradients_reach_the_sequences() -> None:
    series = torch.randn(7, 3, requires_grad=True)
    values = torch.cat([chunk.values for chunk in stream(series, 2, 3)])
    assert torch.equal(values[:4, 0], series[:4])
    assert torch.equal(values[:3, 1], series[4:])
    close(torch.autograd.grad(values.square().sum(), series)[0], 2 * series, "gradients")


@pytest.mark.parametrize("kind", [">i2", ">f8", "<i4"])
def test_arrays_in_any_order_of_bytes(kind: str) -> None:
    chunks = list(stream(np.arange(7).astype(kind)[::-1], 2, 3))
    assert torch.cat([chunk.values for chunk in chunks]).T.tolist() == [[6, 5, 4, 3, 0, 0], [2, 1, 0, 0, 0, 0]]


class Folder:
    """Sequences that are read by index."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Tensor:
        self.read.append(index)
        return numbered([4, 4, 4])[index]


def test_sequences_come_from_anything_that_can_be_gone_through() -> None:
    expected = told(stream(numbered([4, 4, 4]), 2, 3))
    assert told(stream((s for s in numbered([4, 4, 4])), 2, 3)) == expected
    folder: Any = Folder()
    chunks = stream(folder, 2, 3)
    assert told(chunks) == expected
    folder.read.clear()
    assert chunks[2].lengths.tolist() == [3, 0]
    assert folder.read == [2, 1]  # no more than the rows are at, or have been at last


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (numbered([5]), {"batch": 0}, ValueError, "stream: batch: expected an integer of at least 1, got 0"),
    (numbered([5]), {"steps": 2.5}, ValueError, "stream: steps: expected an integer of at least 1, got 2.5"),
    (numbered([5]), {"batch": True}, ValueError, "stream: batch: expected an integer of at least 1, got True"),
    (numbered([5]), {"batch": np.int64(0)}, ValueError, "stream: batch: expected an integer of at least 1, got 0"),
    ([], {}, ValueError, "stream: sequences: expected more steps, got 0 in 0 sequences"),
    (numbered([0, 0]), {}, ValueError, "stream: sequences: expected more steps, got 0 in 2 sequences"),
    (None, {}, TypeError, "stream: sequences: expected a tensor or array (T, ...), or several in order, got NoneType"),
    ({"x": 1}, {}, TypeError, "stream: sequences: expected a tensor or array (T, ...), or several in order, got dict"),
    ([[1, 2]], {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...), or a tuple of these; got list"),
    ([()], {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...), or a tuple of these; got nothing"),
    (torch.tensor(3), {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...)"),
    (
        (torch.zeros(4), torch.zeros(3)),
        {},
        ValueError,
        "stream: sequence 0: expected parts of equal length, got 4 and 3 steps",
    ),
    (
        [torch.zeros(4, 3), torch.zeros(4, 2)],
        {},
        ValueError,
        "stream: sequence 1: expected (T, 3) torch.float32, as sequence 0 is; got (T, 2) torch.float32",
    ),
    (
        [torch.zeros(4), np.zeros(4)],
        {},
        ValueError,
        "stream: sequence 1: expected (T) torch.float32, as sequence 0 is; got (T) numpy.float64",
    ),
    (
        numbered([5]),
        {"padding": (0, 1)},
        ValueError,
        "stream: padding: expected one number, or 1, one for each part; got (0, 1)",
    ),
    (
        [np.zeros((5, 3), np.uint8)],
        {"padding": -100},
        ValueError,
        "stream: padding: expected a value that (T, 3) numpy.uint8 can hold, got -100",
    ),
    (
        numbered([5]),
        {"padding": "-100"},
        ValueError,
        "stream: padding: expected one number, or 1, one for each part; got '-100'",
    ),
    (
        [np.zeros(5)],
        {"padding": None},
        ValueError,
        "stream: padding: expected a value that (T) numpy.float64 can hold, got None",
    ),
    (
        [np.zeros(5, np.float16)],
        {"padding": 1e6},
        ValueError,
        "stream: padding: expected a value that (T) numpy.float16 can hold, got 1000000.0",
    ),
    (
        np.array(["a", "b"]),
        {},
        TypeError,
        "stream: sequence 0: expected a dtype that torch supports, got (T) numpy.<U1",
    ),
    (
        numbered([5]),
        {"padding": 0.5},
        ValueError,
        "stream: padding: expected a value that (T) torch.int64 can hold, got 0.5",
    ),
    (
        numbered([5]),
        {"rank": 2, "world_size": 2},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 2 and 2",
    ),
    (
        numbered([5]),
        {"rank": 0.5, "world_size": 2},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 0.5 and 2",
    ),
    (
        numbered([5]),
        {"rank": 0},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 0 and None",
    ),
]


@pytest.mark.parametrize(("sequences", "options", "error", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_line(
    sequences: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        stream(sequences, **{"batch": 2, "steps": 3} | options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
