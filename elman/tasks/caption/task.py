"""Images to texts as a task."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import MappedList
from elman.data.examples import Example, is_files
from elman.data.images import image_of, images_with, picture, scaled
from elman.data.tables import sources
from elman.data.validation import is_table, sides, text_of
from elman.io.run_folder import Run
from elman.tasks import attention_plot
from elman.tasks.caption import data as captions
from elman.tasks.caption.baselines import Choice, MostFrequentText
from elman.tasks.caption.model import Captioner
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.codec import Codec
from elman.tasks.supervised import Baseline
from elman.tasks.text_output import TextOutputTask, TextPrediction, Vocabulary

FEW = 100  # different texts, among which can be chosen


@dataclass(frozen=True)
class CaptionCodec(Codec):
    """What is written, how long at most, with what beam; the shape that images have."""

    target: Vocabulary
    longest: int
    beam: int
    rows: int
    columns: int

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"target": self.target.kept()}

    @classmethod
    @override
    def restored(cls, kept: dict[str, Any]) -> "CaptionCodec":
        return cls(**kept | {"target": Vocabulary.restored(kept["target"])})


class Caption(TextOutputTask):
    """What is to be written about an image, read row by row."""

    name = "caption"
    what = "a writer about images"
    options = CaptionOptions
    pictures: ClassVar = {"attention.png": "Which token was written in view of which rows of an image."}
    codec_type = CaptionCodec
    examples = "images"
    several = True
    one = "image"
    answer = "text"
    scores = ("exact_match", "chrf")
    next = "to use it: elman predict {run} PICTURE"
    default = "scikit-learn's digits, spelled out"

    def read(self, data: Any, options: CaptionOptions) -> Iterator[Example]:
        """As there; in Python, images (N, rows, columns) from 0 to 1, and texts."""
        if data is None:
            return captions.digits()
        if is_files(data) or is_table(data):
            return captions.read(sources(data), options)
        images, texts = sides(self.name, data, "images (N, rows, columns)", "texts")
        return images_with(self.name, images, texts, text_of, options.skip_bad)

    @override
    def fit(self, train: Sequence[Example], options: CaptionOptions) -> CaptionCodec:
        rows, columns = (options.size, options.size) if options.size else train[0].input.shape
        texts = MappedList(train, lambda example: example.target)
        target = Vocabulary.fit(options.tokens, texts, options.vocabulary)
        return CaptionCodec(target, target.longest(texts), options.beam, rows, columns)

    @override
    def shape(self, codec: CaptionCodec, options: CaptionOptions) -> dict[str, Any]:
        return {"width": codec.columns, "vocabulary": len(codec.target)} | self.asked(options)

    @override
    def model(self, **shape: Any) -> Captioner:
        return Captioner(**shape)

    def steps(self, codec: CaptionCodec, example: Example) -> Tensor:
        """As there: rows (T, D)."""
        return torch.from_numpy(np.ascontiguousarray(scaled(example.input, codec.rows, codec.columns)))

    def draw(self, run: Run, codec: CaptionCodec, said: Sequence[TextPrediction], targets: Sequence[str]) -> None:
        """attention.png: of an image, which token was written in view of which rows."""
        one = attention_plot.choose(said)
        assert one.source is not None
        attention_plot.draw(run.path / "attention.png", one, one.source.numpy())

    def baselines(
        self, codec: CaptionCodec, train: Sequence[Example], options: CaptionOptions, seed: int
    ) -> list[Baseline]:
        """The most frequent text; where there are few, and these come again, a logistic regression that chooses."""
        counts = Counter(example.target for example in train)
        found: list[Baseline] = [MostFrequentText(counts.most_common(1)[0][0])]
        if 1 < len(counts) <= min(FEW, len(train) // 2):
            found.append(Choice.fit(self.steps, codec, train))
        return found

    @override
    def restored(self, codec: CaptionCodec, tensors: dict[str, Tensor]) -> list[Baseline]:
        return [MostFrequentText.restored(tensors), *Choice.restored(self.steps, codec, tensors)]

    def given(self, what: Any, options: CaptionOptions) -> Example:
        """As there: a file; in Python, (rows, columns) from 0 to 1."""
        if isinstance(what, str | Path):
            return Example(picture(Path(what)), name=str(what))
        return Example(image_of(what, "image"))


TASK = Caption()
