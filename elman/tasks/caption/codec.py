"""Encoding of images and texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import DiskList
from elman.data.examples import Example
from elman.data.images import scaled
from elman.io.schema import Size
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.text_output import TextOutputCodec, Vocabulary, decoder_args


@dataclass(frozen=True)
class CaptionCodec(TextOutputCodec):
    """Encodes images, scaled to one shape, and texts.

    Attributes:
        target, longest, beam: as in `TextOutputCodec`.
        rows, columns: the shape of images.
    """

    rows: Size
    columns: Size

    output_column: ClassVar[str] = "text"

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: CaptionOptions) -> "CaptionCodec":
        rows, columns = (options.size, options.size) if options.size else train[0].input.shape
        texts = DiskList(example.target for example in train)  # read several times, without the images
        target = Vocabulary.fit(options.tokens, texts, options.vocabulary)
        return cls(target, target.longest(texts), options.beam, rows, columns)

    @override
    def model_args(self, options: CaptionOptions) -> dict[str, Any]:
        return {"width": self.columns, "vocabulary": len(self.target)} | decoder_args(options)

    @override
    def source(self, example: Example) -> Tensor:
        """Return the rows of an image, (T, D)."""
        return torch.from_numpy(np.ascontiguousarray(scaled(example.input, self.rows, self.columns)))
