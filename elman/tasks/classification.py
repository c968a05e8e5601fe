"""Tasks whose targets are labels: the split, metrics, baselines, the confusion matrix."""

import math
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.baselines import linear
from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.data.parts import ExampleStore
from elman.data.splits import stratified_parts
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.codec import LabelCodec
from elman.tasks.plots import confusion_plot
from elman.tasks.supervised import Baseline, Numbers, SupervisedTask, sample_note

MAX_LABELS_LISTED = 20  # of the labels too rare to split
MAX_FEATURES = 50_000_000  # of all examples together, for a baseline
CONFUSION = confusion_plot(iter)


@dataclass(frozen=True)
class ClassificationCodec(LabelCodec):
    """A codec of examples with a label each. A prediction is the probabilities of all labels, (K,)."""

    @abstractmethod
    def features(self, examples: Sequence[Example]) -> Any:
        """Return the features of examples for the baselines, a matrix (N, D)."""

    def max_examples(self, train: Sequence[Example]) -> int:
        """Return the largest number of examples to fit baselines on, whose features fit into memory."""
        return MAX_FEATURES // int(np.prod(self.features(train[:1]).shape))

    def of_linear(self, layers: linear.Layers, features: Any) -> NDArray[Any]:
        """Return the predictions of a linear or feed-forward baseline from features (N, D): probabilities (N, K)."""
        return linear.probabilities(layers, features)

    @override
    def check_targets(self, examples: Sequence[Example]) -> None:
        for example in examples:
            self.check_target(example)

    def check_target(self, example: Example) -> None:
        """Check that a model can be scored on an example.

        Raises:
            BadInput: for a label that was not in the training part.
        """
        if example.target not in self.label:
            raise BadInput(
                f"{example.name}: expected a label of the training data, {_listed(self.labels)}; got {example.target!r}"
            )

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        best = int(self.best(prediction))
        return {"label": self.labels[best], "probability": round(float(prediction[best]), 4)}


def fit_labels(task: str, targets: Iterable[Any]) -> list[Any]:
    """Return the labels of the training part in order, numbers before texts.

    Raises:
        BadInput: for fewer than two labels.
    """
    labels = set(targets)
    if len(labels) < 2:
        only = f"one, {next(iter(labels))!r}" if labels else "none"
        raise BadInput(f"{task}: expected at least two different labels in the training part, got {only}")
    return sorted(labels, key=lambda label: (_as_number(label), str(label)))


def target(example: Example) -> Hashable:
    """Return the label of an example."""
    label: Hashable = example.target
    return label


def stratified_split(task: SupervisedTask, examples: ExampleStore, seed: int, parts: Sequence[str]) -> Numbers:
    """Split at random by a seed, with the same share of each label in every part."""
    numbers, rare = stratified_parts(examples.contents.components(), examples.labels, seed, parts, task.name)
    if parts and rare:
        listed = ", ".join(f"{label!r} ({count})" for label, count in list(rare.items())[:MAX_LABELS_LISTED])
        more = f" and {len(rare) - MAX_LABELS_LISTED:,} more" if len(rare) > MAX_LABELS_LISTED else ""
        note(f"for training only, because there are fewer than 3 different {task.unit} of each: {listed}{more}")
    return numbers


def classification_metrics(
    codec: ClassificationCodec, predictions: Sequence[Any], targets: Sequence[Any], loss: str
) -> dict[str, float]:
    """Return accuracy, macro-averaged F1, and the mean negative log-likelihood, named `loss`."""
    from sklearn.metrics import f1_score

    P, y = np.stack(predictions), np.array([codec.label[target] for target in targets])
    best = P.argmax(1)
    return {
        "accuracy": float((best == y).mean()),
        "macro_f1": float(f1_score(y, best, average="macro")),
        loss: float(-np.log(np.maximum(P[np.arange(len(y)), y], 1e-12)).mean()),
    }


class Feedforward(Baseline):
    """A logistic regression (one layer) or a feed-forward network on the features of a codec.

    Args:
        title: the title in tables and plots.
        codec: the fitted codec.
        layers: as in `elman.baselines.linear`.
    """

    def __init__(self, title: str, codec: ClassificationCodec, layers: linear.Layers) -> None:
        self.title, self._codec = title, codec
        self._layers = [(W.astype(np.float32), b.astype(np.float32)) for W, b in layers]

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        return list(self._codec.of_linear(self._layers, self._codec.features(examples)))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        flat = [part for layer in self._layers for part in layer]
        return {f"{self.title}/{i}": torch.from_numpy(np.ascontiguousarray(part)) for i, part in enumerate(flat)}


def balanced_weights(counts: Sequence[int] | NDArray[np.int64], examples: int) -> list[float]:
    """Return weights of labels in the loss that make up for their frequencies, as scikit-learn's "balanced".

    Args:
        counts: how often each of K labels occurs; 0 is counted as 1.
        examples: N, what the labels are counted in.

    Returns:
        N / (K * count) of each label, to six digits.

    >>> balanced_weights([30, 10], 40)
    [0.666667, 2.0]
    """
    return [round(examples / (len(counts) * max(int(count), 1)), 6) for count in counts]


def fit_logistic(
    title: str,
    codec: ClassificationCodec,
    train: Sequence[Example],
    C: float,
    unit: str,
    class_weight: str | None = None,
) -> Feedforward:
    """Fit a logistic regression.

    Args:
        title: the title in tables and plots.
        codec: the fitted codec.
        train: the training part.
        C: inverse of the regularization strength.
        unit: the plural noun for examples in the title.
        class_weight: as in `elman.baselines.linear.logistic`.
    """
    X, y, note = _sampled(codec, train, unit)
    return Feedforward(title + note, codec, linear.logistic(X, y, C, class_weight))


def fit_feedforward(
    codec: ClassificationCodec, train: Sequence[Example], count: int, seed: int, unit: str
) -> Feedforward:
    """Fit a network with one hidden layer and about `count` weights, from a seed."""
    X, y, note = _sampled(codec, train, unit)
    layers = linear.feedforward(X, y, count, len(codec.labels), seed)
    sizes = "-".join(map(str, [X.shape[1], len(layers[0][1]), len(codec.labels)]))
    return Feedforward(f"feed-forward network {sizes}{note}", codec, layers)


def load_feedforward(
    codec: ClassificationCodec, tensors: Mapping[str, torch.Tensor], inputs: int | None = None
) -> list[Baseline]:
    """Load the baselines from their tensors; `inputs` is the number of features, if it is known."""
    baselines: list[Baseline] = []
    for title in dict.fromkeys(name.split("/")[0] for name in tensors):
        arrays = [tensors[f"{title}/{i}"].numpy() for i in range(sum(n.startswith(f"{title}/") for n in tensors))]
        try:
            baselines.append(Feedforward(title, codec, linear.from_arrays(arrays, inputs, len(codec.labels))))
        except ValueError as error:
            raise ValueError(f"{title} with {error}") from None
    return baselines


def _sampled(codec: ClassificationCodec, train: Sequence[Example], unit: str) -> tuple[Any, NDArray[np.int64], str]:
    """Return features and label numbers of the examples to fit a baseline on, and what its title says of a sample."""
    y = np.array([codec.label[example.target] for example in train])
    numbers = linear.sample_each_label(y, codec.max_examples(train))
    count = len(numbers) if len(numbers) < len(train) else 0
    return codec.features(Subset(train, numbers)), y[numbers], sample_note(count, unit)


def _as_number(label: Any) -> float:
    try:
        return float(label)
    except ValueError:
        return math.inf


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(map(str, labels))[:120]
