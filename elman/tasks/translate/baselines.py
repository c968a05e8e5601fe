"""The baseline of translation: IBM model 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from elman.baselines import ibm_model1
from elman.data.disk_list import spread
from elman.data.examples import Example
from elman.tasks.codec import texts_from_tensor, texts_to_tensor
from elman.tasks.supervised import Baseline, sample_note
from elman.tasks.text_output import TextPrediction

MAX_WORD_PAIRS = 30_000_000  # of the sentence pairs to fit, which have to fit into memory


class Dictionary(Baseline):
    """Translates word by word.

    Args:
        table: the translation of each word.
        pairs: the number of sentence pairs that it was fitted on; 0: all.
    """

    def __init__(self, table: dict[str, str], pairs: int = 0) -> None:
        self._table, self._pairs = table, pairs
        self.title = f"word by word (IBM model 1{sample_note(pairs, 'pairs')})"

    @classmethod
    def fit(cls, train: Sequence[Example]) -> "Dictionary":
        """Fit on an even sample of sentence pairs that fits into memory."""
        word_pairs = sum(
            len(ibm_model1.words(example.input)) * len(ibm_model1.words(example.target)) for example in train
        )
        sample = spread(train, max(1, len(train) * MAX_WORD_PAIRS // max(word_pairs, MAX_WORD_PAIRS)))
        table = ibm_model1.fit([(example.input, example.target) for example in sample])
        return cls(table, len(sample) if len(sample) < len(train) else 0)

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        return [TextPrediction(ibm_model1.translate(example.input, self._table)) for example in examples]

    @override
    def tensors(self) -> dict[str, Tensor]:
        words, translations = list(self._table), list(self._table.values())
        texts = {"words": texts_to_tensor(words), "translations": texts_to_tensor(translations)}
        return texts | ({"pairs": torch.tensor([self._pairs])} if self._pairs else {})


def fit_baselines(codec: Any, train: Sequence[Example], options: Any, seed: int) -> list[Baseline]:
    """Fit a dictionary."""
    return [Dictionary.fit(train)]


def load_baselines(codec: Any, tensors: Mapping[str, Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    words, translations = (texts_from_tensor(tensors[name]) for name in ("words", "translations"))
    pairs = int(tensors["pairs"]) if "pairs" in tensors else 0
    return [Dictionary(dict(zip(words, translations, strict=True)), pairs)]
