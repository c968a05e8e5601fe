"""A text that is decoded once and read any number of times."""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from elman.data import disk_list
from elman.data.disk_list import DiskList
from elman.io.files import lines_in

_SHARE = 64  # of the memory that a DiskList may take: its pieces are long, and the tokens are in memory as well
_BLOCK = 1 << 20  # characters of a piece, at most


@dataclass(frozen=True)
class TextPart:
    """The characters of a text from `begin` to before `end`, in pieces. It can be iterated any number of times."""

    pieces: Sequence[str]
    ends: Sequence[int]  # of each piece: how many characters the text has up to there
    begin: int
    end: int

    def __iter__(self) -> Iterator[str]:
        for i in range(bisect_right(self.ends, self.begin), len(self.pieces)):
            start = self.ends[i - 1] if i else 0
            if start >= self.end:
                return
            yield self.pieces[i][max(self.begin - start, 0) : self.end - start]


class StoredText:
    r"""The pieces of a text: in memory, or in an anonymous file if the text is long.

    Args:
        pieces: of the text, read once. The file or pipe that they come from may change or be gone afterwards.

    >>> text = StoredText(["please ", "stay\nat home"])
    >>> text.characters, list(text.part(2, 11)), list(text.lines())
    (19, ['ease ', 'stay'], ['please stay', 'at home'])
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.characters, self._ends = 0, array("Q")
        self._pieces = DiskList(self._counted(pieces), disk_list.MEMORY // _SHARE)

    def _counted(self, pieces: Iterable[str]) -> Iterator[str]:
        for piece in pieces:
            for begin in range(0, len(piece), _BLOCK):
                part = piece[begin : begin + _BLOCK]
                self.characters += len(part)
                self._ends.append(self.characters)
                yield part

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def part(self, begin: int, end: int) -> TextPart:
        """The characters from one to before another."""
        return TextPart(self._pieces, self._ends, begin, end)

    def lines(self) -> Iterator[str]:
        """The lines, without their ends: newlines, carriage returns, or both in a row."""
        return lines_in(self, newlines=False)

    @property
    def sha256(self) -> str:
        """To recognize the text."""
        digest = hashlib.sha256()
        for piece in self:
            digest.update(piece.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()
