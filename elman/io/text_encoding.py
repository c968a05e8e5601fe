"""Decode bytes to text, with clear error messages."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from elman.errors import BadInput

BLOCK = 1 << 20  # bytes read at once
_BYTE_ORDER_MARKS = {  # byte order marks; UTF-32 first, as its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decoded(path: Path, file: IO[bytes], encoding: str) -> Iterator[str]:
    """Iterate over the decoded text of an open file in blocks.

    Args:
        path: path of the file, for error messages.
        file: the open file.
        encoding: encoding of the text.

    Raises:
        BadInput: if the file is empty, is binary, or does not have this encoding, when the iterator reaches the error.
    """
    block, total = file.read(max(BLOCK, *map(len, _BYTE_ORDER_MARKS))), 0
    if not block:
        raise BadInput(f"{path}: expected a text, got an empty file")
    name, decoder = _decoder(path, encoding)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if block.startswith(mark)), None)
    if mark and name == "utf-8":
        other = _BYTE_ORDER_MARKS[mark]
        raise BadInput(
            f"{path}: expected UTF-8, got {other.upper()} by its first {len(mark)} bytes; try --encoding {other}"
        )
    while block:
        if name in ("utf-8", "ascii") and 0 in block:
            raise BadInput(f"{path}: expected a text, got a binary file: byte 0x00 at offset {total + block.index(0)}")
        total, following = total + len(block), file.read(BLOCK)
        try:
            yield decoder.decode(block, final=not following)
        except UnicodeDecodeError as error:  # error.object: the undecoded end of the last block, and this block
            offset = total - len(error.object) + error.start
            raise BadInput(
                f"{path}: expected {name.upper()}, got byte 0x{error.object[error.start]:02x} at offset {offset}; "
                f"name the file's encoding with --encoding, for example --encoding "
                f"{'cp1252' if name == 'utf-8' else 'utf-8'}"
            ) from None
        except UnicodeError as error:  # raised by codecs with errors of their own
            raise BadInput(f"{path}: cannot be read with --encoding {encoding}: {error}") from None
        block = following


def _decoder(path: Path, encoding: str) -> tuple[str, codecs.IncrementalDecoder]:
    """Return the normalized name of an encoding and an incremental decoder."""
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise BadInput(f"--encoding: expected an encoding that Python knows, got {encoding!r}") from None
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # rejects codecs that are not text encodings
        return codec.name, codecs.getincrementaldecoder(encoding)()
    except (LookupError, UnicodeError) as error:
        raise BadInput(f"{path}: cannot be read with --encoding {encoding}: {error}") from None
