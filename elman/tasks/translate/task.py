"""Sentences to sentences as a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elman.tasks._examples import Baseline, Example
from elman.tasks._written import Said, Vocabulary, Written
from elman.tasks.translate import data as sentences
from elman.tasks.translate import dictionary
from elman.tasks.translate.model import Translator
from elman.tasks.translate.options import TranslateOptions


@dataclass(frozen=True)
class Codec:
    """What is written, how long at most, with what beam; what is read."""

    target: Vocabulary
    longest: int
    beam: int
    read: Vocabulary

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"target": self.target.kept(), "read": self.read.kept()}


class Translate(Written):
    """A sentence in another language."""

    name = "translate"
    what = "a translator"
    options = TranslateOptions
    things = "pairs"
    answer = "translation"
    scores = ("bleu", "chrf")
    next = 'to use it: echo "a sentence" | elman predict'

    def read(self, data: Any, options: TranslateOptions) -> list[Example]:
        """As there; in Python, pairs of texts."""
        return sentences.read(data, options) if isinstance(data[0], Path) else sentences.pairs(data)

    def fit(self, train: Sequence[Example], options: TranslateOptions) -> Codec:
        """As there; byte pairs are those of both languages together."""
        sides = [e.input for e in train], [e.target for e in train]
        texts = [sides[0] + sides[1]] * 2 if options.tokens == "bpe" else sides
        read, target = (Vocabulary.fit(options.tokens, side, options.vocabulary) for side in texts)
        return Codec(target, target.longest(sides[1]), options.beam, read)

    def restore(self, kept: dict[str, Any]) -> Codec:
        """As there."""
        both = {name: Vocabulary.restored(kept[name]) for name in ("target", "read")}
        return Codec(**kept | both)

    def shape(self, codec: Codec, options: TranslateOptions) -> dict[str, Any]:
        """As there."""
        return {"source": len(codec.read), "vocabulary": len(codec.target)} | self.asked(options)

    def model(self, **shape: Any) -> Translator:
        """As there."""
        return Translator(**shape)

    def steps(self, codec: Codec, example: Example) -> Tensor:
        """As there: tokens (S,)."""
        return codec.read.encode(example.input)

    def baselines(self, codec: Codec, train: Sequence[Example], options: TranslateOptions, seed: int) -> list[Baseline]:
        """A dictionary."""
        return [Dictionary(dictionary.fit([(example.input, example.target) for example in train]))]

    def restored(self, codec: Codec, tensors: dict[str, Tensor]) -> list[Baseline]:
        """As there."""
        return [Dictionary.restored(tensors)]

    def given(self, what: Any, options: TranslateOptions) -> Example:
        """As there: a sentence."""
        return Example(str(what))


class Dictionary(Baseline):
    """Translates word by word.

    Args:
        found: the translation of each word.
    """

    title = "word by word (IBM model 1)"

    def __init__(self, found: dict[str, str]) -> None:
        self._found = found

    def say(self, examples: Sequence[Example]) -> list[Any]:
        """As there."""
        return [Said(dictionary.translated(example.input, self._found)) for example in examples]

    def tensors(self) -> dict[str, Tensor]:
        """As there."""
        text = "\n".join("\t".join(pair) for pair in self._found.items())
        return {"dictionary": torch.tensor(list(text.encode()), dtype=torch.uint8)}

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "Dictionary":
        """The same of what a run has kept."""
        lines = bytes(tensors["dictionary"].tolist()).decode().split("\n")
        return cls(dict(line.split("\t") for line in lines))


KIND = Translate()
