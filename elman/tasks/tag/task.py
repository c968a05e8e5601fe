"""Labels of words as a task."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.data.examples import Example, is_files
from elman.data.splits import components, drawn_parts
from elman.data.validation import quoted
from elman.data.words import distinct, numbered, numbers, padded, vocabulary, words
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.terminal import show
from elman.tasks.classification import MOST, draw_confusion
from elman.tasks.codec import Codec
from elman.tasks.prepared_data import Loaded
from elman.tasks.supervised import Baseline, SupervisedTask
from elman.tasks.tag import data as sentences
from elman.tasks.tag.model import NO_LABEL, Sentences, Tagger
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.score import is_bio, span_scores


@dataclass(frozen=True)
class TagCodec(Codec):
    """Labels, words in small letters, and characters."""

    labels: list[str]
    words: list[str]
    characters: list[str]

    @cached_property
    def number(self) -> dict[str, int]:
        """Of each word, from 1."""
        return numbers(self.words)

    @cached_property
    def character(self) -> dict[str, int]:
        """The number of each character, from 1."""
        return numbers(self.characters)

    @cached_property
    def label(self) -> dict[str, int]:
        """The number of each label."""
        return {label: i for i, label in enumerate(self.labels)}

    def numbered(self, sentence: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of words."""
        return numbered(map(str.lower, sentence), self.number)

    def labelled(self, target: Sequence[str]) -> NDArray[np.int64]:
        """The numbers of labels."""
        return np.array([self.label.get(label, NO_LABEL) for label in target], np.int64)


class Tag(SupervisedTask):
    """What each word of a sentence is."""

    name = "tag"
    unit = "words"
    examples = "sentences"
    loss = "nats_per_word"
    what = "a tagger"
    options = TagOptions
    pictures: ClassVar = {"confusion.png": "Which label was taken for which, in the test part."}
    codec_type = TagCodec
    texts = True
    next = 'to use it: elman predict {run} "A sentence ."'

    def read(self, data: Any, options: TagOptions) -> Iterable[Example]:
        """As there; in Python, sentences and labels."""
        if data is None:
            raise BadInput("tag: expected DATA: CoNLL columns or CoNLL-U; got none")
        return sentences.read(data, options) if is_files(data) else sentences.in_python(data, options.skip_bad)

    def split(
        self, examples: Sequence[Example], options: TagOptions, seed: int, parts: Sequence[str]
    ) -> dict[str, list[int]]:
        """As there; a sentence that several documents contain goes with the first of them.

        Short sentences stand in many documents: joining these would leave hardly anything to draw.
        """
        return drawn_parts(components(examples, join=False), seed, parts, self.name)

    @override
    def fit(self, train: Sequence[Example], options: TagOptions) -> TagCodec:
        labels = sorted({label for example in train for label in example.target})
        if len(labels) < 2:
            raise BadInput(f"tag: expected at least two different labels to learn, got one, {labels[0]!r}")
        known = vocabulary(map(str.lower, example.input) for example in train)
        return TagCodec(labels, known, vocabulary(word for example in train for word in example.input))

    @override
    def shape(self, codec: TagCodec, options: TagOptions) -> dict[str, Any]:
        sizes = {"vocabulary": len(codec.words), "alphabet": len(codec.characters), "labels": len(codec.labels)}
        names = ("cell", "embed", "characters", "hidden", "layers", "dropout", "word_dropout", "bptt")
        return sizes | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> Tagger:
        return Tagger(**shape)

    def encode(self, codec: TagCodec, example: Example) -> tuple[Any, int]:
        """As there: the numbers of the words, of the characters of each, of the labels."""
        spelling = [numbered(word, codec.character) for word in example.input]
        labels = codec.labelled(example.target or [""] * len(spelling))
        return (codec.numbered(example.input), spelling, labels), len(spelling)

    def collate(self, encoded: Sequence[Any]) -> Sentences:
        """As there; what is spelled alike is read once."""
        spelling, spelled = distinct([sentence for _, sentence, _ in encoded])
        arrays = (padded([w for w, _, _ in encoded]), padded(spelling), padded(spelled))
        all_words, all_spelling, characters = map(torch.from_numpy, arrays)
        lengths, sizes = (torch.tensor([len(s) for s in several]) for several in (spelling, spelled))
        labels = torch.from_numpy(padded([labels for _, _, labels in encoded], NO_LABEL))
        return Sentences(all_words, lengths, all_spelling, characters, sizes, labels)

    def say(self, model: Any, codec: TagCodec, batch: Sentences) -> list[Any]:
        """As there: of each sentence, the probabilities of each label for each word, (T, K)."""
        P = model(batch).double().softmax(2).numpy()
        return [P[:length, b] for b, length in enumerate(batch.lengths.tolist())]

    def check(self, codec: TagCodec, examples: Sequence[Example]) -> None:
        """As there: where none of the labels can be said; it tells of those that cannot."""
        counts = Counter(label for example in examples for label in example.target)
        unknown = [label for label in counts if label not in codec.label]
        some = ", ".join(map(repr, unknown[:8]))
        if len(unknown) == len(counts):
            labels = ", ".join(codec.labels)[:100]
            raise BadInput(f"{examples[0].name}: expected labels of the training, {labels}; got {some}")
        if unknown:
            count = sum(counts[label] for label in unknown)
            show(f"{count:,} words have labels that were not there to be learned and count as errors: {some}")

    def measure(self, codec: TagCodec, said: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """Share of words that are right; of BIO labels, how many of the spans are; the loss, of labels that are known.

        A label that is not known is one that the model cannot say: it counts as wrong.
        """
        P, y = np.concatenate(said), np.concatenate([codec.labelled(target) for target in targets])
        known = y != NO_LABEL
        found = {"accuracy": float((P.argmax(1) == y).mean())}
        if is_bio(codec.labels):
            found |= span_scores([self._labels(codec, what) for what in said], targets)
        nats = -np.log(np.maximum(P[known, y[known]], 1e-12))
        return found | {self.loss: float(nats.mean()) if len(nats) else float("nan")}

    def baselines(self, codec: TagCodec, train: Sequence[Example], options: TagOptions, seed: int) -> list[Baseline]:
        """The most frequent label of each word."""
        found = Counter[tuple[int, int]]()
        for example in train:
            pairs = codec.numbered(example.input).tolist(), codec.labelled(example.target).tolist()
            found.update(zip(*pairs, strict=True))
        keys = sorted(found)
        return [MostFrequentTag(codec, np.array(keys), np.array([found[key] for key in keys]))]

    @override
    def restored(self, codec: TagCodec, tensors: dict[str, torch.Tensor]) -> list[Baseline]:
        pairs, counts = tensors["pairs"].numpy(), tensors["counts"].numpy()
        if pairs.shape != (len(counts), 2) or not all(0 <= label < len(codec.labels) for label in pairs[:, 1]):
            raise ValueError("pairs that are no words and labels")
        return [MostFrequentTag(codec, pairs, counts)]

    def row(self, codec: TagCodec, said: Any) -> dict[str, Any]:
        """All labels of a sentence."""
        return {"labels": " ".join(self._labels(codec, said))}

    def rows(self, codec: TagCodec, number: int, example: Example, said: Any) -> Iterator[dict[str, Any]]:
        """A row for each word."""
        for word, label, P in zip(example.input, self._labels(codec, said), said, strict=True):
            yield {"sentence": number, "word": word, "label": label, "probability": round(float(P.max()), 4)}

    def inputs_in(self, loaded: Loaded, path: Path) -> Iterable[Example]:
        """The sentences in a file, in columns as for the training; labels are not needed."""
        return sentences.inputs(path, loaded.options, loaded.codec.labels)

    def given(self, what: Any, options: TagOptions) -> Example:
        """As there: a sentence, or a list of words."""
        if not isinstance(what, str) and not sentences.is_list(what):
            raise BadInput(f"predict: expected a sentence or a list of words, got {quoted(what)}")
        found = words(what) if isinstance(what, str) else sentences.words_of(what, "predict")
        if not found:
            raise BadInput(f"predict: expected a sentence, got {what!r:.40}")
        return Example(found)

    @override
    def shown(self, example: Example) -> str:
        return " ".join(example.input)

    def draw(self, run: Run, codec: TagCodec, said: Sequence[Any], targets: Sequence[Any]) -> None:
        """confusion.png: which label was taken for which."""
        y, best = np.concatenate([codec.labelled(target) for target in targets]), np.concatenate(said).argmax(1)
        known = y != NO_LABEL
        if len(codec.labels) <= MOST:
            draw_confusion(y[known], best[known], codec.labels, run.path / "confusion.png")

    def _labels(self, codec: TagCodec, said: Any) -> list[str]:
        return [codec.labels[best] for best in said.argmax(1)]


class MostFrequentTag(Baseline):
    """The label that a word has most often; of a word that is not known, the most frequent one of all.

    Args:
        codec: of the task.
        pairs: numbers of a word and of a label it has, (N, 2).
        counts: how often it has it, (N,).
    """

    title = "most frequent label of the word"

    def __init__(self, codec: TagCodec, pairs: NDArray[Any], counts: NDArray[Any]) -> None:
        self._codec, self._pairs, self._counts = codec, pairs, counts
        K = len(codec.labels)
        prior = np.bincount(pairs[:, 1], counts, K)
        self._prior = prior / prior.sum()
        self._of = dict[int, NDArray[Any]]()
        for (word, label), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._of.setdefault(word, self._prior.copy())[label] += count

    def say(self, examples: Sequence[Example]) -> list[Any]:
        """As there: shares of the labels, with those of all words counted as one occurrence more."""
        found = []
        for example in examples:
            counts = np.stack(
                [self._of.get(word, self._prior) for word in self._codec.numbered(example.input).tolist()]
            )
            found.append(counts / counts.sum(1, keepdims=True))
        return found

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {"pairs": torch.from_numpy(self._pairs), "counts": torch.from_numpy(self._counts)}


TASK = Tag()
