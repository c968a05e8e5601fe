"""Translation word by word, the honest baseline beside a recurrent network: IBM model 1.

    t(e | f)  how likely the word f becomes the word e: at first the same for all e
    c(e, f)   = sum over pairs of sentences and words e, f of these of t(e | f) / (sum over f' of t(e | f'))
    t(e | f)  = c(e, f) / (sum over e' of c(e', f)), and so on, some times

P. F. Brown, S. A. Della Pietra, V. J. Della Pietra and R. L. Mercer, "The mathematics of statistical machine
translation: parameter estimation", Computational Linguistics 19 (1993). Each word then becomes the likeliest one, in
the order of the words that are read; one that was never seen stays as it is.

>>> found = fitted([("das haus", "the house"), ("das buch", "the book"), ("ein buch", "a book")])
>>> translated("ein haus", found)
'a house'
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import spread
from elman.data.examples import Example
from elman.tasks.supervised import Baseline
from elman.tasks.text_output import TextPrediction, kept_texts, restored_texts

_WORD = re.compile(r"\w+|[^\w\s]")
ROUNDS = 5
MOST = 30_000_000  # pairs of words of pairs of sentences that it is fitted on, so that it fits in memory


class Dictionary(Baseline):
    """Translates word by word.

    Args:
        found: the translation of each word.
        pairs: of sentences that it was fitted on; 0: all.
    """

    def __init__(self, found: dict[str, str], pairs: int = 0) -> None:
        self._found, self._pairs = found, pairs
        self.title = f"word by word (IBM model 1{f', of {pairs:,} pairs' if pairs else ''})"

    @classmethod
    def fit(cls, train: Sequence[Example]) -> "Dictionary":
        """Of these examples; of as many as fit in memory, from all places among them."""
        cells = sum(len(_WORD.findall(pair.input)) * len(_WORD.findall(pair.target)) for pair in train)
        some = spread(train, max(1, len(train) * MOST // max(cells, MOST)))
        return cls(fitted([(pair.input, pair.target) for pair in some]), len(some) if len(some) < len(train) else 0)

    @override
    def say(self, examples: Sequence[Example]) -> list[Any]:
        return [TextPrediction(translated(example.input, self._found)) for example in examples]

    @override
    def tensors(self) -> dict[str, Tensor]:
        texts = {"words": kept_texts(list(self._found)), "translations": kept_texts(list(self._found.values()))}
        return texts | ({"pairs": torch.tensor([self._pairs])} if self._pairs else {})

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "Dictionary":
        """The same of what a run has kept."""
        words, translations = (restored_texts(tensors[name]) for name in ("words", "translations"))
        return cls(dict(zip(words, translations, strict=True)), int(tensors["pairs"]) if "pairs" in tensors else 0)


def fitted(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The likeliest translation of every word."""
    sources, targets = (_numbered([_WORD.findall(pair[side]) for pair in pairs]) for side in (0, 1))
    (names, f), (others, e) = sources, targets
    sizes = np.array([len(row) for row in e])
    f_of = np.concatenate([np.repeat(row, n) for row, n in zip(f, sizes, strict=True)])
    e_of = np.concatenate([np.tile(row, len(source)) for row, source in zip(e, f, strict=True)])
    begins = np.cumsum(sizes) - sizes
    place = np.concatenate([np.tile(b + np.arange(n), len(row)) for b, n, row in zip(begins, sizes, f, strict=True)])
    keys, of = np.unique(f_of * len(others) + e_of, return_inverse=True)
    owner = keys // len(others)
    t: NDArray[np.float64] = np.ones(len(keys))
    for _ in range(ROUNDS):
        share = t[of] / np.bincount(place, t[of])[place]
        c = np.bincount(of, share)
        t = c / np.bincount(owner, c)[owner]
    order = np.lexsort((t, owner))
    last = np.flatnonzero(np.append(np.diff(owner[order]), 1))
    best = order[last]
    return {names[owner[i]]: others[keys[i] % len(others)] for i in best.tolist()}


def translated(text: str, found: dict[str, str]) -> str:
    """A text word by word."""
    return " ".join(found.get(word, word) for word in _WORD.findall(text))


def _numbered(rows: Sequence[Sequence[str]]) -> tuple[list[str], list[NDArray[np.int64]]]:
    """All words, and the numbers of those of each row."""
    number: dict[str, int] = {}
    found = [np.array([number.setdefault(word, len(number)) for word in row], np.int64) for row in rows]
    return list(number), found
