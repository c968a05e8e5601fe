"""What says something of images without a recurrent network."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.data.splits import inputs_of
from elman.tasks.classification import some_of_each
from elman.tasks.supervised import Baseline
from elman.tasks.text_output import TextPrediction, kept_texts, restored_texts

NUMBERS = 50_000_000  # pixels that a regression is fitted on: it has them all in memory at once
Pixels = Callable[[Any, Example], Tensor]  # of a codec and an example


class MostFrequentText(Baseline):
    """Always the same text.

    Args:
        text: that.
    """

    title = "most frequent text"

    def __init__(self, text: str) -> None:
        self._text = text

    @override
    def say(self, examples: Sequence[Example]) -> list[Any]:
        return [TextPrediction(self._text)] * len(examples)

    @override
    def tensors(self) -> dict[str, Tensor]:
        return {"most_frequent": kept_texts([self._text])}

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "MostFrequentText":
        """The same of what a run has kept."""
        return cls(*restored_texts(tensors["most_frequent"]))


class Choice(Baseline):
    """A logistic regression, from all pixels at once to one of the texts of the training.

    Args:
        pixels: of an example.
        codec: what these are read with.
        texts: N of them.
        W: (D, N).
        b: (N,).
        images: that it was fitted on; 0: all.
    """

    def __init__(
        self,
        pixels: Pixels,
        codec: Any,
        texts: Sequence[str],
        W: NDArray[np.float32],
        b: NDArray[np.float32],
        images: int = 0,
    ) -> None:
        self._pixels, self._codec, self._texts, self._W, self._b, self._images = pixels, codec, texts, W, b, images
        self.title = f"logistic regression to whole texts{f', of {images:,} images' if images else ''}"

    @classmethod
    def fit(cls, pixels: Pixels, codec: Any, train: Sequence[Example]) -> "Choice":
        """Of these examples, with two different texts at least."""
        from sklearn.linear_model import LogisticRegression

        texts, y = np.unique([example.target for example in train], return_inverse=True)
        most = NUMBERS // pixels(codec, train[0]).numel()
        some = Subset(train, some_of_each(y, most)) if len(train) > most else train
        X = np.stack([pixels(codec, example).numpy().ravel() for example in some])
        found = LogisticRegression(max_iter=1000).fit(X, [example.target for example in some])
        W, b = found.coef_.T.astype(np.float32), found.intercept_.astype(np.float32)
        if len(b) == 1:  # of two texts scikit-learn has the second's alone
            W, b = np.hstack([-W, W]), np.hstack([-b, b])
        return cls(pixels, codec, texts.tolist(), W, b, inputs_of(some, once=True) if len(some) < len(train) else 0)

    @override
    def say(self, examples: Sequence[Example]) -> list[Any]:
        X = np.stack([self._pixels(self._codec, example).numpy().ravel() for example in examples])
        return [TextPrediction(self._texts[i]) for i in (X @ self._W + self._b).argmax(1)]

    @override
    def tensors(self) -> dict[str, Tensor]:
        W, b = torch.from_numpy(self._W), torch.from_numpy(self._b)
        images = {"choice_images": torch.tensor([self._images])} if self._images else {}
        return {"choice_texts": kept_texts(self._texts), "choice_W": W, "choice_b": b} | images

    @classmethod
    def restored(cls, pixels: Pixels, codec: Any, tensors: dict[str, Tensor]) -> "list[Choice]":
        """The same of what a run has kept; none where it has none."""
        if "choice_texts" not in tensors:
            return []
        W, b = tensors["choice_W"].numpy(), tensors["choice_b"].numpy()
        images = int(tensors["choice_images"]) if "choice_images" in tensors else 0
        return [cls(pixels, codec, restored_texts(tensors["choice_texts"]), W, b, images)]
