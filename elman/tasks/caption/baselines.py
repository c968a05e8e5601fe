"""Baselines of captioning without a recurrent network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from elman.baselines import linear
from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.data.splits import count_inputs
from elman.tasks.caption.codec import CaptionCodec
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.codec import texts_from_tensor, texts_to_tensor
from elman.tasks.supervised import Baseline, sample_note
from elman.tasks.text_output import TextPrediction

MAX_PIXELS = 50_000_000  # for a regression, which has all of them in memory
MAX_TEXTS = 100  # different texts that a regression chooses among


class MostFrequentText(Baseline):
    """Always predicts the same text."""

    title = "most frequent text"

    def __init__(self, text: str) -> None:
        self._text = text

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        return [TextPrediction(self._text)] * len(examples)

    @override
    def tensors(self) -> dict[str, Tensor]:
        return {"most_frequent": texts_to_tensor([self._text])}


class TextChoice(Baseline):
    """A logistic regression from all pixels to one of the training texts.

    Args:
        codec: the fitted codec.
        texts: the N texts, sorted.
        layers: as in `elman.baselines.linear`.
        images: the number of images that it was fitted on; 0: all.
    """

    def __init__(self, codec: CaptionCodec, texts: Sequence[str], layers: linear.Layers, images: int = 0) -> None:
        self._codec, self._texts, self._images = codec, texts, images
        self._layers = [(W.astype(np.float32), b.astype(np.float32)) for W, b in layers]
        self.title = f"logistic regression to whole texts{sample_note(images, 'images')}"

    @classmethod
    def fit(cls, codec: CaptionCodec, train: Sequence[Example]) -> "TextChoice":
        """Fit on examples with at least two different texts."""
        texts, y = np.unique([example.target for example in train], return_inverse=True)
        numbers = linear.sample_each_label(y, MAX_PIXELS // codec.source(train[0]).numel())
        sample = Subset(train, numbers)
        X = np.stack([codec.source(example).numpy().ravel() for example in sample])
        layers = linear.logistic(X, y[numbers])
        return cls(codec, texts.tolist(), layers, count_inputs(sample, unique=True) if len(sample) < len(train) else 0)

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        X = np.stack([self._codec.source(example).numpy().ravel() for example in examples])
        return [TextPrediction(self._texts[i]) for i in linear.probabilities(self._layers, X).argmax(1)]

    @override
    def tensors(self) -> dict[str, Tensor]:
        ((W, b),) = self._layers
        images = {"choice_images": torch.tensor([self._images])} if self._images else {}
        arrays = {"choice_W": torch.from_numpy(W), "choice_b": torch.from_numpy(b)}
        return {"choice_texts": texts_to_tensor(self._texts)} | arrays | images


def fit_baselines(codec: CaptionCodec, train: Sequence[Example], options: CaptionOptions, seed: int) -> list[Baseline]:
    """Fit the most frequent text; if there are few texts that occur repeatedly, also a logistic regression."""
    counts = Counter(example.target for example in train)
    baselines: list[Baseline] = [MostFrequentText(counts.most_common(1)[0][0])]
    if 1 < len(counts) <= min(MAX_TEXTS, len(train) // 2):
        baselines.append(TextChoice.fit(codec, train))
    return baselines


def load_baselines(codec: CaptionCodec, tensors: Mapping[str, Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    baselines: list[Baseline] = [MostFrequentText(*texts_from_tensor(tensors["most_frequent"]))]
    if "choice_texts" in tensors:
        texts, images = texts_from_tensor(tensors["choice_texts"]), tensors.get("choice_images")
        layers = linear.from_arrays([tensors[f"choice_{name}"].numpy() for name in "Wb"], None, len(texts))
        baselines.append(TextChoice(codec, texts, layers, 0 if images is None else int(images)))
    return baselines
