"""Files in and out: texts read with clear complaints, results written whole or not at all."""

import codecs
import contextlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import elman
from elman.errors import BadInput

MAKER = f"elman {elman.__version__}"  # that a page or a picture names in its head
# How it does so: <meta name="generator">, Creator, Software, a text in a MIDI file. All stand among the first bytes.
_MADE = re.compile(
    rb'<meta name="generator" content="elman |<cc:Agent>\s*<dc:title>elman |tEXtSoftware\0elman |'
    rb"\xff\x01[\x00-\x7f]elman "
)
_HEAD = 8192
_MARKS = {  # at the beginning of a text; that of UTF-32 begins as one of UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BLOCK = 1 << 20  # bytes of a text that are read at once


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The whole text of a file, line ends as they are; a byte order mark is dropped.

    Raises:
        BadInput: if there is no such file, it is a folder, empty, binary, or not in this encoding.
    """
    return "".join(text_blocks(path, encoding))


def text_blocks(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The same in pieces, of any lengths.

    Raises:
        BadInput: as there, when what is wrong is come to.
    """
    with opened(path) as file:
        texts = filter(None, _decoded(path, file, encoding))
        first = next(texts, "").removeprefix("\ufeff")
        yield from filter(None, chain([first], texts))


def _decoded(path: Path, file: IO[bytes], encoding: str) -> Iterator[str]:
    data, before = file.read(BLOCK), 0
    if not data:
        raise BadInput(f"{path}: expected a text, got an empty file")
    name, decoder = _decoder(path, encoding)
    mark = next((mark for mark in _MARKS if data.startswith(mark)), None)
    if mark and name == "utf-8":
        other = _MARKS[mark]
        raise BadInput(
            f"{path}: expected UTF-8, got {other.upper()} by its first {len(mark)} bytes; try --encoding {other}"
        )
    while data:
        if name in ("utf-8", "ascii") and 0 in data:
            raise BadInput(f"{path}: expected a text, got a binary file: byte 0x00 at offset {before + data.index(0)}")
        before, more = before + len(data), file.read(BLOCK)
        try:
            yield decoder.decode(data, final=not more)
        except UnicodeDecodeError as error:  # of what was left of the block before, and of this one, up to its end
            offset = before - len(error.object) + error.start
            raise BadInput(
                f"{path}: expected {name.upper()}, got byte 0x{error.object[error.start]:02x} at offset {offset}; "
                f"name the file's encoding with --encoding, for example --encoding "
                f"{'cp1252' if name == 'utf-8' else 'utf-8'}"
            ) from None
        except UnicodeError as error:  # of codecs that fail in their own way
            raise BadInput(f"{path}: cannot be read with --encoding {encoding}: {error}") from None
        data = more


def _decoder(path: Path, encoding: str) -> tuple[str, codecs.IncrementalDecoder]:
    """The name of an encoding, and what decodes it."""
    try:
        found = codecs.lookup(encoding)
    except LookupError:
        raise BadInput(f"--encoding: expected an encoding that Python knows, got {encoding!r}") from None
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # which takes no codecs but those of texts
        return found.name, codecs.getincrementaldecoder(encoding)()
    except (LookupError, UnicodeError) as error:
        raise BadInput(f"{path}: cannot be read with --encoding {encoding}: {error}") from None


def text_lines(path: Path, encoding: str = "utf-8", newlines: bool = False) -> Iterator[str]:
    """The lines of a text, without their ends.

    Args:
        path: of the file.
        encoding: of the text.
        newlines: lines end with newlines alone; without it, also with carriage returns, and with both in a row.

    Raises:
        BadInput: as `read_text` does, when what is wrong is come to.
    """
    rest, ends = "", io.IncrementalNewlineDecoder(None, translate=not newlines)
    for block in text_blocks(path, encoding):
        *lines, rest = (rest + ends.decode(block)).split("\n")
        yield from lines
    *lines, rest = (rest + ends.decode("", final=True)).split("\n")
    yield from lines
    if rest:
        yield rest


@dataclass(frozen=True)
class _Again:
    read: Callable[[Path, str], Iterator[str]]
    path: Path
    encoding: str

    def __iter__(self) -> Iterator[str]:
        return self.read(self.path, self.encoding)


def again(read: Callable[[Path, str], Iterator[str]], path: Path, encoding: str) -> Iterable[str]:
    """What can be gone through again and again, each time by another reading of a file.

    What is no file on a disk, as the output of another program, can be read but once: that is kept.

    Args:
        read: `text_blocks` or `text_lines`.
        path: of the file.
        encoding: of the text.

    Raises:
        BadInput: as `read` does.
    """
    return _Again(read, path, encoding) if path.is_file() else list(read(path, encoding))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: if it cannot be read.
    """
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to read bytes from.

    Raises:
        BadInput: if it cannot be read.
    """
    with readable(path, "a file"), path.open("rb") as file:
        yield file


@contextlib.contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """The body reads a file, in its own way.

    Args:
        path: of the file.
        what: it is expected to be.

    Raises:
        BadInput: if it cannot be read, or its name is none.
    """
    try:
        os.lstat(path)
    except ValueError as error:  # of a name that no file can have
        raise BadInput(f"{str(path)!r:.200}: expected the name of {what}: {error}") from None
    except OSError:
        pass  # which is told below
    try:
        if path.is_dir():
            raise BadInput(f"{path}: expected {what}, got a folder")
        yield
    except FileNotFoundError:
        raise BadInput(f"{path}: expected {what}, found nothing of that name") from None
    except OSError as error:
        raise BadInput(f"{path!s:.200}: cannot be read: {error.strerror or error}") from None


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file so that at every moment there is the old one or the new one, never a part.

    Raises:
        OSError: of this name, if it cannot be written; the old file is then as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


def write_figure(path: Path, figure: Any, format: str = "png", **how: Any) -> None:
    """Write a figure of matplotlib as `write_whole` writes; `how` goes to its `savefig`.

    Raises:
        OSError: as there.
    """
    data = io.BytesIO()
    figure.savefig(data, format=format, **how)
    write_whole(path, data.getvalue())


def check_place(path: Path, suffixes: Sequence[str], of: str = "") -> None:
    """Whether a page or a picture can be written here: over one that elman made, never over anything else.

    Args:
        path: of the file.
        suffixes: that its name may have.
        of: stands before the name in what is complained: "--out ".

    Raises:
        BadInput: if it cannot.
    """
    if path.is_dir():
        raise BadInput(f"{of}{path}: expected the name of a file, got a folder")
    if path.suffix.lower() not in suffixes:
        raise BadInput(f"{of}{path}: expected a name that ends with {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise BadInput(f"{of}{path}: expected a folder that is there, found none at {path.parent}")
    if os.path.lexists(path) and not _is_ours(path):
        raise BadInput(f"{of}{path}: expected a new name or a file that elman made, got a file that it did not make")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _MADE.search(file.read(_HEAD)) is not None
    except OSError:
        return False
