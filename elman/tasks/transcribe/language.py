"""Which character follows which in texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from elman.baselines.kneser_ney import TENSORS, Integers, NGram, Reals
from elman.decoding.ctc import BLANK

ORDER = 6
BEFORE = (BLANK,) * (ORDER - 1)  # stands before every text; where symbols are written, the blank has no other use


class Ready(NGram):
    """An n-gram that is asked about many short texts: what does not depend on these is worked out once."""

    @cached_property
    def _worked_out(self) -> dict[tuple[int, bool], tuple[Reals, Reals]]:
        return {}

    def _shares(self, n: int, a: Integers) -> tuple[Reals, Reals]:
        key = (n, a is self.counts[n])
        if key not in self._worked_out:
            self._worked_out[key] = super()._shares(n, a)
        return self._worked_out[key]


class Language:
    """An n-gram over the symbols of texts; number 0, which is no character, ends a text.

    Args:
        ngram: of texts with `BEFORE` before each.
    """

    def __init__(self, ngram: NGram) -> None:
        self._ngram = ngram
        self._known = dict[tuple[int, ...], Reals]()

    @classmethod
    def fit(cls, texts: Sequence[Sequence[int]], K: int) -> "Language":
        """Of texts in symbols."""
        ids = [symbol for text in texts for symbol in (*BEFORE, *text)]
        return cls(Ready.fit(np.array([*ids, *BEFORE]), K, ORDER))

    def __call__(self, prefix: tuple[int, ...]) -> Reals:
        """Log p (K,) of each symbol behind a prefix, first of its end."""
        context = (*BEFORE, *prefix)[1 - ORDER :]
        if context not in self._known:
            K = self._ngram.vocabulary
            ids = np.column_stack((np.tile(context, (K, 1)), np.arange(K)))
            self._known[context] = -self._ngram.nats(ids.ravel())[ORDER - 2 :: ORDER]
        return self._known[context]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: array.tolist() for name, array in self._ngram.tensors().items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Language":
        """The model from `to_dict`.

        Raises:
            ValueError, KeyError: for anything else.
        """
        return cls(Ready.from_tensors({name: np.array(values[name], np.int64) for name in TENSORS}))
