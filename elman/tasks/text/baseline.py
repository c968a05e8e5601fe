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
WEIGHT = "weight"


@dataclass(frozen=True)
class NgramBaseline:
    """An n-gram model.

    Args:
        model: the fitted n-gram.
        last: the number of tokens at the end of the training part that it was fitted on; 0: all.
        sample: the number of tokens of the sample of the training part that it was fitted on; 0: none.
        weight: the weight of the network in the ensemble of both; None: there is no ensemble.
    """

    model: NGram
    last: int = 0
    sample: int = 0
    weight: float | None = None

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

    def nats(self, ids: Tokens) -> NDArray[np.float64]:
        """Return the negative log-likelihood of each of ids[1:] in nats, (N - 1,)."""
        parts, context = [np.zeros(0)], max(self.model.order - 1, 1)
        for begin in range(1, len(ids), BLOCK_SIZE):
            end = min(begin + BLOCK_SIZE, len(ids))
            parts.append(self.model.nats(ids[max(begin - context, 0) : end])[begin - end :])
        return np.concatenate(parts)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the model for safetensors."""
        counts = {name: np.array([count]) for name in COUNTS if (count := getattr(self, name))}
        weight = {} if self.weight is None else {WEIGHT: np.array([self.weight])}
        return self.model.tensors() | counts | weight

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NgramBaseline:
        """Load the model from `tensors`.

        Raises:
            ValueError: as `NGram.from_tensors`.
        """
        counts = {name: int(tensors[name][0]) for name in COUNTS if name in tensors}
        weight = tensors.get(WEIGHT)
        if weight is not None and (weight.shape != (1,) or not 0 <= weight[0] <= 1):
            raise ValueError(f"ensemble: weight must be a number from 0 to 1, got {weight.tolist()!s:.80}")
        return cls(NGram.from_tensors(tensors), **counts, weight=None if weight is None else float(weight[0]))
