"""Bytes to texts, with clear complaints."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from elman.errors import BadInput

BLOCK = 1 << 20  # bytes of a text that are read at once
_MARKS = {  # at the beginning of a text; that of UTF-32 begins as one of UTF-16 does
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decoded(path: Path, file: IO[bytes], encoding: str) -> Iterator[str]:
    """The text of an open file in pieces.

    Args:
        path: of the file, for complaints.
        file: it.
        encoding: of the text.

    Raises:
        BadInput: if it is empty, binary, or not in this encoding; when that is come to.
    """
    data, before = file.read(max(BLOCK, *map(len, _MARKS))), 0
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
