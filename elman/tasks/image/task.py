"""Image classification: each row or column of an image is a time step."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from elman.data.examples import Example, is_files
from elman.data.image_maps import draw_bend, draw_map, mapped
from elman.data.images import RGB, Image, image_example, images_with, scaled, with_channels
from elman.data.validation import label_of, sides
from elman.io.schema import Natural, Size
from elman.io.terminal import note
from elman.options import Share
from elman.tasks.classification import (
    CONFUSION,
    ClassificationCodec,
    classification_metrics,
    fit_feedforward,
    fit_labels,
    fit_logistic,
    load_feedforward,
    stratified_split,
    target,
)
from elman.tasks.codec import NO_LABEL
from elman.tasks.image import data as images
from elman.tasks.image.export import export
from elman.tasks.image.model import ImageClassifier
from elman.tasks.image.options import ImageOptions
from elman.tasks.supervised import Baseline, SupervisedTask
from elman.tasks.task import parameter_count


@dataclass(frozen=True)
class ImageCodec(ClassificationCodec):
    """Scales images to one shape.

    Attributes:
        labels: in order.
        rows, columns: the shape of images.
        read: "rows" or "columns", which are the time steps.
        white: the value of white, in data that do not define it.
        perturb, flip: how images are changed in training, for `draw_map` and `draw_bend`.
        channels: 1 for grey images, 3 for colour.
        filters: of the convolutions; 0: none, as in runs of earlier versions.
    """

    rows: Size
    columns: Size
    read: Literal["columns", "rows"]
    white: Size = 255
    perturb: Share = 0.0
    flip: bool = False
    channels: Literal[1, 3] = 1
    filters: Natural = 0

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: ImageOptions) -> "ImageCodec":
        labels, in_color = set[Any](), 0

        def counted() -> Iterator[Example]:
            nonlocal in_color
            for example in train:
                labels.add(example.target)
                in_color += example.input.ndim == RGB
                yield example

        white = images.find_white(counted())
        if in_color:
            note(f"{in_color:,} of {len(train):,} training images have colour, so all are read in colour; else --grey")
        rows, columns = (options.size,) * 2 if options.size else images.scale_by(white, train[0]).shape[:2]
        return cls(
            fit_labels("image", labels),
            rows,
            columns,
            options.read,
            white,
            options.perturb,
            options.flip,
            channels=3 if in_color else 1,
            filters=options.filters,
        )

    @override
    def model_args(self, options: ImageOptions) -> dict[str, Any]:
        height, width = (self.rows, self.columns) if self.read == "columns" else (self.columns, self.rows)
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        args = {"height": height, "labels": len(self.labels)} | {name: getattr(options, name) for name in names}
        args |= {"channels": self.channels} if self.channels > 1 else {}  # runs of earlier versions have none
        return args | ({"filters": self.filters, "width": width} if self.filters else {})

    def image(self, example: Example) -> Image:
        """Return the image in the codec's shape and number of channels, values from 0 to 1."""
        image = with_channels(images.scale_by(self.white, example), self.channels)
        return scaled(image, self.rows, self.columns)

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return the steps (T, D) and the label number."""
        steps = self._steps(self._planes(example))
        return (steps, self.label.get(example.target, NO_LABEL)), len(steps)

    def _planes(self, example: Example) -> Tensor:
        """Return the image as (C, rows, columns)."""
        return torch.tensor(self.image(example)).view(self.rows, self.columns, self.channels).permute(2, 0, 1)

    def _steps(self, planes: Tensor) -> Tensor:
        """Return images (..., C, rows, columns) as time steps, (..., T, D): D has one channel after the other."""
        planes = planes.mT if self.read == "columns" else planes
        return planes.transpose(-3, -2).flatten(-2).contiguous()

    @property
    @override
    def augments(self) -> bool:
        return bool(self.perturb or self.flip)

    @override
    def to_augment(self, example: Example) -> Example:
        """Return an example with its image in the codec's shape."""
        return example._replace(input=self.image(example))

    @override
    def augment(self, examples: Sequence[Example], rngs: Iterable[np.random.Generator]) -> list[Any]:
        """Return the steps (T, D) of images that are changed at random, and the label numbers."""
        planes = torch.stack([self._planes(example) for example in examples])
        drawn = [(draw_map(self.perturb, self.flip, rng), draw_bend(self.perturb, rng)) for rng in rngs]
        steps = self._steps(mapped(planes, *zip(*drawn, strict=True)))
        return [(x, self.label[example.target]) for x, example in zip(steps, examples, strict=True)]

    @override
    def collate(self, encoded: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Return a batch: images (T, B, D) and labels (B,)."""
        return torch.stack([steps for steps, _ in encoded], 1), torch.tensor([label for _, label in encoded])

    @override
    def predict(self, model: Any, batch: Any) -> list[Any]:
        return list(model(batch[0]).cpu().double().softmax(1).numpy())

    @override
    def check_target(self, example: Example) -> None:
        super().check_target(example)
        images.scale_by(self.white, example)  # raises for values above those of the training

    def features(self, examples: Sequence[Example]) -> Any:
        """Return all pixels as features."""
        return np.stack([self.image(example).ravel() for example in examples])


def read(data: Any, options: ImageOptions) -> Iterable[Example]:
    """Read images with labels.

    Args:
        data: files; or arrays, (N, rows, columns) or (N, rows, columns, 3), and labels; None: scikit-learn's digits.
        options: the options.
    """
    if data is None:
        return images.load_sklearn_digits()
    if is_files(data):
        return images.read(data, options.skip_bad, not options.grey)
    arrays, labels = sides("image", data, "images (N, rows, columns)", "labels")
    examples = images_with("image", arrays, labels, label_of, options.skip_bad, color=True)
    return map(_as_grey, examples) if options.grey else examples


def _as_grey(example: Example) -> Example:
    return example._replace(input=with_channels(example.input, 1))


def fit_baselines(codec: ImageCodec, train: Sequence[Example], options: ImageOptions, seed: int) -> list[Baseline]:
    """Fit a logistic regression, and a feed-forward network with as many weights as the model."""
    count = parameter_count(ImageClassifier(**codec.model_args(options)))
    return [
        fit_logistic("logistic regression", codec, train, 1.0, "images"),
        fit_feedforward(codec, train, count, seed, "images"),
    ]


TASK = SupervisedTask(
    name="image",
    description="an image classifier",
    options=ImageOptions,
    read=read,
    parse_input=lambda value, options: image_example(value, not (options.grey and isinstance(value, str | Path))),
    codec=ImageCodec,
    model=ImageClassifier,
    unit="images",
    loss="nats_per_image",
    score="accuracy",
    metrics=partial(classification_metrics, loss="nats_per_image"),
    split=stratified_split,
    label=target,
    fit_baselines=fit_baselines,
    load_baselines=load_feedforward,
    export=export,
    json_inputs=list[list[list[float | list[float]]]],  # images, rows, pixels: grey, or red, green and blue
    plots=(CONFUSION,),
    input_name="image",
    default_data="scikit-learn's digits",
    next_step="to use it: elman predict {run} PICTURE",
)
