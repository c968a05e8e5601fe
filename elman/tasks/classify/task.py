"""Texts to labels as a task."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.data.disk_list import MappedList, spread
from elman.data.examples import Example, is_files
from elman.data.tables import sources
from elman.data.validation import is_table, sides
from elman.data.words import grams, numbered, numbers, padded, vocabulary, words
from elman.errors import BadInput
from elman.tasks.classification import ClassificationTask, Feedforward, labels_of
from elman.tasks.classify import data as texts
from elman.tasks.classify.model import TextClassifier, Texts
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.codec import Codec
from elman.tasks.prepared_data import Loaded
from elman.tasks.supervised import Baseline


@dataclass(frozen=True)
class ClassifyCodec(Codec):
    """What turns texts to numbers.

    Args:
        labels: in order.
        words: that the model knows.
        pieces: how many numbers the pieces of words share.
        terms: of the baseline, one word or two, with their inverse document frequencies.
    """

    labels: list[str]
    words: list[str]
    pieces: int
    terms: dict[str, float]

    @cached_property
    def number(self) -> dict[str, int]:
        """Of each word."""
        return numbers(self.words)

    @cached_property
    def tfidf(self) -> Any:
        """What counts terms."""
        found = _tfidf(vocabulary=list(self.terms))
        found.idf_ = np.array(list(self.terms.values()))
        return found


class Classify(ClassificationTask):
    """What kind of text a text is, read word by word."""

    name = "classify"
    unit = "texts"
    loss = "nats_per_text"
    what = "a reader of texts"
    options = ClassifyOptions
    codec_type = ClassifyCodec
    texts = True
    next = 'to use it: elman predict {run} "a text"'

    def read(self, data: Any, options: ClassifyOptions) -> Iterable[Example]:
        """As there; in Python, texts and labels."""
        if data is None:
            raise BadInput("classify: expected DATA: a table, or a file for each label; got none")
        if is_files(data) or is_table(data):
            return texts.read(sources(data), options)
        return texts.pairs(*sides(self.name, data, "texts", "labels"), skip_bad=options.skip_bad)

    @override
    def fit(self, train: Sequence[Example], options: ClassifyOptions) -> ClassifyCodec:
        labels = labels_of(self.name, train)
        texts = MappedList(spread(train, MOST), lambda example: example.input)
        tfidf = _tfidf(min_df=2 if len(train) >= FEW else 1).fit(texts)
        idf = dict(zip(tfidf.get_feature_names_out().tolist(), tfidf.idf_.tolist(), strict=True))
        return ClassifyCodec(labels, vocabulary(map(_words, (example.input for example in train))), options.pieces, idf)

    @override
    def shape(self, codec: ClassifyCodec, options: ClassifyOptions) -> dict[str, Any]:
        names = ("cell", "embed", "hidden", "layers", "dropout", "word_dropout", "smoothing", "bptt")
        sizes = {"vocabulary": len(codec.words), "pieces": codec.pieces, "labels": len(codec.labels)}
        return sizes | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> TextClassifier:
        return TextClassifier(**shape)

    def encode(self, codec: ClassifyCodec, example: Example) -> tuple[Any, int]:
        """As there: the numbers of the words, the words, among how many pieces theirs are, the number of the label."""
        found = _words(example.input) or [""]
        label = codec.labels.index(example.target) if example.target in codec.labels else -1
        return (numbered(found, codec.number), " ".join(found), codec.pieces, label), len(found)

    @override
    def collate(self, encoded: Sequence[Any]) -> Texts:
        known, spelled, pieces, labels = zip(*encoded, strict=True)
        number = dict[str, int]()
        which = [np.array([number.setdefault(word, len(number)) for word in text.split(" ")]) for text in spelled]
        spellings = [grams(word, pieces[0]) for word in number]
        lengths = torch.tensor([len(numbers) for numbers in known])
        begins = np.cumsum([0, *map(len, spellings[:-1])])
        arrays = (padded(known), padded(which), np.concatenate(spellings), begins)
        all_words, all_spelling, all_grams, starts = map(torch.from_numpy, arrays)
        return Texts(all_words, lengths, all_spelling, all_grams, starts, torch.tensor(labels))

    @override
    def say(self, model: Any, codec: ClassifyCodec, batch: Any) -> list[Any]:
        return list(model(batch).double().softmax(1).numpy())

    def features(self, codec: ClassifyCodec, examples: Sequence[Example]) -> Any:
        """How often each term occurs, weighed by how rare it is."""
        return codec.tfidf.transform([example.input for example in examples])

    def room(self, codec: ClassifyCodec, train: Sequence[Example]) -> int:
        """As there; the texts are as many as the terms were found in."""
        return MOST

    def baselines(
        self, codec: ClassifyCodec, train: Sequence[Example], options: ClassifyOptions, seed: int
    ) -> list[Baseline]:
        """A logistic regression on TF-IDF of words and pairs of words."""
        return [Feedforward.logistic(self, codec, train, C, "TF-IDF and logistic regression")]

    @override
    def restored(self, codec: ClassifyCodec, tensors: dict[str, torch.Tensor]) -> list[Baseline]:
        for name, W in tensors.items():
            if name.endswith("/0") and len(W) != len(codec.terms):
                raise ValueError(f"{name} of {len(W)} terms, where codec.json has {len(codec.terms)}")
        return super().restored(codec, tensors)

    def inputs_in(self, loaded: Loaded, path: Path) -> Iterable[Example]:
        """The texts in a file, as for the training, but without labels."""
        return texts.inputs(path, loaded.options)

    def given(self, what: Any, options: ClassifyOptions) -> Example:
        """As there: a text."""
        if not isinstance(what, str) or not what.strip():
            raise BadInput(f"predict: expected a text, got {what!r:.40}")
        return Example(what)

    @override
    def shown(self, example: Example) -> str:
        return str(example.input)


FEW = 100  # texts, of which words that occur once are counted too by the baseline
MOST = 100_000  # texts that the baseline is fitted on
C = 3.0  # how little the baseline is held back: of 1, 3 and 10 the best on sentences of movie reviews


def _words(text: str) -> list[str]:
    return words(text.lower())


def _tfidf(**given: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=_terms, sublinear_tf=True, **given)


def _terms(text: str) -> list[str]:
    """Words, and pairs of neighbours."""
    single = _words(text)
    return single + [" ".join(pair) for pair in pairwise(single)]


TASK = Classify()
