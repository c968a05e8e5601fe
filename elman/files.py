"""Files in and out: texts read with clear complaints, results written whole or not at all."""

import codecs
import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import elman
from elman.errors import BadInput

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
    data = read_bytes(path)
    if not data:
        raise BadInput(f"{path}: expected a text, got an empty file")
    try:
        decoder = codecs.lookup(encoding)
    except LookupError:
        raise BadInput(f"--encoding: expected an encoding that Python knows, got {encoding!r}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and decoder.name == "utf-8":
        raise BadInput(f"{path}: expected UTF-8, got UTF-16 by its first two bytes; try --encoding utf-16")
    if decoder.name in ("utf-8", "ascii") and 0 in data:
        raise BadInput(f"{path}: expected a text, got a binary file: byte 0x00 at offset {data.index(0)}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: expected {decoder.name.upper()}, got byte 0x{data[error.start]:02x} at offset {error.start}; "
            "name the file's encoding with --encoding, for example --encoding cp1252"
        ) from None
    except (LookupError, UnicodeError) as error:  # codecs that are not text encodings, or fail in their own way
        raise BadInput(f"{path}: cannot be read with --encoding {encoding}: {error}") from None
    return text.removeprefix("\ufeff")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        BadInput: if it cannot be read.
    """
    if path.is_dir():
        raise BadInput(f"{path}: expected a file, got a folder")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: expected a file, found nothing of that name") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


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
