"""Decode bytes to text, with clear error messages."""

import codecs
import io
from collections.abc import Iterator
from itertools import chain

from elman.errors import BadInput

BLOCK = 1 << 18  # bytes read at once; pieces of a megabyte fragment the heap, which took 60 MB more per file
_BYTE_ORDER_MARKS = {  # byte order marks; UTF-32 first, as its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class NotText(ValueError):
    """Bytes are not a text in the expected encoding. The message says which; the text before them has been decoded."""


def decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[str]:
    """Decode the blocks of a file, each as soon as it is read, up to the first error.

    Args:
        blocks: the blocks, of any length.
        encoding: encoding of the text.

    Raises:
        NotText: if the file is empty, is binary, or does not have this encoding, when the iterator reaches the error.
        BadInput: for an encoding that Python does not know.
    """
    head, total = next(blocks, b""), 0
    if not head:
        raise NotText("expected a text, got an empty file")
    while any(mark.startswith(head) for mark in _BYTE_ORDER_MARKS) and (following := next(blocks, b"")):
        head += following  # to have all bytes of a mark
    name, decoder = _decoder(encoding)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if mark and name == "utf-8":
        other = _BYTE_ORDER_MARKS[mark]
        mark_size = f"byte order mark of {len(mark)} bytes"
        raise NotText(f"expected UTF-8, got {other.upper()} ({mark_size}); pass --encoding {other}")
    example = "cp1252" if name == "utf-8" else "utf-8"
    hint = f"pass the encoding of the file, for example --encoding {example}"
    for block in chain([head], blocks, [b""]):
        end = block.find(0) if name in ("utf-8", "ascii") else -1
        text, error = _decode_valid(decoder, block if end < 0 else block[:end], final=not block)
        yield text
        if end >= 0:
            raise NotText(f"expected a text, got a binary file: byte 0x00 at offset {total + end}")
        total += len(block)
        if isinstance(error, UnicodeDecodeError):  # error.object: the undecoded end of the last block, and this block
            offset = total - len(error.object) + error.start
            byte = f"0x{error.object[error.start]:02x}"
            raise NotText(f"expected {name.upper()}, got byte {byte} at offset {offset}; {hint}")
        if error:  # raised by codecs with errors of their own: UTF-16 without a byte order mark
            raise NotText(f"expected {name.upper()}, got another encoding: {error}; {hint}")


def _decode_valid(decoder: codecs.IncrementalDecoder, block: bytes, final: bool) -> tuple[str, UnicodeError | None]:
    """Decode a block up to its first error; return the text before the error, and the error."""
    state = decoder.getstate()
    try:
        return decoder.decode(block, final), None
    except UnicodeDecodeError as error:
        decoder.setstate(state)
        pending = len(error.object) - len(block)  # bytes at the end of the last block, an incomplete character
        return decoder.decode(block[: max(error.start - pending, 0)]), error
    except UnicodeError as error:
        return "", error


def _decoder(encoding: str) -> tuple[str, codecs.IncrementalDecoder]:
    """Return the normalized name of an encoding and an incremental decoder."""
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise BadInput(f"--encoding: expected an encoding that Python knows, got {encoding!r}") from None
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # rejects codecs that are not text encodings
        return codec.name, codecs.getincrementaldecoder(encoding)()
    except (LookupError, UnicodeError) as error:
        raise NotText(f"cannot be read with --encoding {encoding}: {error}") from None
