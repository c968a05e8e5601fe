"""Images to labels as a task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from elman.data.examples import Example, is_files
from elman.data.images import Image as Pixels
from elman.data.images import image_of, images_with, picture, scaled
from elman.data.validation import label_of, sides
from elman.tasks.classification import ClassificationTask, Feedforward, labels_of
from elman.tasks.codec import Codec
from elman.tasks.image import data as images
from elman.tasks.image.model import ImageClassifier
from elman.tasks.image.options import ImageOptions
from elman.tasks.supervised import Baseline


@dataclass(frozen=True)
class ImageCodec(Codec):
    """What turns images to numbers.

    labels: in order.
    rows, columns: the shape that images have.
    read: which of these are the steps.
    white: which number is that, in data that do not say it.
    """

    labels: list[str]
    rows: int
    columns: int
    read: str
    white: int = 255

    @property
    def height(self) -> int:
        """Pixels of a step."""
        return self.rows if self.read == "columns" else self.columns

    def image(self, example: Example) -> Pixels:
        """Of this shape, 0 to 1."""
        return scaled(images.scaled_by(self.white, example), self.rows, self.columns)


class Image(ClassificationTask):
    """What an image shows, read step by step."""

    name = "image"
    unit = "images"
    loss = "nats_per_image"
    what = "a reader of images"
    options = ImageOptions
    codec_type = ImageCodec
    one = "image"
    next = "to use it: elman predict {run} PICTURE"
    default = "scikit-learn's digits"

    def read(self, data: Any, options: ImageOptions) -> Iterator[Example]:
        """As there; in Python, images (N, rows, columns) from 0 to 1, and labels."""
        if data is None:
            return images.digits()
        if is_files(data):
            return images.read(data, options.skip_bad)
        several, labels = sides(self.name, data, "images (N, rows, columns)", "labels")
        return images_with(self.name, several, labels, label_of, options.skip_bad)

    @override
    def fit(self, train: Sequence[Example], options: ImageOptions) -> ImageCodec:
        white = images.white_of(train)
        rows, columns = (options.size,) * 2 if options.size else images.scaled_by(white, train[0]).shape
        return ImageCodec(labels_of(self.name, train), rows, columns, options.read, white)

    def check(self, codec: ImageCodec, examples: Sequence[Example]) -> None:
        """As there, and for an image with numbers beyond those of the training."""
        super().check(codec, examples)
        for example in examples:
            images.scaled_by(codec.white, example)

    @override
    def shape(self, codec: ImageCodec, options: ImageOptions) -> dict[str, Any]:
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        return {"height": codec.height, "labels": len(codec.labels)} | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> ImageClassifier:
        return ImageClassifier(**shape)

    def encode(self, codec: ImageCodec, example: Example) -> tuple[Any, int]:
        """As there: steps (T, D), and the number of the label."""
        image = codec.image(example)
        steps = torch.from_numpy(np.ascontiguousarray(image.T if codec.read == "columns" else image))
        label = codec.labels.index(example.target) if example.target in codec.labels else -1
        return (steps, label), len(steps)

    def collate(self, encoded: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """As there: (T, B, D), (B,)."""
        return torch.stack([steps for steps, _ in encoded], 1), torch.tensor([label for _, label in encoded])

    @override
    def say(self, model: Any, codec: ImageCodec, batch: Any) -> list[Any]:
        return list(model(batch[0]).double().softmax(1).numpy())

    def features(self, codec: ImageCodec, examples: Sequence[Example]) -> Any:
        """All pixels at once."""
        return np.stack([codec.image(example).ravel() for example in examples])

    def baselines(
        self, codec: ImageCodec, train: Sequence[Example], options: ImageOptions, seed: int
    ) -> list[Baseline]:
        """A logistic regression, and a feed-forward network of as many weights."""
        count = sum(p.numel() for p in self.model(**self.shape(codec, options)).parameters())
        return [
            Feedforward.logistic(self, codec, train, 1.0, "logistic regression"),
            Feedforward.with_weights(self, codec, train, count, seed),
        ]

    def given(self, what: Any, options: ImageOptions) -> Example:
        """As there: a file; in Python, (rows, columns) from 0 to 1."""
        if isinstance(what, str | Path):
            return Example(picture(Path(what)), name=str(what))
        return Example(image_of(what, "image"))


TASK = Image()
