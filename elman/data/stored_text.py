"""A text that is decoded once and can be read any number of times."""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from elman.data import disk_list
from elman.data.disk_list import DiskList
from elman.io.files import lines_in

_SHARE = 64  # a text uses 1 / _SHARE of the memory of a DiskList: its pieces are long, and its tokens are in memory too
_MAX_PIECE = 1 << 20  # maximum number of characters of a piece


@dataclass(frozen=True)
class TextPart:
    """The characters of a text from `begin` to before `end`, in pieces. It can be iterated any number of times.

    pieces: all pieces of the text.
    ends: number of characters up to the end of each piece.
    """

    pieces: Sequence[str]

    ends: Sequence[int]
    begin: int
    end: int

    def __iter__(self) -> Iterator[str]:
        for i in range(bisect_right(self.ends, self.begin), len(self.pieces)):
            start = self.ends[i - 1] if i else 0
            if start >= self.end:
                return
            yield self.pieces[i][max(self.begin - start, 0) : self.end - start]


class StoredText:
    r"""The pieces of a text, in memory or, if the text is long, in an anonymous file.

    Args:
        pieces: pieces of the text, read once. Their file or pipe may change or disappear afterwards.

    >>> text = StoredText(["please ", "stay\nat home"])
    >>> text.characters, list(text.part(2, 11)), list(text.lines())
    (19, ['ease ', 'stay'], ['please stay', 'at home'])
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.characters, self._ends = 0, array("Q")
        self._pieces = DiskList(self._counted(pieces), disk_list.MEMORY // _SHARE)

    def _counted(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            for begin in range(0, len(piece), _MAX_PIECE):
                part = piece[begin : begin + _MAX_PIECE]
                self.characters += len(part)
                self._ends.append(self.characters)
                yield part

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def part(self, begin: int, end: int) -> TextPart:
        """Return the characters from `begin` to before `end`."""
        return TextPart(self._pieces, self._ends, begin, end)

    def lines(self) -> Iterator[str]:
        """Iterate over the lines without their ends: newlines, carriage returns, or both together."""
        return lines_in(self, newlines=False)

    @property
    def sha256(self) -> str:
        """SHA-256 digest of the text."""
        digest = hashlib.sha256()
        for piece in self:
            digest.update(piece.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()
