"""Damage to files, drawn from a seed: bits, lengths, pieces, numbers, and values in JSON."""

import json
import math
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

MAX_BYTES = 1 << 20  # of a damaged file
NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
TEXTS = (
    *(b"", b"\0", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b'"', b'""', b"'", b"#", b"_", b"-", b".", b"$", b"%"),
    *(b"NaN", b"nan", b"inf", b"-Infinity", b"1e999", b"-1", b"0", b"1e-400", b"9" * 25, b"9" * 5000, b"0x10", b"1_0"),
    *(b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xc2\xa0", "\u0661".encode()),
    *(b"[" * 2000, b"{" * 200, b"[]", b"{}", b"null", b"true", b'{"a":', b"]", b"}", b"\\u0000", b"\\ud800", b"\\"),
    *(b"../../../etc/passwd", b"/dev/zero", b"\x1b]0;title\x07", b"<script>", b"2020-13-45", b"-DOCSTART-", b"1-2\t"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf),
    *("", "x", "gru", "text", "utf-16", "idna", "../x", "/etc/passwd", "$\\frac$", "\ud800", "\0", "9" * 5000),
    *([], {}, [[]], [None], [1, 2], ["a", "a"], {"a": 1}, "x" * 100_000),
)
NUMBER = re.compile(rb"-?\d+(\.\d+)?")


def damaged(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Return a damaged copy of a file.

    Args:
        data: the file.
        others: files of the same kind, from which pieces come.
        draw: the source of all decisions.
    """
    changes: list[Callable[[bytes, Sequence[bytes], random.Random], bytes]] = [
        _bits, _bits, _byte, _integer, _integer, _header, _cut, _without, _twice, _spliced, _text, _text, _number,
    ]  # fmt: skip
    if _is_json(data):
        changes += [_json] * 12
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        data = draw.choice(changes)(data, others, draw)[:MAX_BYTES]
    return data


def _at(data: bytes, draw: random.Random) -> int:
    return draw.randrange(len(data) + 1)


def _put(data: bytes, at: int, piece: bytes, over: int) -> bytes:
    return data[:at] + piece + data[at + over :]


def _bits(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _byte(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    return _put(data, _at(data, draw), bytes([draw.randrange(256)]), draw.randint(0, 1))


def _integer(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    return _write_integer(data, _at(data, draw), draw)


def _header(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """A number in the first bytes, where lengths and sizes stand."""
    return _write_integer(data, draw.randrange(min(len(data), 64) + 1), draw)


def _write_integer(data: bytes, at: int, draw: random.Random) -> bytes:
    size, order = draw.choice("BHIQ"), draw.choice("<>")
    bits = 8 * struct.calcsize(f"<{size}")
    piece = struct.pack(f"{order}{size}", draw.choice(NUMBERS) % (1 << bits))
    return _put(data, at, piece, len(piece))


def _cut(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    return data[: _at(data, draw)]


def _without(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    return _put(data, _at(data, draw), b"", draw.randint(1, max(len(data) // 2, 1)))


def _twice(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    begin = _at(data, draw)
    piece = data[begin : begin + draw.choice((1, 4, 16, 64, 1024))]
    return _put(data, begin, piece * draw.choice((1, 2, 10, 1000)), 0)


def _spliced(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    other = draw.choice(others)
    begin = _at(other, draw)
    piece = other[begin : begin + draw.choice((1, 16, 256, len(other)))]
    return _put(data, _at(data, draw), piece, draw.choice((0, len(piece))))


def _text(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    return _put(data, _at(data, draw), draw.choice(TEXTS), draw.choice((0, 0, 1, 4)))


def _number(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Another number in place of one in digits."""
    numbers = list(NUMBER.finditer(data[:4096]))
    if not numbers:
        return data
    old = draw.choice(numbers)
    new = draw.choice((*(str(number).encode() for number in NUMBERS), b"9" * 5000, b"1e999", b"nan", b"-0.5", b""))
    return _put(data, old.start(), new, len(old[0]))


def _is_json(data: bytes) -> bool:
    return data.lstrip()[:1] in (b"{", b"[")


def _json(data: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """Another value somewhere in a JSON document."""
    try:
        value = json.loads(data)
        places = list(_places(value))
        if not places:
            return json.dumps(draw.choice(VALUES)).encode()
        container, key = draw.choice(places)
        change = draw.randrange(5)
        if change < 3:
            container[key] = draw.choice(VALUES)
        elif change == 3:
            del container[key]
        else:
            other, name = draw.choice(places)
            container[key] = json.loads(json.dumps(other[name]))
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, LookupError):
        return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return the containers of JSON with each of their keys; of long lists, only some."""
    places, pending = list[tuple[Any, Any]](), [value]
    while pending:
        container = pending.pop()
        if not isinstance(container, dict | list):
            continue
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        for key in keys[:20]:
            places.append((container, key))
            pending.append(container[key])
    return places
