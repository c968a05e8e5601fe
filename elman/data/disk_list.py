"""Sequences that may be larger than memory."""

import contextlib
import io
import pickle
import sys
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from elman.errors import BadInput

MEMORY = 1 << 29  # bytes that a DiskList keeps in memory
_OVERHEAD = 120  # approximate overhead of an array or tensor, in bytes

T = TypeVar("T")
S = TypeVar("S")


class _Indexed(Sequence[T]):
    """A sequence defined by `_at`; slices are lists."""

    def _at(self, i: int) -> T:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index])

    def __iter__(self) -> Iterator[T]:
        return (self._at(i) for i in range(len(self)))


class DiskList(_Indexed[T]):
    """A list that keeps items in memory up to a number of bytes, and the others in an anonymous temporary file.

    The file lies in the folder for temporary files (TMPDIR) and disappears with the list or with the process.

    Args:
        items: items that pickle can store. An item in the file is a new object each time it is accessed.
        memory: approximate number of bytes to keep in memory; None means `MEMORY`.

    >>> squares = DiskList((n * n for n in range(10)), memory=0)
    >>> len(squares), squares[3], squares[-2:]
    (10, 9, [64, 81])
    """

    def __init__(self, items: Iterable[T], memory: int | None = None) -> None:
        available = MEMORY if memory is None else memory
        self._in_memory, self._ends = list[T](), array("Q")  # end of each item in the file
        self._file: _File | None = None
        remaining = iter(items)
        for item in remaining:
            available -= _size(item)
            if available < 0:
                self._file = _File()
                self._ends.extend(self._file.write(_pickled(next_item)) for next_item in chain([item], remaining))
                break
            self._in_memory.append(item)

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._ends)

    def _at(self, i: int) -> T:
        if i < len(self._in_memory):
            return self._in_memory[i]
        assert self._file is not None
        i -= len(self._in_memory)
        # Safe to unpickle: the file is anonymous and holds only what this object wrote.
        item: T = pickle.loads(self._file.read(self._ends[i - 1] if i else 0, self._ends[i]))  # noqa: S301
        return item


class Subset(_Indexed[T]):
    """Elements of a sequence by their indices, without copying."""

    def __init__(self, items: Sequence[T], numbers: Sequence[int] | NDArray[np.int64]) -> None:
        self._items, self._numbers = items, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def _at(self, i: int) -> T:
        return self._items[int(self._numbers[i])]


class MappedList(_Indexed[T]):
    """A sequence that applies a function to an element each time it is accessed.

    >>> list(MappedList(["a", "b"], str.upper))
    ['A', 'B']
    """

    def __init__(self, items: Sequence[S], function: Callable[[S], T]) -> None:
        self._items, self._function = items, function

    def __len__(self) -> int:
        return len(self._items)

    def _at(self, i: int) -> T:
        return self._function(self._items[i])


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` elements of a sequence, evenly spaced; the elements are not copied.

    >>> list(spread("abcdef", 3)), spread("ab", 3)
    (['a', 'c', 'e'], 'ab')
    """
    return items if len(items) <= most else Subset(items, np.arange(most) * len(items) // most)


def joined(arrays: Iterable[NDArray[np.int32]], memory: int | None = None) -> NDArray[np.int32]:
    """Concatenate arrays. A large result is a memory map of an anonymous temporary file.

    Args:
        arrays: token ids, iterated once.
        memory: bytes from which on the result is mapped; None means `MEMORY`.

    Returns:
        One array (N,).
    """
    chunks, available = list[NDArray[np.int32]](), MEMORY if memory is None else memory
    remaining = iter(arrays)
    for piece in remaining:
        chunks.append(piece)
        available -= piece.nbytes
        if available < 0:
            file = _File()
            for chunk in chain(chunks, remaining):
                file.write(chunk.tobytes())
            return file.mapped()
    return np.concatenate([np.empty(0, np.int32), *chunks])


class _File:
    """An anonymous temporary file."""

    def __init__(self) -> None:
        with _explain_os_error():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed, and so gone, with this object
        weakref.finalize(self, _close, self._file)
        self._end = 0

    def write(self, data: bytes) -> int:
        """Append data, and return the new end of the file."""
        with _explain_os_error():
            self._file.write(data)
        self._end += len(data)
        return self._end

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from `begin` to before `end`."""
        with _explain_os_error():
            self._file.seek(begin)
            return self._file.read(end - begin)

    def mapped(self) -> NDArray[np.int32]:
        """Return the file as a memory-mapped array, which keeps the file alive."""
        with _explain_os_error():
            self._file.flush()
            return np.memmap(self._file, np.int32, "r")


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk was reported when the file was written
        file.close()


@contextlib.contextmanager
def _explain_os_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{tempfile.gettempdir()}: cannot store data that do not fit into memory: "
            f"{error.strerror or error}; set TMPDIR to another folder"
        ) from None


def _pickled(item: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(item)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # torch would write the whole storage behind a view, and take a hundred times as long.
        return (torch.from_numpy, (value.numpy(),)) if type(value) is Tensor else NotImplemented


def _size(item: Any) -> int:
    """Estimate the size of an item in bytes."""
    if isinstance(item, np.ndarray | Tensor):
        return item.nbytes + _OVERHEAD
    if isinstance(item, tuple | list):
        return sys.getsizeof(item) + sum(map(_size, item))
    if isinstance(item, dict):
        return sys.getsizeof(item) + sum(map(_size, item.values()))
    return sys.getsizeof(item)
