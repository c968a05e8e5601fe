"""Sequences that are more than memory takes, and the data of every task in them."""

import errno
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from elman.data import disk_list
from elman.data.disk_list import DiskList, MappedList, Subset, joined, spread
from elman.data.examples import Example
from elman.data.parts import ExampleStore
from elman.data.splits import drawn_parts
from elman.errors import BadInput
from elman.tasks.registry import get_task, options_of
from tests.small import text
from tests.tasks.test_classify import texts
from tests.tasks.test_image import bars
from tests.tasks.test_tag import sentences
from tests.tasks.test_translate import PAIRS


@pytest.mark.parametrize("memory", [0, 500, None])
def test_a_spool_is_a_sequence(memory: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    items = [Example(f"text {i}", (i, None), name="é" * i) for i in range(20)]
    spool = DiskList(iter(items), memory)
    for _ in range(2):
        assert list(spool) == items
    assert len(spool) == 20
    assert [spool[i] for i in (19, 0, 7, -1, -20)] == [items[i] for i in (19, 0, 7, -1, -20)]
    assert (spool[3:9:2], spool[15:], spool[::-1]) == (items[3:9:2], items[15:], items[::-1])
    for beyond in (20, -21):
        with pytest.raises(IndexError):
            spool[beyond]
    kept = sum(one is other for one, other in zip(spool, items, strict=True))
    assert kept == 0 if memory == 0 else 0 < kept < 20 if memory else kept == 20
    assert list(tmp_path.iterdir()) == []
    assert list(Subset(spool, [3, 1, 1])) == [items[3], items[1], items[1]]
    assert list(MappedList(spool, lambda one: one.name)) == [one.name for one in items]
    assert list(DiskList([], memory)) == []


def test_a_spool_keeps_numbers_and_only_those_that_are_seen() -> None:
    whole = torch.arange(1_000_000, dtype=torch.float32)
    items = [(whole[i : i + 6].view(2, 3).T, np.arange(6).reshape(2, 3).T[::2], [np.float64(i)]) for i in range(5)]
    spool = DiskList(items, 0)
    for (tensor, array, (number,)), (tensor_, array_, (number_,)) in zip(items, spool, strict=True):
        assert tensor.dtype == tensor_.dtype
        assert torch.equal(tensor, tensor_)
        assert array.tobytes() == array_.tobytes()
        assert array.dtype == array_.dtype
        assert number == number_
        tensor_ += 1  # it is nobody else's
    assert spool._ends[-1] < 5000  # bytes in its file


class Full(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        if not self.closed:  # Python 3.13 closes it again when it is collected
            super().close()
            raise OSError


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    for make in (lambda: DiskList("ab", 0), lambda: joined([np.arange(3, dtype=np.int32)], 0)):
        with pytest.raises(BadInput, match=f"{tmp_path}: .*: No space left on device; set TMPDIR to another"):
            make()


@pytest.mark.parametrize("memory", [0, 30, None])
def test_arrays_end_to_end(memory: int | None) -> None:
    arrays = [np.arange(n, dtype=np.int32) for n in (3, 0, 5, 1)]
    found = joined(iter(arrays), memory)
    assert found.dtype == np.int32
    assert found.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert isinstance(found, np.memmap) == (memory is not None)
    assert joined([], memory).tolist() == []


def test_some_are_from_all_over() -> None:
    assert list(spread(range(10), 4)) == [0, 2, 5, 7]
    assert spread(range(10), 10) == range(10)


def test_groups_are_drawn_as_before() -> None:
    """The split is part of what a seed promises."""
    groups = [None, "a", "b", "a", ("a",), None, "c", ("a",), 7, 7.0, "d", "e", "f"]
    examples = [Example(i, i, group) for i, group in enumerate(groups)]
    found = drawn_parts(ExampleStore(examples, list).contents.components(), 3, ["validation", "test"], "task")
    assert found == {"validation": [12], "test": [8, 9], "train": [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]}


CASES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "image": lambda: (bars(), {"size": 5}),
    "caption": lambda: (bars(), {}),
    "classify": lambda: (texts(), {}),
    "tag": lambda: (tuple(zip(*(zip(*one, strict=True) for one in sentences()), strict=True)), {}),
    "translate": lambda: (PAIRS, {"tokens": "word"}),
    "forecast": lambda: (np.sin(np.arange(120)), {"season": 8, "horizon": 4, "context": 16}),
    "text char": lambda: (None, {"tokens": "char"}),
    "text word": lambda: (None, {"tokens": "word"}),
    "text bpe": lambda: (None, {"tokens": "bpe", "vocabulary": 300}),
}


def prepared(task: str, data: Any, given: dict[str, Any]) -> list[bytes]:
    """All that a training has of its data, as bytes."""
    kind, module = get_task(task), options_of(task)
    found = kind.prepare(data, module.OPTIONS(**given | {"batch": 4}), 1)
    batches = [batch for part in (found.train, found.validation) for batch in part]
    numbers = [leaf.numpy() for leaf in tree_leaves(batches) if isinstance(leaf, torch.Tensor)]
    assert numbers
    return [
        json.dumps([found.facts, found.files, found.model_args, found.summary]).encode(),
        *(n.tobytes() for n in numbers),
    ]


@pytest.mark.parametrize("case", CASES)
def test_what_lies_in_files_is_the_same(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, given = CASES[case]()
    task = case.split()[0]
    if task == "text":
        (tmp_path / "text.txt").write_text(text(3000))
        data = [tmp_path / "text.txt"]
    whole = prepared(task, data, given)
    made: list[Any] = []

    def temporary(original: Any = tempfile.TemporaryFile) -> Any:
        made.append(original())
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    monkeypatch.setattr(disk_list, "MEMORY", 0)
    assert prepared(task, data, given) == whole
    # Examples, or a text; what is encoded of the parts that are read again; the texts that a tokenizer is fitted on.
    assert len(made) == {"forecast": 0, "caption": 4, "translate": 4, "text": 4}.get(task, 3)
