"""Files in and out: texts read with clear complaints, results written whole or not at all."""

import codecs
import os
from pathlib import Path

from elman.errors import BadInput

PICTURES = (".png", ".svg")


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


def check_picture(path: Path, of: str = "") -> None:
    """Whether a picture can have this name.

    Raises:
        BadInput: if it ends with neither .png nor .svg, or is to be where there is no folder.
    """
    if path.suffix not in PICTURES:
        raise BadInput(f"{of}{path}: expected a name that ends with {' or '.join(PICTURES)}")
    if not path.parent.is_dir():
        raise BadInput(f"{of}{path}: expected a folder that is there, found none at {path.parent}")


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file so that at every moment there is the old one or the new one, never a part.

    Raises:
        OSError: if it cannot be written; the old file is then as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
