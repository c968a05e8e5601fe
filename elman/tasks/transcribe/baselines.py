"""The baseline of transcription: the text of the nearest training recording."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.baselines.dtw import Steps, distances
from elman.data.examples import Example
from elman.tasks.codec import texts_from_tensor, texts_to_tensor
from elman.tasks.supervised import Baseline
from elman.tasks.transcribe.codec import TranscribeCodec
from elman.tasks.transcribe.prediction import TranscribePrediction

MAX_TEMPLATES = 1000  # fewer if recordings are long
MAX_STEP_PAIRS = 20_000_000  # for each transcribed recording: about 0.2 seconds


class Nearest(Baseline):
    """The text of the nearest template by dynamic time warping.

    Args:
        codec: the fitted codec.
        templates: features of N recordings, (T, D) each.
        texts: the N texts.
    """

    def __init__(self, codec: TranscribeCodec, templates: Sequence[Steps], texts: Sequence[str]) -> None:
        self._codec, self._templates, self._texts = codec, list(templates), list(texts)
        self.title = f"nearest of {len(texts):,} recordings (DTW)"

    @classmethod
    def fit(cls, codec: TranscribeCodec, train: Sequence[Example]) -> "Nearest":
        """Take templates from the training part, evenly spaced if there are too many."""
        longest = max(len(codec.steps(example.input)) for example in train)
        count = max(1, min(len(train), MAX_TEMPLATES, MAX_STEP_PAIRS // longest**2))
        chosen = [train[i] for i in np.linspace(0, len(train) - 1, count).round().astype(int).tolist()]
        templates = [codec.steps(example.input).numpy() for example in chosen]
        return cls(codec, templates, [example.target for example in chosen])

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        steps = (self._codec.steps(example.input).numpy() for example in examples)
        nearest = (distances(query, self._templates).argmin() for query in steps)
        return [TranscribePrediction(self._texts[i]) for i in nearest]

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "templates": torch.from_numpy(np.concatenate(self._templates)),
            "lengths": torch.tensor([len(steps) for steps in self._templates]),
            "texts": texts_to_tensor(self._texts),
        }


def fit_baselines(codec: TranscribeCodec, train: Sequence[Example], options: Any, seed: int) -> list[Baseline]:
    """Fit the nearest-recording baseline."""
    return [Nearest.fit(codec, train)]


def load_baselines(codec: TranscribeCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    templates = tensors["templates"].split(tensors["lengths"].tolist())
    return [Nearest(codec, [steps.numpy() for steps in templates], texts_from_tensor(tensors["texts"]))]
