"""Texts with several labels: metrics and the baseline."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from elman.baselines import linear
from elman.data.disk_list import spread
from elman.data.examples import Example
from elman.tasks.classification import ClassificationCodec, Feedforward
from elman.tasks.metrics import f1_scores
from elman.tasks.supervised import sample_note

THRESHOLD = 0.5  # the least probability of a label that is predicted


def has_labels(codec: ClassificationCodec, targets: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return which labels texts have, (N, K), 0 or 1. Unknown labels are left out."""
    Y = np.zeros((len(targets), len(codec.labels)), np.float32)
    for row, labels in zip(Y, targets, strict=True):
        numbers = codec.label_numbers(labels)
        row[numbers[numbers >= 0]] = 1
    return Y


def metrics(
    codec: ClassificationCodec, predictions: Sequence[Any], targets: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Return micro- and macro-averaged F1, the share of texts whose labels are all right, and the loss.

    Macro F1 is over the labels that occur or are predicted. The loss is the sum of the binary cross-entropies of all
    labels. A label that is not in the training part is never predicted: it counts for micro F1 and for exact matches.
    """
    P, Y = np.stack(predictions), has_labels(codec, targets)
    predicted, unknown = P >= THRESHOLD, np.array([len(labels) for labels in targets]) - Y.sum(1)
    correct, of_predicted, of_expected = (predicted * Y).sum(0), predicted.sum(0), Y.sum(0)
    total = of_predicted + of_expected
    nats = -np.log(np.maximum(np.where(Y > 0, P, 1 - P), 1e-12))
    return {
        "micro_f1": float(2 * correct.sum() / max(total.sum() + unknown.sum(), 1)),
        "macro_f1": float((2 * correct[total > 0] / total[total > 0]).mean()) if total.any() else 0.0,
        "exact_match": float(((predicted == Y).all(1) & (unknown == 0)).mean()),
        "nats_per_text": float(nats.sum(1).mean()),
    }


def metrics_of_labels(
    codec: ClassificationCodec, predictions: Sequence[Any], targets: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return F1, precision, recall and the number of texts of each label that occurs or is predicted."""
    predicted, Y = np.stack(predictions) >= THRESHOLD, has_labels(codec, targets)
    counts = np.stack(((predicted * Y).sum(0), predicted.sum(0), Y.sum(0))).astype(int).tolist()
    return {
        label: f1_scores(correct, of_predicted, of_expected) | {"texts": of_expected}
        for label, correct, of_predicted, of_expected in zip(codec.labels, *counts, strict=True)
        if of_predicted + of_expected
    }


def fit_one_vs_rest(
    title: str,
    codec: ClassificationCodec,
    train: Sequence[Example],
    C: float,
    unit: str,
    class_weight: str | None = None,
) -> Feedforward:
    """Fit a logistic regression for each label; arguments as for `elman.tasks.classification.fit_logistic`."""
    sample = spread(train, codec.max_examples(train))
    Y = has_labels(codec, [example.target for example in sample])
    layers = linear.one_vs_rest(codec.features(sample), Y, C, class_weight)
    return Feedforward(title + sample_note(len(sample) if len(sample) < len(train) else 0, unit), codec, layers)


def sigmoid(logits: Any) -> NDArray[np.float64]:
    """Return the probability of each label for itself, from logits (N, K)."""
    return np.asarray(torch.as_tensor(logits).cpu().double().sigmoid().numpy())
