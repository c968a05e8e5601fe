"""The n-gram baseline of a language model, for texts of any length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.baselines.kneser_ney import NGram, Tokens, best

MAX_TOKENS = 10_000_000  # to fit, and to validate: counts take about 100 bytes per token
BLOCK_SIZE = 1 << 20  # tokens to score at once
COUNTS = ("last", "sample")  # fields that are stored besides the n-gram


@dataclass(frozen=True)
class NgramBaseline:
    """An n-gram model.

    Args:
        model: the fitted n-gram.
        last: the number of tokens at the end of the training part that it was fitted on; 0: all.
        sample: the number of tokens of the sample of the training part that it was fitted on; 0: none.
    """

    model: NGram
    last: int = 0
    sample: int = 0

    @property
    def title(self) -> str:
        """The title in tables and plots."""
        if self.sample:
            return f"{self.model.title}, of a sample of {self.sample:,} tokens"
        return f"{self.model.title}{f', of the last {self.last:,} tokens' if self.last else ''}"

    @classmethod
    def fit(
        cls, train: Tokens, validation: Tokens, vocabulary: int, highest: int, is_sample: bool = False
    ) -> NgramBaseline:
        """Fit n-grams of orders 1 to `highest`, and return the best on the validation part.

        Args:
            train: tokens of the training part.
            validation: tokens of the validation part.
            vocabulary: size of the vocabulary.
            highest: the highest order.
            is_sample: whether `train` is a sample of the training part.
        """
        model = best(train[-MAX_TOKENS:], validation[:MAX_TOKENS], vocabulary, highest)
        if is_sample:
            return cls(model, sample=min(len(train), MAX_TOKENS))
        return cls(model, MAX_TOKENS if len(train) > MAX_TOKENS else 0)

    def nats(self, ids: Tokens, size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the negative log-likelihood of ids[1:] in nats, summed over blocks of `size` tokens, and their tokens.

        Args:
            ids: the tokens.
            size: tokens of a block, a divisor of `BLOCK_SIZE`.
        """
        sums, context = list[NDArray[np.float64]](), max(self.model.order - 1, 1)
        for begin in range(1, len(ids), BLOCK_SIZE):
            end = min(begin + BLOCK_SIZE, len(ids))
            nats = self.model.nats(ids[max(begin - context, 0) : end])[begin - end :]
            sums.append(np.add.reduceat(nats, np.arange(0, len(nats), size)))
        begins = np.arange(0, len(ids) - 1, size)
        return np.concatenate([np.zeros(0), *sums]), np.minimum(size, len(ids) - 1 - begins)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the model for safetensors."""
        counts = {name: np.array([count]) for name in COUNTS if (count := getattr(self, name))}
        return self.model.tensors() | counts

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NgramBaseline:
        """Load the model from `tensors`.

        Raises:
            ValueError: as `NGram.from_tensors`.
        """
        counts = {name: int(tensors[name][0]) for name in COUNTS if name in tensors}
        return cls(NGram.from_tensors(tensors), **counts)
