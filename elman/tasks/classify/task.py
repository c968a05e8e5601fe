"""Text classification, word by word."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.baselines import linear
from elman.data.disk_list import spread
from elman.data.examples import Example, is_files
from elman.data.parts import ExampleStore
from elman.data.row_stream import RowReader
from elman.data.tables import TABLES, json_keys, sources, table_columns
from elman.data.validation import is_table, listed, sides
from elman.data.words import encode_words, grams, padded, split_words, vocabulary_of, word_ids, word_pairs
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.schema import Size
from elman.io.terminal import note
from elman.tasks.classification import (
    CONFUSION,
    ClassificationCodec,
    balanced_weights,
    classification_metrics,
    fit_labels,
    fit_logistic,
    load_feedforward,
    stratified_split,
    target,
)
from elman.tasks.classify import data as texts
from elman.tasks.classify import multi_label
from elman.tasks.classify.export import export
from elman.tasks.classify.model import TextClassifier, Texts
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.codec import NO_LABEL
from elman.tasks.supervised import Baseline, Evaluation, Numbers, Plot, SupervisedTask, describe_text, random_split
from elman.tasks.task import Loaded
from elman.tasks.word_vectors import initialize, with_embed

MAX_COUNTS = 1 << 24  # of pairs with labels, in the naive Bayes part
MIN_TEXTS = 100  # with fewer texts, the baseline also uses terms that occur once
MAX_TEXTS = 100_000  # for the baseline
C = 3.0  # inverse regularization of the baseline; the best of 1, 3 and 10 on sentences of movie reviews


@dataclass(frozen=True)
class ClassifyCodec(ClassificationCodec):
    """Encodes texts as numbers of words and character n-grams.

    Attributes:
        labels: in order.
        words: the vocabulary.
        pieces: size of the hash table of character n-grams.
        terms: words and word pairs of the baseline, with their inverse document frequencies.
        pairs: the word pairs of the naive Bayes part; none: there is no such part.
        multi_label: whether a text may have several labels; a prediction has a probability of each for itself.
        class_weights: weight of each label in the loss of training; none: all alike.
    """

    words: list[str]
    pieces: Size
    terms: dict[str, float]
    pairs: list[str] = field(default_factory=list)
    multi_label: bool = False
    class_weights: list[float] = field(default_factory=list)

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: ClassifyOptions) -> "ClassifyCodec":
        labels, counts, pairs = Counter[Any](), Counter[str](), Counter[str]()
        baseline_indices = set(spread(range(len(train)), MAX_TEXTS))

        def counted() -> Iterator[str]:
            """Yield the texts of the baseline, and count the words and labels of all texts."""
            for i, example in enumerate(train):
                labels.update(_labels_of(example))
                counts.update(_words(example.input))
                if i in baseline_indices:
                    pairs.update(word_pairs(_words(example.input)) if options.pairs else ())
                    yield example.input
            fit_labels("classify", labels)  # raise our error before that of the library

        tfidf = _tfidf(min_df=2 if len(train) >= MIN_TEXTS else 1).fit(counted())
        idf = dict(zip(tfidf.get_feature_names_out().tolist(), tfidf.idf_.tolist(), strict=True))
        names, weights = fit_labels("classify", labels), list[float]()
        if options.class_weight and options.multi_label:
            N = len(train)
            weights = [balanced_weights([labels[name], N - labels[name]], N)[0] for name in names]
        elif options.class_weight:
            weights = balanced_weights([labels[name] for name in names], len(train))
        most = min(options.pairs, MAX_COUNTS // (len(names) + 1))
        known = vocabulary_of(pairs)[:most]
        return cls(names, vocabulary_of(counts), options.pieces, idf, known, options.multi_label, weights)

    @override
    def model_args(self, options: ClassifyOptions) -> dict[str, Any]:
        names = ("cell", "embed", "hidden", "layers", "dropout", "word_dropout", "smoothing", "bptt")
        sizes = {"vocabulary": len(self.words), "pieces": self.pieces, "labels": len(self.labels)}
        later = {"pairs": len(self.pairs), "multi_label": self.multi_label, "class_weights": self.class_weights}
        values = {name: getattr(options, name) for name in names}
        return sizes | values | {name: value for name, value in later.items() if value}  # earlier runs have none

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each word."""
        return word_ids(self.words)

    @cached_property
    def pair(self) -> dict[str, int]:
        """The number of each pair."""
        return word_ids(self.pairs)

    @cached_property
    def tfidf(self) -> Any:
        """The fitted TfidfVectorizer of the baseline."""
        vectorizer = _tfidf(vocabulary=list(self.terms))
        vectorizer.idf_ = np.array(list(self.terms.values()))
        return vectorizer

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        """Return word numbers, the words, the numbers of pairs, and the label number or a mask of labels."""
        tokens = _words(example.input) or [""]
        label: Any = self.label.get(example.target, NO_LABEL)
        if self.multi_label:
            [label] = multi_label.has_labels(self, [example.target or ()])
        pairs = encode_words(word_pairs(tokens), self.pair)
        return (encode_words(tokens, self.number), " ".join(tokens), pairs, label), len(tokens)

    @override
    def collate(self, encoded: Sequence[Any]) -> Texts:
        known, joined, pairs, labels = zip(*encoded, strict=True)
        number = dict[str, int]()
        spelling_of = [np.array([number.setdefault(word, len(number)) for word in text.split(" ")]) for text in joined]
        spellings = [grams(word, self.pieces) for word in number]
        lengths = torch.tensor([len(numbers) for numbers in known])
        begins = np.cumsum([0, *map(len, spellings[:-1])])
        arrays = (padded(known), padded(spelling_of), np.concatenate(spellings), begins, padded(pairs))
        all_words, all_spelling, all_grams, starts, all_pairs = map(torch.from_numpy, arrays)
        targets = torch.from_numpy(np.stack(labels))
        return Texts(all_words, lengths, all_spelling, all_grams, starts, all_pairs, targets)

    @override
    def predict(self, model: Any, batch: Any) -> list[Any]:
        logits = model(batch).cpu().double()
        return list(multi_label.sigmoid(logits) if self.multi_label else logits.softmax(1).numpy())

    @override
    def of_linear(self, layers: linear.Layers, features: Any) -> NDArray[Any]:
        if self.multi_label:
            return multi_label.sigmoid(linear.logits(layers, features))
        return super().of_linear(layers, features)

    @override
    def check_targets(self, examples: Sequence[Example]) -> None:
        """Raise an error if a label is not known; with several labels for each text, if none is, else print them."""
        if not self.multi_label:
            super().check_targets(examples)
            return
        counts = Counter(label for example in examples for label in example.target)
        unknown = [label for label in counts if label not in self.label]
        if unknown and len(unknown) == len(counts):
            expected = f"labels of the training data, {listed(self.labels)}"
            raise BadInput(f"{examples[0].name}: expected {expected}; got {listed(unknown)}")
        if unknown:
            count = sum(counts[label] for label in unknown)
            note(f"{count:,} labels of texts are not in the training part and count as errors: {listed(unknown)}")

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        if self.multi_label:
            return self.top(prediction, int((prediction >= multi_label.THRESHOLD).sum()))
        return super().to_row(prediction)

    def features(self, examples: Sequence[Example]) -> Any:
        """Return TF-IDF features of words and word pairs."""
        return self.tfidf.transform([example.input for example in examples])

    @override
    def max_examples(self, train: Sequence[Example]) -> int:
        return MAX_TEXTS  # the features are sparse


def read(data: Any, options: ClassifyOptions) -> Iterable[Example]:
    """Read texts with labels: files, a data frame, or texts and labels."""
    if data is None:
        raise BadInput("classify: expected DATA: a table, or a file for each label; got none")
    if is_files(data) or is_table(data):
        return texts.read(sources(data), options)
    many, labels = sides("classify", data, "texts", "labels")
    return texts.read_pairs(many, labels, options)


def parse_input(value: Any, options: ClassifyOptions) -> Example:
    """Parse a text."""
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f"predict: expected a text, got {value!r:.40}")
    return Example(value)


def read_texts(path: Path, loaded: Loaded) -> Iterable[Example]:
    """Read the texts in a file, as for the training; labels are not needed."""
    return texts.read_inputs(path, loaded.options)


def check_lines(lines: Sequence[str], loaded: Loaded) -> None:
    """Check that lines of standard input are texts, not a table."""
    text, label = loaded.options.text, loaded.options.label
    files = loaded.run.config["data"].get("files") or []
    columns = table_columns(lines, text, label)
    if columns is None and any(Path(file).suffix.lower() in TABLES for file in files):  # other texts may be JSON
        columns = json_keys(lines[0])
    if columns is not None and text in columns:
        raise BadInput(
            f"standard input: expected one text per line, got a table with the columns {listed(columns)}; to read "
            f"its texts, pass -: elman predict {loaded.run.path} -"
        )


def fit_baselines(
    codec: ClassifyCodec, train: Sequence[Example], options: ClassifyOptions, seed: int
) -> list[Baseline]:
    """Fit a logistic regression on TF-IDF features of words and word pairs, or one for each of several labels."""
    fit = multi_label.fit_one_vs_rest if codec.multi_label else fit_logistic
    return [fit("TF-IDF and logistic regression", codec, train, C, "texts", options.class_weight)]


def load_baselines(codec: ClassifyCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    return load_feedforward(codec, tensors, inputs=len(codec.terms))


def first_weights(
    codec: ClassifyCodec, train: Sequence[Example], options: ClassifyOptions, tell: Callable[[str], Any]
) -> Callable[[Any], None]:
    """Return a function that sets word vectors, and counts the training part for the naive Bayes part."""
    set_words = initialize(codec, train, options, tell)

    def set_weights(model: Any) -> None:
        if set_words:
            set_words(model)
        if model.bayes is not None:
            encoded = (codec.encode(example)[0] for example in train)
            model.bayes.count((words, pairs, label) for words, _, pairs, label in encoded)

    return set_weights


def metrics(codec: ClassifyCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of labels, or of several labels for each text."""
    if codec.multi_label:
        return multi_label.metrics(codec, predictions, targets)
    return classification_metrics(codec, predictions, targets, "nats_per_text")


def metrics_of_labels(
    codec: ClassifyCodec, predictions: Sequence[Any], targets: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Return the metrics of each label, if a text may have several."""
    return multi_label.metrics_of_labels(codec, predictions, targets) if codec.multi_label else {}


def plot_confusion(evaluation: Evaluation, path: Path) -> None:
    """Plot the confusion matrix, if a text has one label."""
    if not evaluation.codec.multi_label:
        CONFUSION.draw(evaluation, path)


class ClassifyTask(SupervisedTask):
    """Texts to labels, whose split and score depend on whether a text may have several."""

    @override
    def draw_split(self, examples: ExampleStore, options: ClassifyOptions, seed: int, parts: Sequence[str]) -> Numbers:
        split = random_split if options.multi_label else stratified_split
        return split(self, examples, seed, parts)

    @override
    def score_of(self, run: Run) -> str:
        return "micro_f1" if run.config["model"].get("multi_label") else self.score


def _labels_of(example: Example) -> tuple[Any, ...]:
    return example.target if isinstance(example.target, tuple) else (example.target,)


def _words(text: str) -> list[str]:
    return split_words(text.lower())


def _tfidf(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=_terms, sublinear_tf=True, **options)


def _terms(text: str) -> list[str]:
    """Return words, and pairs of adjacent words."""
    tokens = _words(text)
    return tokens + [" ".join(pair) for pair in pairwise(tokens)]


TASK = ClassifyTask(
    name="classify",
    description="a text classifier",
    options=ClassifyOptions,
    read=read,
    resolve=lambda data, options, tell: (with_embed(options), data),
    initialize=first_weights,
    rows=RowReader(
        columns=lambda options: {"--text": options.text, "--label": options.label},
        to_example=texts.from_row,
        labels=_labels_of,
    ),
    parse_input=parse_input,
    read_texts=read_texts,
    check_lines=check_lines,
    describe=describe_text,
    codec=ClassifyCodec,
    model=TextClassifier,
    unit="texts",
    loss="nats_per_text",
    score="accuracy",
    metrics=metrics,
    label_metrics=metrics_of_labels,
    label=target,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    plots=(Plot(CONFUSION.file, CONFUSION.caption, plot_confusion),),
    accepts_texts=True,
    next_step='to use it: elman predict {run} "a text"',
)
