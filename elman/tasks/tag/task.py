"""Sequence labelling: a label for each word of a sentence."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.data.conll import EMPTY
from elman.data.examples import Example, is_files
from elman.data.parts import ExampleStore
from elman.data.row_stream import RowReader
from elman.data.splits import drawn_parts
from elman.data.validation import is_list, quoted
from elman.data.words import distinct, encode_words, padded, split_words, vocabulary_of, word_ids
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.classification import balanced_weights
from elman.tasks.codec import NO_LABEL, LabelCodec
from elman.tasks.plots import confusion_plot
from elman.tasks.supervised import Baseline, Numbers, SupervisedTask
from elman.tasks.tag import data as sentences
from elman.tasks.tag.export import export
from elman.tasks.tag.model import Sentences, Tagger
from elman.tasks.tag.options import SMOOTHING, TagOptions
from elman.tasks.tag.score import is_bio, span_scores, span_scores_by_type
from elman.tasks.task import Loaded
from elman.tasks.word_vectors import initialize, with_embed

MIN_LINES = 3  # of standard input, for words with their labels in columns to be recognized


class TagPrediction(NamedTuple):
    """The labels of a sentence.

    probabilities: of each label at each word, (T, K).
    numbers: of the labels, (T,). With a CRF, these are most probable together, not each at its word.
    """

    probabilities: NDArray[np.float64]
    numbers: NDArray[np.int64]

    @classmethod
    def of(cls, probabilities: NDArray[np.float64]) -> "TagPrediction":
        """Return the most probable label of each word."""
        return cls(probabilities, probabilities.argmax(1))


@dataclass(frozen=True)
class TagCodec(LabelCodec):
    """Labels, lower-case words, and characters. A prediction is a `TagPrediction`.

    Attributes:
        labels: in order.
        words: the vocabulary.
        characters: the alphabet.
        class_weights: weight of each label in the loss of training; none: all alike.
    """

    words: list[str]
    characters: list[str]
    class_weights: list[float] = field(default_factory=list)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: TagOptions) -> "TagCodec":
        if options.crf and options.class_weight:
            raise BadInput("--class-weight: expected no --crf, whose loss is of all labels together; leave one out")
        if options.crf and options.smoothing:
            raise BadInput("--smoothing: expected no --crf, whose loss is of all labels together; leave one out")
        label_counts, words, characters = Counter[str](), Counter[str](), Counter[str]()
        for example in train:
            label_counts.update(example.target)
            words.update(map(str.lower, example.input))
            characters.update(chain.from_iterable(example.input))
        labels = sorted(label_counts)
        if len(labels) < 2:
            raise BadInput(f"tag: expected at least two different labels in the training part, got one, {labels[0]!r}")
        counts = [label_counts[label] for label in labels]
        weights = balanced_weights(counts, sum(counts)) if options.class_weight else []
        return cls(labels, vocabulary_of(words), vocabulary_of(characters), weights)

    @override
    def model_args(self, options: TagOptions) -> dict[str, Any]:
        sizes = {"vocabulary": len(self.words), "alphabet": len(self.characters), "labels": len(self.labels)}
        names = ("cell", "embed", "characters", "hidden", "layers", "dropout", "word_dropout", "bptt")
        smoothing = (0.0 if options.crf else SMOOTHING) if options.smoothing is None else options.smoothing
        # Runs of earlier versions have none of these.
        later = {"crf": options.crf, "class_weights": self.class_weights, "smoothing": smoothing}
        values = {name: getattr(options, name) for name in names}
        return sizes | values | {name: value for name, value in later.items() if value}

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each word, from 1."""
        return word_ids(self.words)

    @cached_property
    def character(self) -> dict[str, int]:
        """The number of each character, from 1."""
        return word_ids(self.characters)

    def word_numbers(self, sentence: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of words, (T,)."""
        return encode_words(map(str.lower, sentence), self.number)

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return the numbers of the words, of the characters of each word, and of the labels."""
        spelling = [encode_words(word, self.character) for word in example.input]
        labels = self.label_numbers(example.target or [""] * len(spelling))
        return (self.word_numbers(example.input), spelling, labels), len(spelling)

    @override
    def collate(self, encoded: Sequence[Any]) -> Sentences:
        """Make a batch. Equal words share one spelling."""
        spelling, spelled = distinct([sentence for _, sentence, _ in encoded])
        arrays = (padded([w for w, _, _ in encoded]), padded(spelling), padded(spelled))
        all_words, all_spelling, characters = map(torch.from_numpy, arrays)
        lengths, sizes = (torch.tensor([len(s) for s in rows]) for rows in (spelling, spelled))
        labels = torch.from_numpy(padded([labels for _, _, labels in encoded], NO_LABEL))
        return Sentences(all_words, lengths, all_spelling, characters, sizes, labels)

    @override
    def predict(self, model: Any, batch: Sentences) -> list[Any]:
        P, numbers = (values.numpy() for values in model.decode(batch))
        return [TagPrediction(P[:T, b], numbers[:T, b]) for b, T in enumerate(batch.lengths.tolist())]

    @override
    def probabilities(self, prediction: TagPrediction) -> NDArray[np.float64]:
        return prediction.probabilities

    @override
    def best(self, prediction: TagPrediction) -> NDArray[np.int64]:
        return prediction.numbers

    @override
    def check_targets(self, examples: Sequence[Example]) -> None:
        """Raise an error if no label is known; print how many words have unknown labels."""
        counts = Counter(label for example in examples for label in example.target)
        unknown = [label for label in counts if label not in self.label]
        listed = ", ".join(map(repr, unknown[:8]))
        if len(unknown) == len(counts):
            labels = ", ".join(self.labels)[:100]
            raise BadInput(f"{examples[0].name}: expected labels of the training data, {labels}; got {listed}")
        if unknown:
            count = sum(counts[label] for label in unknown)
            note(f"{count:,} words have labels that are not in the training part and count as errors: {listed}")

    def best_labels(self, prediction: Any) -> list[str]:
        """Return the label of each word."""
        return [self.labels[number] for number in prediction.numbers]

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        return {"labels": " ".join(self.best_labels(prediction))}

    @override
    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Return a row for each word."""
        for word, label, P in zip(example.input, prediction.numbers, prediction.probabilities, strict=True):
            probability = round(float(P[label]), 4)
            yield {"sentence": number, "word": word, "label": self.labels[label], "probability": probability}

    @override
    def to_top_rows(
        self, number: int, name: str, example: Example, prediction: Any, k: int
    ) -> Iterator[dict[str, Any]]:
        """Return a row for each word."""
        for word, P in zip(example.input, prediction.probabilities, strict=True):
            yield {"sentence": number, "word": word, **self.top(P, k)}


def read(data: Any, options: TagOptions) -> Iterable[Example]:
    """Read sentences with labels from files or Python lists."""
    if data is None:
        raise BadInput("tag: expected DATA: CoNLL columns or CoNLL-U; got none")
    return sentences.read(data, options) if is_files(data) else sentences.read_python(data, options.skip_bad)


def parse_input(value: Any, options: TagOptions) -> Example:
    """Parse a sentence or a list of words."""
    if not isinstance(value, str) and not is_list(value):
        raise BadInput(f"predict: expected a sentence or a list of words, got {quoted(value)}")
    tokens = split_words(value) if isinstance(value, str) else sentences.to_words(value, "predict")
    if not tokens:
        raise BadInput(f"predict: expected a sentence, got {value!r:.40}")
    return Example(tokens)


def read_texts(path: Path, loaded: Loaded) -> Iterable[Example]:
    """Read the sentences in a file, in columns as for the training; labels are not needed."""
    return sentences.read_inputs(path, loaded.options, loaded.codec.labels)


def check_lines(lines: Sequence[str], loaded: Loaded) -> None:
    """Check that lines of standard input are sentences, not columns of words and labels."""
    rows = [line.split("\t" if "\t" in line else None) for line in lines if not line.startswith("#")]
    if len(rows) < MIN_LINES or len(set(map(len, rows))) > 1:
        return
    columns = [set(column) - {EMPTY} for column in list(zip(*rows, strict=True))[1:]]
    if any(column and column.issubset(loaded.codec.labels) for column in columns):
        raise BadInput(
            "standard input: expected one sentence per line, got columns of words and labels; to read the "
            f"words, pass -: elman predict {loaded.run.path} -"
        )


def describe(example: Example) -> str:
    """Return the words as a text."""
    return " ".join(example.input)


def split(task: SupervisedTask, examples: ExampleStore, seed: int, parts: Sequence[str]) -> Numbers:
    """Split at random. A sentence of several documents goes with the first of them.

    Short sentences occur in many documents: to join these would leave hardly any groups to draw from.
    """
    return drawn_parts(examples.contents.components(join=False), seed, parts, task.name)


def metrics(codec: TagCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """Return accuracy; span F1, precision and recall for BIO labels; the mean negative log-likelihood of known labels.

    Words with unknown labels count as errors.
    """
    P, best = map(np.concatenate, zip(*predictions, strict=True))
    y = codec.label_numbers(chain.from_iterable(targets))
    known = y != NO_LABEL
    scores = {"accuracy": float((best == y).mean())}
    if is_bio(codec.labels):
        scores |= span_scores([codec.best_labels(prediction) for prediction in predictions], targets)
    nats = -np.log(np.maximum(P[known, y[known]], 1e-12))
    return scores | {"nats_per_word": float(nats.mean()) if len(nats) else float("nan")}


def metrics_of_types(
    codec: TagCodec, predictions: Sequence[Any], targets: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Return F1, precision, recall and the number of the spans of each type, for BIO labels."""
    if not is_bio(codec.labels):
        return {}
    return span_scores_by_type([codec.best_labels(prediction) for prediction in predictions], targets)


def fit_baselines(codec: TagCodec, train: Sequence[Example], options: TagOptions, seed: int) -> list[Baseline]:
    """Fit the most frequent label of each word."""
    counts = Counter[tuple[int, int]]()
    for example in train:
        pairs = codec.word_numbers(example.input).tolist(), codec.label_numbers(example.target).tolist()
        counts.update(zip(*pairs, strict=True))
    keys = sorted(counts)
    return [MostFrequentTag(codec, np.array(keys), np.array([counts[key] for key in keys]))]


def load_baselines(codec: TagCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    pairs, counts = tensors["pairs"].numpy(), tensors["counts"].numpy()
    if pairs.shape != (len(counts), 2) or not all(0 <= label < len(codec.labels) for label in pairs[:, 1]):
        raise ValueError("pairs that are not words and labels")
    return [MostFrequentTag(codec, pairs, counts)]


class MostFrequentTag(Baseline):
    """Predicts the most frequent label of each word; for unknown words, the most frequent label of all.

    Args:
        codec: the fitted codec.
        pairs: pairs of a word number and a label number, (N, 2).
        counts: how often the word has the label, (N,).
    """

    title = "most frequent label of the word"

    def __init__(self, codec: TagCodec, pairs: NDArray[Any], counts: NDArray[Any]) -> None:
        self._codec, self._pairs, self._counts = codec, pairs, counts
        K = len(codec.labels)
        prior = np.bincount(pairs[:, 1], counts, K)
        self._prior = prior / prior.sum()
        self._of_word = dict[int, NDArray[Any]]()
        for (word, label), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._of_word.setdefault(word, self._prior.copy())[label] += count

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        """Predict the shares of labels of each word. The overall shares count as one more occurrence."""
        predictions = []
        for example in examples:
            numbers = self._codec.word_numbers(example.input).tolist()
            counts = np.stack([self._of_word.get(word, self._prior) for word in numbers])
            predictions.append(TagPrediction.of(counts / counts.sum(1, keepdims=True)))
        return predictions

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {"pairs": torch.from_numpy(self._pairs), "counts": torch.from_numpy(self._counts)}


TASK = SupervisedTask(
    name="tag",
    description="a tagger",
    options=TagOptions,
    read=read,
    resolve=lambda data, options, tell: (with_embed(options), data),
    initialize=initialize,
    rows=RowReader(
        columns=lambda options: {"--words": options.words or "words", "--column": options.column or "labels"},
        to_example=sentences.from_row,
        labels=lambda example: example.target,
    ),
    parse_input=parse_input,
    read_texts=read_texts,
    check_lines=check_lines,
    describe=describe,
    codec=TagCodec,
    model=Tagger,
    unit="words",
    examples="sentences",
    loss="nats_per_word",
    score="accuracy",
    metrics=metrics,
    label_metrics=metrics_of_types,
    split=split,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    json_inputs=list[str | list[str]],  # sentences, or their words
    plots=(confusion_plot(chain.from_iterable),),
    accepts_texts=True,
    next_step='to use it: elman predict {run} "A sentence ."',
)
