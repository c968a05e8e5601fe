"""Checks the pages of a Parquet file, of whose headers polars believes the counts: a wrong one ends the process.

The format: https://parquet.apache.org/docs/file-format; its headers are structures of Thrift's compact protocol,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

import io
from collections.abc import Callable
from typing import IO, Any

MAGIC = b"PAR1"
HEADER_BYTES = 1 << 24  # of a page header, whose statistics may be long
DEPTH = 32  # of structures in each other
# Kinds of values: true, false, byte, integers of 16, 32 and 64 bits, double, binary, list, set, map, structure.
TRUE, FALSE, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, MAP, STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 11, 12
# Numbers of fields, by structure.
ROW_GROUPS, COLUMNS, GROUP_ROWS, METADATA = 4, 1, 3, 3
PATH, VALUES, COMPRESSED, DATA_PAGE, DICTIONARY = 3, 5, 7, 9, 11
PAGE_SIZES, DICTIONARY_HEADER, PAGE_HEADERS, PAGE_VALUES = (2, 3), 7, (5, 8), 1


def check_pages(file: IO[bytes]) -> None:
    """Check that the headers of all pages agree with the sizes and counts in the footer.

    Args:
        file: a Parquet file.

    Raises:
        ValueError: if they do not.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - 8, 0))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or length > size - 8:
        raise ValueError("expected a Parquet file, which ends with its description")
    file.seek(size - 8 - length)
    footer = _Reader(io.BytesIO(file.read(length))).structure()
    for group in _list(footer, ROW_GROUPS):
        for column in _list(group, COLUMNS):
            chunk = _structure(column, METADATA)
            if len(_list(chunk, PATH)) == 1 and _number(chunk, VALUES) != _number(group, GROUP_ROWS):
                raise ValueError("expected a value for each row of a column")
            _check_chunk(file, size, chunk)


def _check_chunk(file: IO[bytes], size: int, chunk: dict[int, Any]) -> None:
    """Check the pages of a column in a row group."""
    values, begin = _number(chunk, VALUES), _number(chunk, DATA_PAGE)
    if DICTIONARY in chunk and 0 < _number(chunk, DICTIONARY) < begin:
        begin = _number(chunk, DICTIONARY)
    end = begin + _number(chunk, COMPRESSED)
    if end > size:
        raise ValueError("expected the pages of a column within the file")
    counted = 0
    file.seek(begin)
    while counted < values:
        at = file.tell()
        reader = _Reader(file, min(HEADER_BYTES, end - at))
        header = reader.structure()
        _, compressed = (_number(header, field) for field in PAGE_SIZES)
        if DICTIONARY_HEADER in header:
            _number(_structure(header, DICTIONARY_HEADER), PAGE_VALUES)
        for page in (_structure(header, field) for field in PAGE_HEADERS if field in header):
            counted += _number(page, PAGE_VALUES)
        if file.seek(compressed, io.SEEK_CUR) > end or counted > values:
            raise ValueError("expected pages with as many values as the description says")


def _part(values: Any, field: int) -> Any:
    return values.get(field) if isinstance(values, dict) else None


def _structure(values: Any, field: int) -> dict[int, Any]:
    part = _part(values, field)
    if not isinstance(part, dict):
        raise ValueError("expected a description with all its parts")
    return part


def _list(values: Any, field: int) -> list[Any]:
    part = _part(values, field)
    if not isinstance(part, list):
        raise ValueError("expected a description with all its parts")
    return part


def _number(values: Any, field: int) -> int:
    part = _part(values, field)
    if not isinstance(part, int) or part < 0:
        raise ValueError(f"expected counts and sizes of at least 0, got {part!r:.40}")
    return part


class _Reader:
    """Reads values of the compact protocol.

    Args:
        file: the file.
        limit: the number of bytes to read at most.
    """

    def __init__(self, file: IO[bytes], limit: int = 1 << 62) -> None:
        self._file, self._left = file, limit
        self._of_kind: dict[int, Callable[[int], Any]] = {
            TRUE: lambda _: True,
            FALSE: lambda _: False,
            BYTE: lambda _: self._bytes(1)[0],
            DOUBLE: lambda _: self._bytes(8),
            BINARY: lambda _: self._bytes(self._unsigned()),
            MAP: self._map,
            STRUCT: self.structure,
        }
        self._of_kind |= dict.fromkeys(INTEGERS, lambda _: self._signed())
        self._of_kind |= dict.fromkeys(LISTS, self._list)

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Return the values of a structure by the numbers of their fields."""
        values, field = dict[int, Any](), 0
        while head := self._bytes(1)[0]:
            field = field + (head >> 4) if head >> 4 else self._signed()
            values[field] = self._value(head & 15, depth + 1)
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if kind not in self._of_kind or depth > DEPTH:
            raise ValueError("expected a description in the format of Parquet")
        return self._of_kind[kind](depth)

    def _list(self, depth: int) -> list[Any]:
        head = self._bytes(1)[0]
        count, kind = head >> 4, head & 15
        count = self._unsigned() if count == 15 else count
        if kind in (TRUE, FALSE):
            kind = BYTE
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> None:
        if count := self._unsigned():
            kinds = self._bytes(1)[0]
            for _ in range(count):
                for kind in (kinds >> 4, kinds & 15):
                    self._value(BYTE if kind in (TRUE, FALSE) else kind, depth + 1)

    def _signed(self) -> int:
        number = self._unsigned()
        return number >> 1 ^ -(number & 1)

    def _unsigned(self) -> int:
        number, shift = 0, 0
        while shift < 70:
            byte = self._bytes(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        raise ValueError("expected a description in the format of Parquet")

    def _bytes(self, count: int) -> bytes:
        if count > self._left:
            raise ValueError("expected a description that ends")
        self._left -= count
        read = self._file.read(count)
        if len(read) < count:
            raise ValueError("expected a description that ends")
        return read
