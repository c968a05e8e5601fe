"""Sentences to sentences as a task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import MappedList
from elman.data.examples import Example, is_files
from elman.data.validation import text_of
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.tasks import attention_plot
from elman.tasks.codec import Codec
from elman.tasks.prepared_data import Loaded
from elman.tasks.supervised import Baseline
from elman.tasks.text_output import TextOutputTask, TextPrediction, Vocabulary
from elman.tasks.translate import data as sentences
from elman.tasks.translate.dictionary import Dictionary
from elman.tasks.translate.model import Translator
from elman.tasks.translate.options import TranslateOptions


@dataclass(frozen=True)
class TranslateCodec(Codec):
    """What is written, how long at most, with what beam; what is read."""

    target: Vocabulary
    longest: int
    beam: int
    read: Vocabulary

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"target": self.target.kept(), "read": self.read.kept()}

    @classmethod
    @override
    def restored(cls, kept: dict[str, Any]) -> "TranslateCodec":
        return cls(**kept | {name: Vocabulary.restored(kept[name]) for name in ("target", "read")})


class Translate(TextOutputTask):
    """A sentence in another language."""

    name = "translate"
    what = "a translator"
    options = TranslateOptions
    pictures: ClassVar = {"attention.png": "Which token was written in view of which, in a sentence of the test part."}
    codec_type = TranslateCodec
    examples = "pairs"
    answer = "translation"
    scores = ("bleu", "chrf")
    texts = True
    next = 'to use it: elman predict {run} "a sentence"'

    def read(self, data: Any, options: TranslateOptions) -> Iterable[Example]:
        """As there; in Python, pairs of texts."""
        if data is None:
            raise BadInput("translate: expected DATA, a file of pairs or two files with a language each, got none")
        return sentences.read(data, options) if is_files(data) else sentences.pairs(data, options.skip_bad)

    def fit(self, train: Sequence[Example], options: TranslateOptions) -> TranslateCodec:
        """As there; byte pairs are those of both languages together."""
        sources, targets = MappedList(train, lambda pair: pair.input), MappedList(train, lambda pair: pair.target)
        both = MappedList(train, lambda pair: f"{pair.input} {pair.target}")
        sides = [both] * 2 if options.tokens == "bpe" else [sources, targets]
        read, target = (Vocabulary.fit(options.tokens, side, options.vocabulary) for side in sides)
        return TranslateCodec(target, target.longest(targets), options.beam, read)

    @override
    def shape(self, codec: TranslateCodec, options: TranslateOptions) -> dict[str, Any]:
        return {"source": len(codec.read), "vocabulary": len(codec.target)} | self.asked(options)

    @override
    def model(self, **shape: Any) -> Translator:
        return Translator(**shape)

    def steps(self, codec: TranslateCodec, example: Example) -> Tensor:
        """As there: tokens (S,)."""
        return codec.read.encode(example.input)

    def draw(self, run: Run, codec: TranslateCodec, said: Sequence[TextPrediction], targets: Sequence[str]) -> None:
        """attention.png: of a sentence, which token was written in view of which."""
        one = attention_plot.choose(said)
        assert one.source is not None
        attention_plot.draw(run.path / "attention.png", one, codec.read.pieces(one.source.tolist()))

    def baselines(
        self, codec: TranslateCodec, train: Sequence[Example], options: TranslateOptions, seed: int
    ) -> list[Baseline]:
        """A dictionary."""
        return [Dictionary.fit(train)]

    @override
    def restored(self, codec: TranslateCodec, tensors: dict[str, Tensor]) -> list[Baseline]:
        return [Dictionary.restored(tensors)]

    def inputs_in(self, loaded: Loaded, path: Path) -> Iterable[Example]:
        """The sentences in a file, one in each line; what follows a tab is left out."""
        return sentences.inputs(path, loaded.options)

    @override
    def shown(self, example: Example) -> str:
        return str(example.input)

    def given(self, what: Any, options: TranslateOptions) -> Example:
        """As there: a sentence."""
        return Example(what if isinstance(what, str) else text_of(what, "predict"))


TASK = Translate()
