"""Split texts into words, and map words to ids."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0  # id of all words that are not in the vocabulary

WORD = re.compile(r"\w+(?:['\u2019.-]\w+)*|[^\w\s]")  # "don't", "well-made", "3.5", or one other character
GRAMS = (3, 4, 5)  # sizes of character n-grams


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation marks.

    >>> split_words("It doesn't work, does it?")
    ['It', "doesn't", 'work', ',', 'does', 'it', '?']
    """
    return WORD.findall(text)


def vocabulary(sentences: Iterable[Iterable[str]], least: int = 1) -> list[str]:
    """Return the words that occur at least `least` times, the most frequent first.

    >>> vocabulary([["to", "be"], ["to", "go"]])
    ['to', 'be', 'go']
    """
    return vocabulary_of(Counter(word for sentence in sentences for word in sentence), least)


def vocabulary_of(counts: Mapping[str, int], least: int = 1) -> list[str]:
    """Return the vocabulary of counted words; see `vocabulary`."""
    return sorted((word for word, n in counts.items() if n >= least), key=lambda word: (-counts[word], word))


def word_ids(vocabulary: Sequence[str]) -> dict[str, int]:
    """Return the id of each word of a vocabulary, from 1."""
    return {word: i for i, word in enumerate(vocabulary, 1)}


def encode_words(sentence: Iterable[str], ids: dict[str, int]) -> NDArray[np.int64]:
    """Return the ids of words, (N,)."""
    return np.array([ids.get(word, UNKNOWN) for word in sentence], np.int64)


def padded(sequences: Sequence[NDArray[np.int64]], fill: int = UNKNOWN) -> NDArray[np.int64]:
    """Stack sequences of different lengths as columns, padded at the end.

    Args:
        sequences: B sequences of ids.
        fill: the padding.

    Returns:
        Ids (T, B).

    >>> padded([np.array([1, 2, 3]), np.array([4])])
    array([[1, 4],
           [2, 0],
           [3, 0]])
    """
    stacked = np.full((max(map(len, sequences)), len(sequences)), fill)
    for b, sequence in enumerate(sequences):
        stacked[: len(sequence), b] = sequence
    return stacked


def distinct(sentences: Sequence[Sequence[NDArray[np.int64]]]) -> tuple[list[NDArray[np.int64]], list[Any]]:
    """Index the distinct words of sentences.

    Args:
        sentences: the words of each sentence, each as its character ids.

    Returns:
        The index of each word of each sentence among the distinct words, and the distinct words.

    >>> a, b = np.array([1, 2]), np.array([3])
    >>> which, spellings = distinct([[a, b, a], [b]])
    >>> [numbers.tolist() for numbers in which], [spelling.tolist() for spelling in spellings]
    ([[0, 1, 0], [1]], [[1, 2], [3]])
    """
    seen = dict[bytes, tuple[int, NDArray[np.int64]]]()
    which = [
        np.array([seen.setdefault(word.tobytes(), (len(seen), word))[0] for word in sentence]) for sentence in sentences
    ]
    return which, [spelling for _, spelling in seen.values()]


def word_pairs(words: Sequence[str]) -> list[str]:
    """Return the pair of each word and the one before it; the word before the first is empty.

    >>> word_pairs(["to", "be"])
    [' to', 'to be']
    """
    return [f"{before} {word}" for before, word in zip(["", *words[:-1]], words, strict=True)]


@lru_cache(1 << 18)
def grams(word: str, buckets: int) -> NDArray[np.int64]:
    """Return the hashed ids, below `buckets`, of the character n-grams of a word (n = 3 to 5), with marks at its ends.

    Several n-grams may share an id. Bojanowski et al., arXiv:1607.04606.

    >>> [len(grams(word, 1000)) for word in ("a", "an", "and")]
    [1, 3, 6]
    """
    marked = f"<{word}>"
    pieces = [marked[i : i + n] for n in GRAMS for i in range(len(marked) - n + 1)]
    return np.array([crc32(piece.encode()) % buckets for piece in pieces], np.int64)
