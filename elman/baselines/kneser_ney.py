"""An n-gram language model with interpolated modified Kneser-Ney smoothing, a baseline for recurrent language models.

For a token w after the context c of n - 1 tokens, with c' the context less its oldest token:

    p_n(w | c) = (a(c w) - D(a(c w))) / A(c) + (the sum of D(a(c v)) over the tokens v) / A(c) * p_{n-1}(w | c')
    A(c)       = the sum of a(c v) over v, and where it is zero, p_n(w | c) = p_{n-1}(w | c')
    p_0        = 1 / V
    a(g)       = how often g occurs, in the highest order of a model,
                 how many different tokens precede g, in the lower ones ("continuations")
    D(a)       = 0, D_1, D_2 or D_3 for a = 0, 1, 2, and 3 or more: D_j = j - (j + 1) Y n_{j+1} / n_j,
                 Y = n_1 / (n_1 + 2 n_2), and n_j is how many n-grams of this order have a = j

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech and
Language 13 (1999). The text's beginning counts as one more preceding token, so that no n-gram that
occurs has a = 0. NumPy alone; a text of T tokens takes O(order T) memory and O(order T log T) time.

>>> text = np.array([0, 1, 2] * 50)
>>> model = NGram.fit(text, vocabulary=3, order=2)
>>> float(model.nats(text).mean()) < 0.03
True
>>> float(model.nats(text, order=1).mean().round(2))
1.1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.integer]
Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

TENSORS = ("vocabulary", "sizes", "keys", "counts", "continuations")


@dataclass(frozen=True, eq=False)
class NGram:
    """All n-grams of a text up to an order, with their counts. Create one with `fit`, `best` or `from_tensors`.

    The id of an n-gram is its position in the sorted keys of its order. Its key is (id of its first n - 1 tokens among
    the (n-1)-grams) * vocabulary + (its last token). There is one 0-gram, with id 0.

    Attributes:
        vocabulary: V, the number of tokens; tokens are 0 to V - 1.
        keys: for each order 1, 2, ..., one key per n-gram of the text.
        counts: for each order, how often each n-gram occurs.
        continuations: for each order but the highest, how many different tokens precede each n-gram.
    """

    vocabulary: int
    keys: tuple[Integers, ...]
    counts: tuple[Integers, ...]
    continuations: tuple[Integers, ...]

    @property
    def order(self) -> int:
        """The length of the longest n-grams: one token and a context of order - 1."""
        return len(self.keys)

    @property
    def title(self) -> str:
        """Name of the model in tables and plots."""
        return f"{self.order}-gram (Kneser-Ney)"

    @classmethod
    def fit(cls, ids: Tokens, vocabulary: int, order: int) -> NGram:
        """Count the n-grams of a text.

        Args:
            ids: (T,) the text, tokens from 0 to vocabulary - 1. T may be anything, 0 included.
            vocabulary: number of tokens, including those not in the text. Each gets a probability above zero.
            order: at least 1. The result can be evaluated at every order up to this one.

        Raises:
            ValueError: if an argument is outside these bounds.
        """
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        text = _checked(ids, vocabulary)
        keys: list[Integers] = []
        counts: list[Integers] = []
        continuations: list[Integers] = []
        grams = np.zeros(len(text) + 1, np.int64)  # ids of the text's (n-1)-grams, in text order
        for n in range(1, order + 1):
            unique, where, longer, occurrences = np.unique(
                grams[:-1] * vocabulary + text[n - 1 :], return_index=True, return_inverse=True, return_counts=True
            )
            if n > 1:
                # Each n-gram adds one to the (n-1)-gram that it ends with; the start of the text adds one to the first.
                preceding = np.bincount(grams[1:][where], minlength=len(keys[-1]))
                preceding[grams[:1]] += 1
                continuations.append(preceding)
            keys.append(unique)
            counts.append(occurrences)
            grams = longer
        return cls(vocabulary, tuple(keys), tuple(counts), tuple(continuations))

    def nats(self, ids: Tokens, order: int | None = None) -> Reals:
        """Compute the negative log probability of each token but the first, given the tokens before it.

        Args:
            ids: a text (T,), tokens from 0 to vocabulary - 1.
            order: order of the model to use, from 1 to the fitted order, which is the default.

        Returns:
            Nats (T - 1,) for ids[1:]; empty for fewer than two tokens. A token sees the order - 1 tokens before it; if
            there are fewer, the lower orders give its probability.

        Raises:
            ValueError: if a token or the order is out of range.
        """
        order = self.order if order is None else order
        if not 1 <= order <= self.order:
            raise ValueError(f"order must be from 1 to {self.order}, got {order}")
        return -np.log(next(islice(self._by_order(_checked(ids, self.vocabulary)), order - 1, None)))

    def next_probabilities(self, ids: Tokens) -> Reals:
        """Compute the probability of every token of the vocabulary after each token of a text.

        Args:
            ids: a text (T,), tokens from 0 to vocabulary - 1.

        Returns:
            Probabilities (T, V); those of row t are of the token after ids[t].

        Raises:
            ValueError: if a token is out of range.
        """
        text = _checked(ids, self.vocabulary)
        p = np.full((len(text), self.vocabulary), 1 / self.vocabulary)
        context = before = np.zeros(len(text), np.int64)
        for keys, (own_share, lower_share) in zip(self.keys, self._all_shares, strict=True):
            # The n-grams of a context, which its id begins, are next to each other in the sorted keys.
            begin, end = (np.searchsorted(keys, (context + i) * self.vocabulary) for i in (0, 1))
            row = np.repeat(np.arange(len(text)), end - begin)
            gram = np.arange(len(row)) + (end - np.cumsum(end - begin))[row]
            p *= lower_share[context][:, None]
            p[row, keys[gram] % self.vocabulary] += own_share[gram]
            context = _find(keys, before * self.vocabulary + text)
            before = np.concatenate([[-1], context[:-1]])[: len(text)]
        return p

    @cached_property
    def _all_shares(self) -> list[tuple[Reals, Reals]]:
        """The shares of each order; kept, since a text that is generated needs them for every token."""
        return [self._shares(n, a) for n, a in enumerate((*self.continuations, self.counts[-1]))]

    def _by_order(self, text: Integers) -> Iterator[Reals]:
        """Iterate over the probabilities (T - 1,) of text[1:] by the models of order 1, 2, ..., lowest first."""
        lower = np.full(len(text), 1 / self.vocabulary)
        context = np.zeros(len(text), np.int64)  # -1 stands for every n-gram that is not in the fitted text
        for n in range(self.order):
            gram = _find(self.keys[n], context * self.vocabulary + text)
            yield self._interpolate(n, self.counts[n], context, gram, lower)[1:]
            if n + 1 < self.order:
                lower = self._interpolate(n, self.continuations[n], context, gram, lower)
            context = np.concatenate([[-1], gram[:-1]])[: len(text)]

    def _interpolate(self, n: int, a: Integers, context: Integers, gram: Integers, lower: Reals) -> Reals:
        """Compute p_n of the module docstring, with n counted from 0, for arrays of contexts and n-grams."""
        own_share, lower_share = self._shares(n, a)
        return own_share[gram] + lower_share[context] * lower

    def _shares(self, n: int, a: Integers) -> tuple[Reals, Reals]:
        """Return the discounted probability of each n-gram and the weight that each context gives the lower order."""
        discount = _discounts(a)[np.minimum(a, 3)]
        owner = self.keys[n] // self.vocabulary
        contexts = len(self.keys[n - 1]) if n else 1
        total = np.bincount(owner, a, contexts)
        taken = np.bincount(owner, discount, contexts)
        # Index -1 reads the extra last element: no share of its own, everything from the lower order.
        share = np.append((a - discount) / total[owner], 0.0)
        return share, np.append(np.divide(taken, total, out=np.ones(contexts), where=total > 0), 1.0)

    def truncated(self, order: int) -> NGram:
        """Return the model of a lower order, from 1 to the order of this one, without the tables it does not need."""
        if not 1 <= order <= self.order:
            raise ValueError(f"order must be from 1 to {self.order}, got {order}")
        return NGram(self.vocabulary, self.keys[:order], self.counts[:order], self.continuations[: order - 1])

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the model as five arrays for safetensors, each in the narrowest unsigned integer type that fits."""
        arrays = {
            "vocabulary": np.array([self.vocabulary]),
            "sizes": np.array([len(keys) for keys in self.keys]),
            "keys": np.concatenate(self.keys),
            "counts": np.concatenate(self.counts),
            "continuations": np.concatenate([np.zeros(0, np.int64), *self.continuations]),
        }
        return {name: array.astype(np.min_scalar_type(array.max(initial=0))) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NGram:
        """Restore a model from the arrays that `tensors` returns. Other names are ignored.

        Raises:
            ValueError: if an array is missing, or the arrays are not a model.
        """
        missing = [name for name in TENSORS if name not in tensors]
        if missing:
            raise ValueError(f"n-gram model: tensors missing: {', '.join(missing)}")
        for name in TENSORS:
            if tensors[name].ndim != 1 or tensors[name].dtype.kind not in "iu":
                raise ValueError(
                    f"n-gram model: {name} must be a 1-D array of integers, got {_described(tensors[name])}"
                )
        vocabulary, sizes, keys, counts, continuations = (tensors[name].astype(np.int64) for name in TENSORS)
        if len(vocabulary) != 1 or vocabulary[0] < 1 or len(sizes) < 1 or sizes.min() < 0:
            raise ValueError(
                "n-gram model: vocabulary must be an integer of at least 1, sizes one of at least 0 for each order"
            )
        *lower, last = sizes.tolist()
        wanted = (sum(lower) + last, sum(lower) + last, sum(lower))
        lengths = (len(keys), len(counts), len(continuations))
        if lengths != wanted:
            raise ValueError(f"n-gram model: keys, counts, continuations must have lengths {wanted}, got {lengths}")
        ends = np.cumsum(lower, dtype=np.int64)
        rows = (tuple(np.split(keys, ends)), tuple(np.split(counts, ends)), tuple(np.split(continuations, ends)[:-1]))
        model = cls(int(vocabulary[0]), *rows)
        if counts.min(initial=1) < 1 or continuations.min(initial=1) < 1:
            raise ValueError("n-gram model: counts and continuations must be at least 1")
        for n, (row, contexts) in enumerate(zip(model.keys, [1, *lower], strict=True)):
            end = model.vocabulary * contexts
            if len(row) and (row[0] < 0 or row[-1] >= end or (np.diff(row) <= 0).any()):
                raise ValueError(
                    f"n-gram model: the keys of order {n + 1} must be strictly increasing, from 0 to below {end}"
                )
        return model


def best(train: Tokens, validation: Tokens, vocabulary: int, highest: int) -> NGram:
    """Fit n-gram models and choose the order with the fewest nats per token on the validation text.

    Args:
        train: token ids (N,) to fit the models to.
        validation: token ids (M,) to choose the order by.
        vocabulary: number of tokens.
        highest: highest order to try; the lowest is 1.

    Returns:
        The model of the best order.

    Raises:
        ValueError: if a token is out of range, validation has fewer than two tokens, or highest is less than 1.
    """
    text = _checked(validation, vocabulary)
    if len(text) < 2:
        raise ValueError(f"validation must have at least two tokens, got {len(text)}")
    model = NGram.fit(train, vocabulary, highest)
    means = [-np.log(p).mean() for p in model._by_order(text)]
    return model.truncated(int(np.argmin(means)) + 1)


def _discounts(a: Integers) -> Reals:
    """Compute D(0), D_1, D_2 and D_3 for one order with counts a.

    If one of the n_j is zero, as for the letters of a long text, Y n_{j+1} / n_j is undefined. With few n-grams, D_j
    may leave the range 0 < D_j < j that keeps every probability above zero. D_j is then the middle, j / 2, which KenLM
    also falls back to (0.5, 1, 1.5).
    """
    j = np.arange(1.0, 4.0)
    n = np.bincount(np.minimum(a, 5), minlength=6)[1:5]
    y = n[0] / max(n[0] + 2 * n[1], 1)
    d = j - (j + 1) * y * n[1:] / np.maximum(n[:3], 1)
    is_valid = (n[1] > 0) & (n[:3] > 0) & (d > 0) & (d < j)
    return np.append(0.0, np.where(is_valid, d, j / 2))


def _find(keys: Integers, wanted: Integers) -> Integers:
    """Return the position of each wanted number among the sorted keys, or -1."""
    place = np.searchsorted(keys, wanted)
    return np.where(np.append(keys, np.iinfo(np.int64).min)[place] == wanted, place, -1)


def _checked(ids: Tokens, vocabulary: int) -> Integers:
    """Check that a text is a row of tokens from 0 to vocabulary - 1, and return it as int64."""
    text = np.asarray(ids)
    if vocabulary < 1:
        raise ValueError(f"vocabulary must be at least 1, got {vocabulary}")
    if text.ndim != 1 or text.dtype.kind not in "iu":
        raise ValueError(f"ids must be a 1-D array of integers, got {_described(text)}")
    if len(text) and not 0 <= text.min() <= text.max() < vocabulary:
        raise ValueError(f"ids must be from 0 to {vocabulary - 1}, got {text.min()} to {text.max()}")
    return text.astype(np.int64)


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
