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


@dataclass(frozen=True)
class NgramBaseline:
    """An n-gram model.

    Args:
        model: the fitted n-gram.
        last: the number of tokens at the end of the training part that it was fitted on; 0: all.
    """

    model: NGram
    last: int = 0

    @property
    def title(self) -> str:
        """The title in tables and plots."""
        return f"{self.model.title}{f', of the last {self.last:,} tokens' if self.last else ''}"

    @classmethod
    def fit(cls, train: Tokens, validation: Tokens, vocabulary: int, highest: int) -> NgramBaseline:
        """Fit n-grams of orders 1 to `highest`, and return the best on the validation part."""
        model = best(train[-MAX_TOKENS:], validation[:MAX_TOKENS], vocabulary, highest)
        return cls(model, MAX_TOKENS if len(train) > MAX_TOKENS else 0)

    def nats(self, ids: Tokens) -> float:
        """Return the negative log-likelihood of ids[1:] in nats."""
        total, context = 0.0, max(self.model.order - 1, 1)
        for begin in range(1, len(ids), BLOCK_SIZE):
            end = min(begin + BLOCK_SIZE, len(ids))
            total += float(self.model.nats(ids[max(begin - context, 0) : end])[begin - end :].sum())
        return total

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the model for safetensors."""
        return self.model.tensors() | ({"last": np.array([self.last])} if self.last else {})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NgramBaseline:
        """Load the model from `tensors`.

        Raises:
            ValueError: as `NGram.from_tensors`.
        """
        return cls(NGram.from_tensors(tensors), int(tensors["last"][0]) if "last" in tensors else 0)
