"""Checks the pages of a Parquet file, of whose headers polars believes the counts: a wrong one ends the process.

The format: https://parquet.apache.org/docs/file-format; its headers are structures of Thrift's compact protocol,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

import io
from typing import IO, Any, TypeVar

T = TypeVar("T")
MAGIC = b"PAR1"
HEADER_BYTES = 1 << 24  # of a page header, whose statistics may be long
DEPTH = 32  # of structures in each other
BOOLEANS, BYTE = (1, 2), 3  # kinds of values; those of other kinds are in `_Reader._value`
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
    for group in _field(footer, ROW_GROUPS, list):
        for column in _field(group, COLUMNS, list):
            chunk = _field(column, METADATA, dict)
            if len(_field(chunk, PATH, list)) == 1 and _number(chunk, VALUES) != _number(group, GROUP_ROWS):
                raise ValueError("expected a value for each row of a column")
            _check_chunk(file, size, chunk)


def _check_chunk(file: IO[bytes], size: int, chunk: dict[int, Any]) -> None:
    """Check the pages of a column in a row group."""
    values, begin = _number(chunk, VALUES), _number(chunk, DATA_PAGE)
    dictionary = _number(chunk, DICTIONARY) if DICTIONARY in chunk else 0
    begin = dictionary if 0 < dictionary < begin else begin
    end = begin + _number(chunk, COMPRESSED)
    if end > size:
        raise ValueError("expected the pages of a column within the file")
    counted = 0
    file.seek(begin)
    while counted < values:
        header = _Reader(file, min(HEADER_BYTES, end - file.tell())).structure()
        _, compressed = (_number(header, field) for field in PAGE_SIZES)
        if DICTIONARY_HEADER in header:
            _number(_field(header, DICTIONARY_HEADER, dict), PAGE_VALUES)
        for field in PAGE_HEADERS:
            if field in header:
                counted += _number(_field(header, field, dict), PAGE_VALUES)
        if file.seek(compressed, io.SEEK_CUR) > end or counted > values:
            raise ValueError("expected pages with as many values as the description says")


def _field(values: Any, field: int, kind: type[T]) -> T:
    """Return a field of a structure, which must have it and be one."""
    value = values.get(field) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise ValueError("expected a description with all its parts")
    return value


def _number(values: Any, field: int) -> int:
    """Return a field of a structure, which must be a count or a size."""
    value = values.get(field) if isinstance(values, dict) else None
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"expected counts and sizes of at least 0, got {value!r:.40}")
    return value


class _Reader:
    """Reads values of the compact protocol.

    Args:
        file: the file.
        limit: the number of bytes to read at most.
    """

    def __init__(self, file: IO[bytes], limit: int = 1 << 62) -> None:
        self._file, self._left = file, limit

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Return the values of a structure by the numbers of their fields."""
        values, field = dict[int, Any](), 0
        while head := self._bytes(1)[0]:
            field = field + (head >> 4) if head >> 4 else self._signed()
            values[field] = self._value(head & 15, depth + 1)
        return values

    def _value(self, kind: int, depth: int) -> Any:
        if depth <= DEPTH:
            match kind:
                case 1 | 2:  # true, false
                    return kind == 1
                case 3:  # a byte
                    return self._bytes(1)[0]
                case 4 | 5 | 6:  # integers of 16, 32 and 64 bits
                    return self._signed()
                case 7:  # double
                    return self._bytes(8)
                case 8:  # binary
                    return self._bytes(self._unsigned())
                case 9 | 10:  # a list, a set
                    return self._list(depth)
                case 11:
                    return self._map(depth)
                case 12:
                    return self.structure(depth)
        raise ValueError("expected a description in the format of Parquet")

    def _element(self, kind: int, depth: int) -> Any:
        """Return a value in a list or a map, where booleans are bytes."""
        return self._value(BYTE if kind in BOOLEANS else kind, depth + 1)

    def _list(self, depth: int) -> list[Any]:
        head = self._bytes(1)[0]
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        return [self._element(head & 15, depth) for _ in range(count)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        count = self._unsigned()
        kinds = self._bytes(1)[0] if count else 0
        return [(self._element(kinds >> 4, depth), self._element(kinds & 15, depth)) for _ in range(count)]

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
