"""Words: cut out of texts, and numbered."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

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
    counts = Counter(word for sentence in sentences for word in sentence)
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
