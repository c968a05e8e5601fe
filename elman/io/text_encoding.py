"""Decode bytes to text, with clear error messages."""

import codecs
import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from elman.errors import BadInput

BLOCK = 1 << 20  # bytes read at once
_BYTE_ORDER_MARKS = {  # byte order marks; UTF-32 first, as its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decoded(path: Path, blocks: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Decode the blocks of a file, each as soon as it is read.

    Args:
        path: path of the file, for error messages.
        blocks: the blocks, of any length.
        encoding: encoding of the text.

    Raises:
        BadInput: if the file is empty, is binary, or does not have this encoding, when the iterator reaches the error.
    """
    head, total = next(blocks, b""), 0
    if not head:
        raise BadInput(f"{path}: expected a text, got an empty file")
    while any(mark.startswith(head) for mark in _BYTE_ORDER_MARKS) and (following := next(blocks, b"")):
        head += following  # to have all bytes of a mark
    name, decoder = _decoder(path, encoding)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if mark and name == "utf-8":
        other = _BYTE_ORDER_MARKS[mark]
        raise BadInput(
            f"{path}: expected UTF-8, got {other.upper()} (byte order mark of {len(mark)} bytes); pass "
            f"--encoding {other}"
        )
    example = "cp1252" if name == "utf-8" else "utf-8"
    hint = f"pass the encoding of the file, for example --encoding {example}"
    for block in chain([head], blocks, [b""]):
        if name in ("utf-8", "ascii") and 0 in block:
            raise BadInput(f"{path}: expected a text, got a binary file: byte 0x00 at offset {total + block.index(0)}")
        total += len(block)
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:  # error.object: the undecoded end of the last block, and this block
            offset = total - len(error.object) + error.start
            byte = f"0x{error.object[error.start]:02x}"
            raise BadInput(f"{path}: expected {name.upper()}, got byte {byte} at offset {offset}; {hint}") from None
        except UnicodeError as error:  # raised by codecs with errors of their own: UTF-16 without a byte order mark
            raise BadInput(f"{path}: expected {name.upper()}, got another encoding: {error}; {hint}") from None


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
