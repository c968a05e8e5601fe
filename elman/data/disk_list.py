"""Sequences of what may be more than memory takes."""

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

MEMORY = 1 << 29  # bytes that a spool keeps in memory
_AROUND = 120  # bytes of an array or a tensor besides its numbers, about

T = TypeVar("T")
S = TypeVar("S")


class _Indexed(Sequence[T]):
    """What is had by its number, slices as lists."""

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
    """Items in memory up to a number of bytes; what is beyond lies in a file without a name and is read when asked for.

    The file is in the folder of temporary files (TMPDIR) and is gone with the spool, or with the process.

    Args:
        items: of any kind that pickle takes; each time that one of the file is asked for, it is another object.
        memory: bytes, as estimated; None: `MEMORY`.

    >>> squares = DiskList((n * n for n in range(10)), memory=0)
    >>> len(squares), squares[3], squares[-2:]
    (10, 9, [64, 81])
    """

    def __init__(self, items: Iterable[T], memory: int | None = None) -> None:
        left = MEMORY if memory is None else memory
        self._kept, self._ends = list[T](), array("Q")  # of each item of the file, where it ends
        self._file: _File | None = None
        rest = iter(items)
        for item in rest:
            left -= _size(item)
            if left < 0:
                self._file = _File()
                self._ends.extend(self._file.write(_pickled(one)) for one in chain([item], rest))
                break
            self._kept.append(item)

    def __len__(self) -> int:
        return len(self._kept) + len(self._ends)

    def _at(self, i: int) -> T:
        if i < len(self._kept):
            return self._kept[i]
        assert self._file is not None
        i -= len(self._kept)
        # Nobody else has the file: it has no name, and holds what this object has written.
        item: T = pickle.loads(self._file.read(self._ends[i - 1] if i else 0, self._ends[i]))  # noqa: S301
        return item


class Subset(_Indexed[T]):
    """Some of a sequence, by their numbers; they stay where they are."""

    def __init__(self, items: Sequence[T], numbers: Sequence[int] | NDArray[np.int64]) -> None:
        self._items, self._numbers = items, np.asarray(numbers, np.int64)

    def __len__(self) -> int:
        return len(self._numbers)

    def _at(self, i: int) -> T:
        return self._items[int(self._numbers[i])]


class MappedList(_Indexed[T]):
    """What a function makes of each of a sequence, whenever it is asked for.

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
    """At most so many of a sequence, as far from each other as they can be.

    >>> list(spread("abcdef", 3)), spread("ab", 3)
    (['a', 'c', 'e'], 'ab')
    """
    return items if len(items) <= most else Subset(items, np.arange(most) * len(items) // most)


def joined(arrays: Iterable[NDArray[np.int32]], memory: int | None = None) -> NDArray[np.int32]:
    """Arrays end to end; if they are more than this many bytes (None: `MEMORY`), mapped from a file without a name."""
    kept, left = list[NDArray[np.int32]](), MEMORY if memory is None else memory
    rest = iter(arrays)
    for one in rest:
        kept.append(one)
        left -= one.nbytes
        if left < 0:
            file = _File()
            for some in chain(kept, rest):
                file.write(some.tobytes())
            return file.mapped()
    return np.concatenate([np.empty(0, np.int32), *kept])


class _File:
    """A file without a name."""

    def __init__(self) -> None:
        with _told():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed, and so gone, with this object
        weakref.finalize(self, _close, self._file)
        self._end = 0

    def write(self, data: bytes) -> int:
        """Put something at its end, and tell where that is then."""
        with _told():
            self._file.write(data)
        self._end += len(data)
        return self._end

    def read(self, begin: int, end: int) -> bytes:
        """What lies there."""
        with _told():
            self._file.seek(begin)
            return self._file.read(end - begin)

    def mapped(self) -> NDArray[np.int32]:
        """All of it, which stays there for as long as the array does."""
        with _told():
            self._file.flush()
            return np.memmap(self._file, np.int32, "r")


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a full disk, which was told when it was written to
        file.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{tempfile.gettempdir()}: data that are more than memory takes cannot be kept there: "
            f"{error.strerror or error}; TMPDIR names another folder"
        ) from None


def _pickled(item: Any) -> bytes:
    found = io.BytesIO()
    _Pickler(found, pickle.HIGHEST_PROTOCOL).dump(item)
    return found.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # torch would write all that a tensor is a view of, in a hundred times the time.
        return (torch.from_numpy, (value.numpy(),)) if type(value) is Tensor else NotImplemented


def _size(item: Any) -> int:
    """Bytes, about."""
    if isinstance(item, np.ndarray | Tensor):
        return item.nbytes + _AROUND
    if isinstance(item, tuple | list):
        return sys.getsizeof(item) + sum(map(_size, item))
    if isinstance(item, dict):
        return sys.getsizeof(item) + sum(map(_size, item.values()))
    return sys.getsizeof(item)
