"""Words: cut out of texts, and numbered."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0  # the number of every word that a vocabulary does not have

_WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]")  # "don't", "well-made", "3.5"; other signs stand for themselves


def words(text: str) -> list[str]:
    """The words and other signs of a text.

    >>> words("It doesn't work, does it?")
    ['It', "doesn't", 'work', ',', 'does', 'it', '?']
    """
    return _WORD.findall(text)


def vocabulary(sentences: Iterable[Iterable[str]], least: int = 1) -> list[str]:
    """The words that occur at least so often, the most frequent first.

    >>> vocabulary([["to", "be"], ["to", "go"]])
    ['to', 'be', 'go']
    """
    return vocabulary_of(Counter(word for sentence in sentences for word in sentence), least)


def vocabulary_of(counts: Mapping[str, int], least: int = 1) -> list[str]:
    """The same, of words that are counted."""
    return sorted((word for word, n in counts.items() if n >= least), key=lambda word: (-counts[word], word))


def numbers(known: Sequence[str]) -> dict[str, int]:
    """The number of each word of a vocabulary, from 1."""
    return {word: i for i, word in enumerate(known, 1)}


def numbered(sentence: Iterable[str], number: dict[str, int]) -> NDArray[np.int64]:
    """The numbers of words."""
    return np.array([number.get(word, UNKNOWN) for word in sentence], np.int64)


def padded(sequences: Sequence[NDArray[np.int64]], fill: int = UNKNOWN) -> NDArray[np.int64]:
    """Sequences of several lengths side by side, (T, B).

    >>> padded([np.array([1, 2, 3]), np.array([4])])
    array([[1, 4],
           [2, 0],
           [3, 0]])
    """
    found = np.full((max(map(len, sequences)), len(sequences)), fill)
    for b, sequence in enumerate(sequences):
        found[: len(sequence), b] = sequence
    return found


def distinct(sentences: Sequence[Sequence[NDArray[np.int64]]]) -> tuple[list[NDArray[np.int64]], list[Any]]:
    """What is spelled alike, once: which spelling each word of each sentence has, and all spellings.

    >>> a, b = np.array([1, 2]), np.array([3])
    >>> which, spellings = distinct([[a, b, a], [b]])
    >>> [numbers.tolist() for numbers in which], [spelling.tolist() for spelling in spellings]
    ([[0, 1, 0], [1]], [[1, 2], [3]])
    """
    found = dict[bytes, tuple[int, NDArray[np.int64]]]()
    which = [
        np.array([found.setdefault(word.tobytes(), (len(found), word))[0] for word in sentence])
        for sentence in sentences
    ]
    return which, [spelling for _, spelling in found.values()]


@lru_cache(1 << 18)
def grams(word: str, buckets: int) -> NDArray[np.int64]:
    """The numbers, below `buckets`, of what a word has of three to five characters in a row, its ends counted too.

    Several may share a number. Bojanowski et al., arXiv:1607.04606.

    >>> [len(grams(word, 1000)) for word in ("a", "an", "and")]
    [1, 3, 6]
    """
    whole = f"<{word}>"
    pieces = [whole[i : i + n] for n in (3, 4, 5) for i in range(len(whole) - n + 1)]
    return np.array([crc32(piece.encode()) % buckets for piece in pieces], np.int64)
