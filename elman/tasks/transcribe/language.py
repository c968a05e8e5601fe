"""A character n-gram language model for CTC search."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from elman.baselines.kneser_ney import TENSORS, Integers, NGram, Reals
from elman.decoding.ctc import BLANK

ORDER = 6
START = (BLANK,) * (ORDER - 1)  # precedes every text; in a text without blanks their symbol is free


class CachedNGram(NGram):
    """An n-gram for many short texts, with a cache for the parts that do not depend on a text."""

    @cached_property
    def _cache(self) -> dict[tuple[int, bool], tuple[Reals, Reals]]:
        return {}

    def _shares(self, n: int, a: Integers) -> tuple[Reals, Reals]:
        key = (n, a is self.counts[n])
        if key not in self._cache:
            self._cache[key] = super()._shares(n, a)
        return self._cache[key]


class Language:
    """An n-gram over symbols. Symbol 0, the CTC blank, stands for the end of a text.

    Args:
        ngram: an n-gram over texts with `START` before each.
    """

    def __init__(self, ngram: NGram) -> None:
        self._ngram = ngram
        self._log_p = dict[tuple[int, ...], Reals]()

    @classmethod
    def fit(cls, texts: Sequence[Sequence[int]], K: int) -> "Language":
        """Fit a language model on texts as symbols, of K different ones."""
        ids = [symbol for text in texts for symbol in (*START, *text)]
        return cls(CachedNGram.fit(np.array([*ids, *START]), K, ORDER))

    def __call__(self, prefix: tuple[int, ...]) -> Reals:
        """Return log p (K,) of each symbol after a prefix; symbol 0 is the end of the text."""
        context = (*START, *prefix)[1 - ORDER :]
        if context not in self._log_p:
            K = self._ngram.vocabulary
            ids = np.column_stack((np.tile(context, (K, 1)), np.arange(K)))
            self._log_p[context] = -self._ngram.nats(ids.ravel())[ORDER - 2 :: ORDER]
        return self._log_p[context]

    def to_dict(self) -> dict[str, Any]:
        """Return the model for JSON."""
        return {name: array.tolist() for name, array in self._ngram.tensors().items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Language":
        """Load the model from `to_dict`.

        Raises:
            ValueError, KeyError: for anything else.
        """
        return cls(CachedNGram.from_tensors({name: np.array(values[name], np.int64) for name in TENSORS}))
