"""Files in and out: texts read with clear complaints, results written whole or not at all."""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

import elman
from elman.errors import BadInput
from elman.io.text_encoding import decoded

T = TypeVar("T")
PICTURES = (".png", ".svg")
STDIN = Path("-")  # in the place of a file to read; it can be read several times
STDOUT = Path("-")  # in the place of a file to write
MAKER = f"elman {elman.__version__}"  # that a page or a picture names in its head
# How it does so: <meta name="generator">, Creator, Software, a text in a MIDI file. All stand among the first bytes.
_MADE = re.compile(
    rb'<meta name="generator" content="elman |<cc:Agent>\s*<dc:title>elman |tEXtSoftware\0elman |'
    rb"\xff\x01[\x00-\x7f]elman "
)
_HEAD = 8192


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
        yield from _unmarked(decoded(path, file, encoding))


def text_lines(path: Path, encoding: str = "utf-8", newlines: bool = False) -> Iterator[str]:
    """The lines of a text, without their ends.

    Args:
        path: of the file.
        encoding: of the text.
        newlines: lines end with newlines alone; without it, also with carriage returns, and with both in a row.

    Raises:
        BadInput: as `read_text` does, when what is wrong is come to.
    """
    return lines_in(text_blocks(path, encoding), newlines)


def input_lines(encoding: str | None = None) -> Iterator[str]:
    """The lines of standard input, without their ends and without a byte order mark.

    Args:
        encoding: of the text; None: that of the terminal.

    Raises:
        BadInput: if it is binary, or not in this encoding, when that is come to.
    """
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:  # what stands in its place has texts that are decoded
        return lines_in(_unmarked(iter(sys.stdin)), newlines=False)
    data = binary.read()
    encoding = encoding or sys.stdin.encoding
    blocks = decoded(Path("standard input"), io.BytesIO(data), encoding) if data else iter(())
    return lines_in(_unmarked(blocks), newlines=False)


@lru_cache(1)
def _bytes_of(stdin: TextIO) -> bytes:
    return stdin.buffer.read() if hasattr(stdin, "buffer") else stdin.read().encode()


def _unmarked(blocks: Iterator[str]) -> Iterator[str]:
    """Texts, the first without a byte order mark."""
    texts = filter(None, blocks)
    return filter(None, chain([next(texts, "").removeprefix("\ufeff")], texts))


def lines_in(blocks: Iterable[str], newlines: bool) -> Iterator[str]:
    """The lines of a text in pieces, as `text_lines` has them."""
    rest, ends = "", io.IncrementalNewlineDecoder(None, translate=not newlines)
    for block in blocks:
        *lines, rest = (rest + ends.decode(block)).split("\n")
        yield from lines
    *lines, rest = (rest + ends.decode("", final=True)).split("\n")
    yield from lines
    if rest:
        yield rest


def without_end(items: Iterable[T], is_empty: Callable[[T], bool]) -> Iterator[T]:
    """Items up to the last that is not empty.

    >>> list(without_end(["a", "", "b", "", ""], lambda line: not line))
    ['a', '', 'b']
    """
    waiting = list[T]()
    for item in items:
        waiting.append(item)
        if not is_empty(item):
            yield from waiting
            waiting.clear()


def is_readable_again(path: Path) -> bool:
    """Whether a file can be read several times; a named pipe cannot."""
    return path == STDIN or path.is_file()


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: if it cannot be read.
    """
    with opened(path) as file:
        return file.read()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file to read bytes from; `STDIN`: standard input.

    Raises:
        BadInput: if it cannot be read.
    """
    if path == STDIN:
        yield io.BytesIO(_bytes_of(sys.stdin))
        return
    check_there(path, "a file")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def check_there(path: Path, what: str) -> None:
    """Whether there is a file to read, of a name that a file can have.

    Args:
        path: of the file.
        what: it is expected to be.

    Raises:
        BadInput: if there is none.
    """
    try:
        path.stat()
        found = "got a folder" if path.is_dir() else ""
    except (FileNotFoundError, NotADirectoryError):
        found = "found nothing of that name"
    except (OSError, ValueError) as error:  # ValueError: of a name that has the character 0, or half of one
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise BadInput(f"{path!s:.200}: cannot be read: {reason}") from None
    if found:
        raise BadInput(f"{path}: expected {what}, {found}")


def visible_files(folder: Path) -> Iterator[Path]:
    """The files in a folder and the folders in it, in order, links followed; without names that begin with a dot.

    Raises:
        OSError: for a folder that cannot be read.
    """
    return _visible(folder, frozenset())


def _visible(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that it lies in
        return
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            yield from _visible(path, above | {real})
        else:
            yield path


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


def write_new(path: Path, data: bytes | str, of: str = "") -> None:
    """Write a file whole, over nothing at all, even what another process has written since `check_new`.

    Args:
        path: of the file.
        data: what it is to hold.
        of: stands before the name in what is complained: "--out ".

    Raises:
        BadInput: if there is a file.
        OSError: as `write_whole`.
    """
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise BadInput(f"{of}{path}: expected a new name, got a file that another process has written") from None
    try:
        write_whole(path, data)
    except BaseException:
        path.unlink()
        raise


@contextlib.contextmanager
def numbered(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    """The next free name, stem-N, for a file that is written in the body; no other process gets the same one.

    Raises:
        OSError: if nothing can be written there.
    """
    for number in count(1):
        path = folder / f"{stem}-{number}{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            yield path
        except BaseException:
            path.unlink()
            raise
        return


def write_figure(path: Path, figure: Any, format: str = "png", math: bool = False, **how: Any) -> None:
    """Write a figure of matplotlib as `write_whole` writes.

    Args:
        path: of the picture.
        figure: matplotlib's.
        format: of the picture.
        math: texts may be formulas; without it, a `$` in a label is a `$`.
        how: goes to its `savefig`.

    Raises:
        OSError: as in `write_whole`.
    """
    from matplotlib.text import Text

    if not math:
        for text in figure.findobj(Text):
            if "$" in text.get_text() and not text.get_text().startswith(_POWER):
                text.set_parse_math(False)
    data = io.BytesIO()
    with warnings.catch_warnings():
        for one in _TOLD_BY_MATPLOTLIB:
            warnings.filterwarnings("ignore", one, UserWarning)
        figure.savefig(data, format=format, **how)
    write_whole(path, data.getvalue())


def save_picture(figure: Any, path: Path, **metadata: Any) -> None:
    """Write a figure of matplotlib's as PNG or SVG, with elman's mark, by which it can be replaced."""
    kind = path.suffix[1:].lower()
    metadata |= {"Date": None, "Creator": MAKER} if kind == "svg" else {"Software": MAKER}
    write_figure(path, figure, kind, math=True, metadata=metadata)


_POWER = "$\\mathdefault{"  # how matplotlib itself writes the numbers along a logarithmic axis
# What the font has not is a box in the picture, and long labels leave little room: nobody can do anything about it.
_TOLD_BY_MATPLOTLIB = ("Glyph .* missing from", "Matplotlib currently does not support", "constrained_layout not appl")


def check_place(path: Path, suffixes: Sequence[str], of: str = "") -> None:
    """Whether a page or a picture can be written here: over one that elman made, never over anything else.

    Args:
        path: of the file.
        suffixes: that its name may have.
        of: stands before the name in what is complained: "--out ".

    Raises:
        BadInput: if it cannot.
    """
    if not path.is_dir() and path.suffix.lower() not in suffixes:
        raise BadInput(f"{of}{path}: expected a name that ends with {' or '.join(suffixes)}")
    _check_folder(path, of)
    if os.path.lexists(path) and not _is_ours(path):
        raise BadInput(f"{of}{path}: expected a new name or a file that elman made, got a file that it did not make")


def check_new(path: Path, of: str = "") -> None:
    """Whether a text or a table, which bears no mark of elman, can be written here: over nothing at all.

    Args:
        path: of the file.
        of: stands before the name in what is complained: "--out ".

    Raises:
        BadInput: if it cannot.
    """
    _check_folder(path, of)
    if os.path.lexists(path):
        raise BadInput(f"{of}{path}: expected a new name, got a file that is there already")


def _check_folder(path: Path, of: str) -> None:
    if path.is_dir():
        raise BadInput(f"{of}{path}: expected the name of a file, got a folder")
    if not path.parent.is_dir():
        raise BadInput(f"{of}{path}: expected a folder that is there, found none at {path.parent}")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _MADE.search(file.read(_HEAD)) is not None
    except OSError:
        return False
