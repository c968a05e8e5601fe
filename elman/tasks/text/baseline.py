"""The n-gram baseline of a text, which may be a long one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.baselines.kneser_ney import NGram, Tokens, best

LAST = 10_000_000  # tokens that are counted, and by which the order is chosen: counts take some 100 bytes for each
BLOCK = 1 << 20  # tokens that are scored at once


@dataclass(frozen=True)
class NgramBaseline:
    """An n-gram model.

    Args:
        model: it.
        last: how many tokens at the end of the training part it was fitted on; 0: all.
    """

    model: NGram
    last: int = 0

    @property
    def title(self) -> str:
        """What tables and pictures call it."""
        return f"{self.model.title}{f', of the last {self.last:,} tokens' if self.last else ''}"

    @classmethod
    def fit(cls, train: Tokens, validation: Tokens, vocabulary: int, highest: int) -> NgramBaseline:
        """The best of the orders from 1 to highest, as `elman.baselines.kneser_ney.best` has it."""
        model = best(train[-LAST:], validation[:LAST], vocabulary, highest)
        return cls(model, LAST if len(train) > LAST else 0)

    def nats(self, ids: Tokens) -> float:
        """Summed over ids[1:]."""
        total, context = 0.0, max(self.model.order - 1, 1)
        for begin in range(1, len(ids), BLOCK):
            end = min(begin + BLOCK, len(ids))
            total += float(self.model.nats(ids[max(begin - context, 0) : end])[begin - end :].sum())
        return total

    def tensors(self) -> dict[str, NDArray[Any]]:
        """For safetensors."""
        return self.model.tensors() | ({"last": np.array([self.last])} if self.last else {})

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> NgramBaseline:
        """The inverse of `tensors`.

        Raises:
            ValueError: as `NGram.from_tensors` does.
        """
        return cls(NGram.from_tensors(tensors), int(tensors["last"][0]) if "last" in tensors else 0)
