"""Pretrained word vectors from files: word2vec, text or binary, and GloVe, which may be compressed by gzip.

word2vec begins with a line of two numbers, of vectors and of their size; then, and in GloVe from the first line on, a
line has a word and its numbers. In the binary form, a word, a space and the numbers in float32 follow each other.
Files are read once from begin to end, and only the vectors of wanted words are kept in memory.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.io.files import check_regular, opened

MAX_SIZE = 8192  # of a vector
MAX_LINE = 1 << 20  # bytes
MAX_WORD = 4096  # bytes
BLOCK = 1 << 20  # bytes
EXPECTED = "word vectors of word2vec or GloVe"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\xba\x16\x4f\x2f": "a model of fastText; pass its .vec file",
}
Row = tuple[int, bytes, Any]  # its number in the file, from 1; the word; numbers, or the texts of numbers


class VectorFormat(NamedTuple):
    """The form of a file.

    Attributes:
        size: numbers of each vector.
        vectors: how many the file has; None if it does not say so.
        is_binary: whether numbers are in float32, not text.
    """

    size: int
    vectors: int | None
    is_binary: bool


def vector_size(path: Path) -> int:
    """Return the size of the vectors in a file.

    Raises:
        BadInput: if it cannot be read, or is no file of vectors.
    """
    return _layout(path).size


def read_vectors(path: Path, words: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read the vectors of words.

    A word that is not in the file has the vector of the first word there that equals it in lower case.

    Args:
        path: the file.
        words: N words.

    Returns:
        The vectors, (N, D), zeros for words that have none, and which words have one, (N,).

    Raises:
        BadInput: if the file cannot be read, is no file of vectors, or is damaged.
    """
    layout, number = _layout(path), {word.encode("utf-8", "replace"): i for i, word in enumerate(words)}
    try:
        vectors = np.zeros((len(words), layout.size), np.float32)
    except MemoryError:
        got = f"{len(words):,} words of {layout.size:,} numbers"
        raise BadInput(f"{path}: expected vectors that fit into memory, got {got}") from None
    is_same, is_lower = np.zeros((2, len(words)), bool)
    with _stream(path) as file:
        for row, word, values in (_binary_rows if layout.is_binary else _text_rows)(path, file, layout):
            i = number.get(word)
            if i is not None and not is_same[i]:
                is_same[i] = True
            elif i is None and (i := number.get(_lower(word))) is not None and not is_same[i] and not is_lower[i]:
                is_lower[i] = True
            else:
                continue
            vectors[i] = _numbers(path, layout, row, values)
    return vectors, is_same | is_lower


def _lower(word: bytes) -> bytes:
    return word.decode("utf-8", "replace").lower().encode()


def _numbers(path: Path, layout: VectorFormat, row: int, values: Any) -> NDArray[np.float32]:
    """Return the numbers of a vector.

    Raises:
        BadInput: if they are no finite numbers.
    """
    try:
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            vector = np.array(values if layout.is_binary else [float(value) for value in values]).astype(np.float32)
    except ValueError as error:
        raise BadInput(f"{_where(path, layout, row)}: expected numbers, got an error: {error!s:.80}") from None
    if not np.isfinite(vector).all():
        raise BadInput(f"{_where(path, layout, row)}: expected finite numbers, got {vector[~np.isfinite(vector)][0]}")
    return vector


def _where(path: Path, layout: VectorFormat, row: int) -> str:
    if layout.is_binary:
        return f"{path}: vector {row:,}"
    return f"{path}: line {row + (layout.vectors is not None):,}"


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of vectors to read its bytes, which are unpacked if it is a gzip file.

    Raises:
        BadInput: if it cannot be read.
    """
    check_regular(path, f"a file of {EXPECTED}")
    with opened(path) as file:
        magic = file.read(4)
        file.seek(0)
        if magic in OTHER_FORMATS:
            raise BadInput(f"{path}: expected {EXPECTED}, got {OTHER_FORMATS[magic]}")
        if magic[:2] != b"\x1f\x8b":
            yield file
            return
        try:
            yield io.BufferedReader(gzip.GzipFile(fileobj=file), BLOCK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"{path}: expected {EXPECTED}, got a damaged gzip file: {error}") from None


def _layout(path: Path) -> VectorFormat:
    """Find the form of a file by its first lines.

    Raises:
        BadInput: if it is no file of vectors.
    """
    with _stream(path) as file:
        first = _line(path, file, 1)
        second = file.readline(MAX_LINE)
    fields = first.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        size = len(fields) - 1
        if size < 1 or not _are_numbers(fields[1:]):
            got = f"{first[:60].decode('utf-8', 'replace').strip()!r}" if fields else "none"
            raise BadInput(f"{path}: line 1: expected a word and its numbers, or the counts of both; got {got}")
        layout = VectorFormat(size, None, False)
    else:
        total, size = (int(field[:20]) for field in fields)
        is_text = _are_numbers(second.split()[-size:]) if size <= MAX_SIZE else True
        layout = VectorFormat(size, total, not is_text and _looks_binary(second))
    if not 1 <= layout.size <= MAX_SIZE or layout.vectors == 0:
        got = f"{layout.size:,}" if layout.vectors != 0 else "no vectors"
        raise BadInput(f"{path}: line 1: expected vectors of 1 to {MAX_SIZE:,} numbers, got {got}")
    return layout


def _line(path: Path, file: IO[bytes], number: int) -> bytes:
    """Read a line.

    Raises:
        BadInput: if it is too long.
    """
    line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise BadInput(f"{path}: line {number:,}: expected a word and its numbers, got more than {MAX_LINE:,} bytes")
    return line


def _are_numbers(fields: Sequence[bytes]) -> bool:
    try:
        return bool(fields) and all(float(field) is not None for field in fields)
    except ValueError:
        return False


def _looks_binary(row: bytes) -> bool:
    """Return whether the first row has bytes that no text has."""
    if re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", row):
        return True
    try:
        row.decode()
    except UnicodeDecodeError:
        return True
    return False


def _text_rows(path: Path, file: IO[bytes], layout: VectorFormat) -> Iterator[Row]:
    """Yield the rows of a text file. Blank lines are left out.

    Raises:
        BadInput: for a line that is too long or too short, or for another number of lines than the first line says.
    """
    size, has_header = layout.size, layout.vectors is not None
    if has_header:
        _line(path, file, 1)
    rows = 0
    for number in count(1):
        line = _line(path, file, number + has_header)
        if not line:
            break
        if not (fields := line.split()):
            continue
        rows += 1
        if len(fields) <= size:
            got = f"{len(fields) - 1:,}" if len(fields) > 1 else "none"
            raise BadInput(f"{_where(path, layout, number)}: expected a word and {size:,} numbers, got {got}")
        yield number, b" ".join(fields[:-size]), fields[-size:]
    if layout.vectors not in (None, rows):
        raise BadInput(f"{path}: expected {layout.vectors:,} vectors, as line 1 says, got {rows:,}")


def _binary_rows(path: Path, file: IO[bytes], layout: VectorFormat) -> Iterator[Row]:
    """Yield the rows of a binary file.

    Raises:
        BadInput: for a word that is too long, or for another number of vectors than the first line says.
    """
    _line(path, file, 1)
    assert layout.vectors is not None
    width, data, at = 4 * layout.size, b"", 0
    for row in range(1, layout.vectors + 1):
        while (space := data.find(b" ", at, at + MAX_WORD)) < 0 or len(data) < space + 1 + width:
            if space < 0 and len(data) - at >= MAX_WORD:
                got = f"{MAX_WORD:,} bytes without a space"
                raise BadInput(f"{_where(path, layout, row)}: expected a word and a space, got {got}")
            more = file.read(BLOCK)
            if not more:
                got = f"the end of the file, after {row - 1:,} of {layout.vectors:,} vectors"
                raise BadInput(f"{_where(path, layout, row)}: expected a word and {layout.size:,} numbers, got {got}")
            data, at = data[at:] + more, 0
        yield row, data[at:space].strip(), np.frombuffer(data, "<f4", layout.size, space + 1)
        at = space + 1 + width
    if (data[at:] + file.read(BLOCK)).strip():
        raise BadInput(f"{path}: expected {layout.vectors:,} vectors, as line 1 says, got more")
