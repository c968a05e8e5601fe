"""The naive Bayes part of a text classifier, by its definition, and as a part of the model."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from elman import tasks
from elman.data.examples import Example
from elman.tasks.classify import naive_bayes, task
from elman.tasks.classify.naive_bayes import NaiveBayes
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.task import TASK, ClassifyCodec
from tests.tasks.test_classify import texts

V, P, K = 4, 6, 3
Text = tuple[list[int], list[int], Any]
TEXTS: list[Text] = [
    ([1, 2, 1], [6, 1, 2], 0), ([2, 3], [3, 1], 1), ([1, 4, 3, 0], [6, 4, 4, 5], 0), ([0], [5], 2), ([4, 4], [2, 0], 1),
]  # fmt: skip
SEVERAL: list[Text] = [
    (words, pairs, np.array(labels, np.float32))
    for (words, pairs, _), labels in zip(TEXTS, ([1, 0, 1], [0, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]), strict=True)
]


def evidence(counted: list[Text], text: Text, label: int, scales: list[float]) -> float:
    """The evidence of a text for a label, by the definition, from texts that are counted."""
    total = 0.0
    for kind, scale in enumerate(scales):
        features = [set(of[kind]) - {0} for of in counted]
        has = [bool(of[2][label]) if isinstance(of[2], np.ndarray) else of[2] == label for of in counted]
        n_all = sum(map(len, features))
        share = sum(len(of) for of, is_in in zip(features, has, strict=True) if is_in) / n_all
        share = min(max(share, 1e-6), 1 - 1e-6)
        for feature in filter(None, text[kind]):
            n = sum(feature in of for of in features)
            n_label = sum(feature in of for of, is_in in zip(features, has, strict=True) if is_in)
            odds = (n_label + 2 * share) / (n - n_label + 2 * (1 - share))
            total += scale * (math.log(odds) - math.log(share / (1 - share)))
    return total / math.sqrt(len(text[0]))


def stacked(many: list[Text]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Word numbers and pairs, padded by what is to be ignored, lengths and labels."""
    T = max(len(words) for words, _, _ in many)
    words, pairs = (torch.tensor([text[k] + [1] * (T - len(text[k])) for text in many]).T for k in (0, 1))
    labels = torch.as_tensor(np.array([label for _, _, label in many]))
    return words, pairs, torch.tensor([len(words) for words, _, _ in many]), labels


@pytest.mark.parametrize("chunk", [2, 1000])
@pytest.mark.parametrize("several", [False, True])
def test_the_evidence_is_as_defined(several: bool, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown words and pairs say nothing."""
    monkeypatch.setattr(naive_bayes, "CHUNK", chunk)
    counted = SEVERAL if several else TEXTS
    bayes = NaiveBayes(V, P, K, several)
    bayes.count(counted)
    bayes.scales.data = torch.tensor([0.7, 0.3])
    bayes.bias.data = torch.tensor([0.0, 0.5, -1.0])
    new: list[Text] = [([1, 3, 0, 2], [0, 1, 2, 3], 0), ([2], [4], 1), ([0], [5], 0)]
    words, pairs, lengths, _ = stacked(new)
    computed = bayes(words, pairs, lengths)
    for row, text in zip(computed, new, strict=True):
        expected = [evidence(counted, text, k, [0.7, 0.3]) + [0, 0.5, -1][k] for k in range(K)]
        torch.testing.assert_close(row, torch.tensor(expected))


def test_a_text_of_the_training_part_is_left_out() -> None:
    """Its features are counted in all other texts, while the shares are those of all texts."""
    bayes = NaiveBayes(V, P, K)
    bayes.count(TEXTS)
    words, pairs, lengths, labels = stacked(TEXTS)
    computed = bayes(words, pairs, lengths, labels)
    for i in range(len(TEXTS)):
        others = NaiveBayes(V + 1, P + 1, K)  # with one more feature of each kind, which no text has
        others.count(TEXTS[:i] + TEXTS[i + 1 :])
        for mine, counts in ((others.word_counts, bayes.word_counts), (others.pair_counts, bayes.pair_counts)):
            mine[-1] += counts.sum(0) - mine.sum(0)  # for the shares
        expected = others(words[:, i : i + 1], pairs[:, i : i + 1], lengths[i : i + 1])
        torch.testing.assert_close(computed[i : i + 1], expected)


def test_each_part_has_a_loss_of_its_own() -> None:
    prepared = TASK.prepare(texts(), ClassifyOptions(hidden=4, pieces=50, dropout=0, word_dropout=0), 0)
    model: Any = TASK.model(**prepared.model_args)
    assert prepared.initialize is not None
    prepared.initialize(model)
    splits = prepared.details[1]
    assert model.bayes.word_counts[:, -1].sum() == sum(len(set(example.input.split())) for example in splits.train)
    batch: Any = prepared.train[0]
    network = cross_entropy(model.of_network(batch), batch.labels, label_smoothing=0.2, reduction="sum")
    of_evidence = model.bayes(batch.words, batch.pairs, batch.lengths, batch.labels)
    expected = (network + cross_entropy(of_evidence, batch.labels, reduction="sum")) / 2
    torch.testing.assert_close(model.loss(batch)[0], expected)
    model.eval()
    both = (model.of_network(batch) + model.bayes(batch.words, batch.pairs, batch.lengths)) / 2
    torch.testing.assert_close(model(batch), both)
    torch.testing.assert_close(model.loss(batch)[0], cross_entropy(both, batch.labels, reduction="sum"))


def test_many_labels_have_a_smaller_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "MAX_COUNTS", 90)
    examples = [Example(text, label) for text, label in zip(*texts(), strict=True)]
    codec = ClassifyCodec.fit(examples, ClassifyOptions())
    assert len(codec.pairs) == codec.model_args(ClassifyOptions())["pairs"] == 30
    few = ClassifyCodec.fit(examples, ClassifyOptions(pairs=7)).pairs
    assert few == codec.pairs[:7]


def test_runs_of_earlier_versions_have_no_such_part(tmp_path: Path) -> None:
    old = ClassifyCodec.from_json(b'{"labels": ["a", "b"], "words": [], "pieces": 5, "terms": {}}')
    assert old.pairs == []
    assert "pairs" not in old.model_args(ClassifyOptions())
    trained = tasks.classify.fit(texts(), tmp_path / "run", hidden=4, pieces=50, pairs=0, epochs=0.01)
    assert str(trained.model.title) == "bidirectional GRU 4"
