"""Tasks of examples with a label each: what is measured, the baselines, the confusion matrix."""

import math
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.data.splits import components, stratified_parts
from elman.data.validation import shortened
from elman.errors import BadInput
from elman.io.files import write_figure
from elman.io.run_folder import Run
from elman.io.terminal import show
from elman.tasks.supervised import Baseline, SupervisedTask

MOST = 40  # labels in a picture
RARE = 20  # labels that are listed as too rare to split
NUMBERS = 50_000_000  # features, of all examples together, that a baseline is fitted on


class ClassificationTask(SupervisedTask):
    """A task of examples with a label each. A codec has `labels`; what is said is a probability of each of them."""

    pictures: ClassVar = {"confusion.png": "Which label was taken for which, in the test part."}

    @abstractmethod
    def features(self, codec: Any, examples: Sequence[Example]) -> Any:
        """What a baseline is given of examples: a matrix of numbers, a row for each."""

    def room(self, codec: Any, train: Sequence[Example]) -> int:
        """How many examples a baseline is fitted on at most, as it has all features of these in memory at once."""
        return NUMBERS // int(np.prod(self.features(codec, train[:1]).shape))

    def split(self, examples: Sequence[Example], options: Any, seed: int, parts: Sequence[str]) -> dict[str, list[int]]:
        """As there, with the same share of each label in every part."""
        labels = [example.target for example in examples]
        found, rare = stratified_parts(components(examples), labels, seed, parts, self.name)
        if parts and rare:
            listed = ", ".join(f"{label!r} ({count})" for label, count in list(rare.items())[:RARE])
            more = f" and {len(rare) - RARE:,} more" if len(rare) > RARE else ""
            show(f"for training only, as there are fewer than 3 different {self.unit} of each: {listed}{more}")
        return found

    def check(self, codec: Any, examples: Sequence[Example]) -> None:
        """As there: for a label that was not trained on."""
        for example in examples:
            if example.target not in codec.labels:
                raise BadInput(
                    f"{example.name}: expected labels of the training, {_listed(codec.labels)}; got {example.target!r}"
                )

    def measure(self, codec: Any, said: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """Share that is right, F1 averaged over labels, and the loss."""
        from sklearn.metrics import f1_score

        number = {label: i for i, label in enumerate(codec.labels)}
        P, y = np.stack(said), np.array([number[target] for target in targets])
        best = P.argmax(1)
        return {
            "accuracy": float((best == y).mean()),
            "macro_f1": float(f1_score(y, best, average="macro")),
            self.loss: float(-np.log(np.maximum(P[np.arange(len(y)), y], 1e-12)).mean()),
        }

    def row(self, codec: Any, said: Any) -> dict[str, Any]:
        """The label, and how sure the model is."""
        best = int(np.argmax(said))
        return {"label": codec.labels[best], "probability": round(float(said[best]), 4)}

    @override
    def restored(self, codec: Any, tensors: dict[str, torch.Tensor]) -> list[Baseline]:
        titles = dict.fromkeys(name.split("/")[0] for name in tensors)
        found: list[Baseline] = []
        for title in titles:
            own = [tensors[f"{title}/{i}"].numpy() for i in range(sum(n.startswith(f"{title}/") for n in tensors))]
            layers = list(zip(own[::2], own[1::2], strict=True))
            sizes = [(W.shape[1:], b.shape, *W.shape[:1]) for W, b in layers]
            ends = [(size,) for _, _, size in sizes[1:]] + [(len(codec.labels),)]
            if any(not columns == biases == end for (columns, biases, _), end in zip(sizes, ends, strict=True)):
                raise ValueError(f"{title} with layers that do not fit each other, or the labels")
            found.append(Feedforward(self, codec, title, layers))
        return found

    def draw(self, run: Run, codec: Any, said: Sequence[Any], targets: Sequence[Any]) -> None:
        """confusion.png: which label was taken for which."""
        number = {label: i for i, label in enumerate(codec.labels)}
        y, best = [number[target] for target in targets], np.stack(said).argmax(1)
        if len(codec.labels) <= MOST:
            draw_confusion(y, best, codec.labels, run.path / "confusion.png")


class Feedforward(Baseline):
    """Layers of numbers with relu between them, softmax behind them: with one layer, a logistic regression.

    Args:
        task: whose features it reads.
        codec: of the task.
        title: for people.
        layers: matrices (D, H) and biases (H,).
    """

    def __init__(
        self, task: ClassificationTask, codec: Any, title: str, layers: list[tuple[NDArray[Any], NDArray[Any]]]
    ) -> None:
        self.title, self._task, self._codec = title, task, codec
        self._layers = [(W.astype(np.float32), b.astype(np.float32)) for W, b in layers]

    @override
    def say(self, examples: Sequence[Example]) -> list[Any]:
        a = self._task.features(self._codec, examples)
        for i, (W, b) in enumerate(self._layers):
            a = np.asarray((np.maximum(a, 0) if i else a) @ W + b)
        e = np.exp(a - a.max(1, keepdims=True))
        return list(e / e.sum(1, keepdims=True))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        flat = [part for layer in self._layers for part in layer]
        return {f"{self.title}/{i}": torch.from_numpy(np.ascontiguousarray(part)) for i, part in enumerate(flat)}

    @classmethod
    def logistic(
        cls, task: ClassificationTask, codec: Any, train: Sequence[Example], C: float, title: str
    ) -> "Feedforward":
        """A logistic regression.

        Args:
            task: whose features it reads.
            codec: of the task.
            train: what it learns from.
            C: how little it is held back.
            title: for people.
        """
        from sklearn.linear_model import LogisticRegression

        train, of = _fitting(task, codec, train)
        X, y = task.features(codec, train), _numbers(codec, train)
        found = LogisticRegression(C=C, max_iter=1000).fit(X, y)
        return cls(task, codec, title + of, [_of_each_label(found.coef_.T, found.intercept_)])

    @classmethod
    def with_weights(
        cls, task: ClassificationTask, codec: Any, train: Sequence[Example], count: int, seed: int
    ) -> "Feedforward":
        """A network with one hidden layer and about so many weights.

        Args:
            task: whose features it reads.
            codec: of the task.
            train: what it learns from.
            count: weights.
            seed: of the weights at the start.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        train, of = _fitting(task, codec, train)
        X, y = task.features(codec, train), _numbers(codec, train)
        hidden = max(1, round((count - len(codec.labels)) / (X.shape[1] + 1 + len(codec.labels))))
        # A stratified validation part needs every label twice in all and once in its tenth; else the loss decides.
        counts = np.unique(y, return_counts=True)[1]
        early = bool(counts.min() > 1 and len(y) // 10 >= len(counts))
        found = MLPClassifier((hidden,), random_state=seed, early_stopping=early, max_iter=300, n_iter_no_change=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it has had its 300 epochs
            found.fit(X, y)
        layers = list(zip(found.coefs_, found.intercepts_, strict=True))
        layers[-1] = _of_each_label(*layers[-1])
        return cls(task, codec, f"feed-forward network {X.shape[1]}-{hidden}-{len(codec.labels)}{of}", layers)


def labels_of(task: str, train: Sequence[Example]) -> list[Any]:
    """The labels of what is trained on, in order.

    Raises:
        BadInput: for fewer than two.
    """
    counts = Counter(example.target for example in train)
    if len(counts) < 2:
        only = f"one, {next(iter(counts))!r}" if counts else "none"
        raise BadInput(f"{task}: expected at least two different labels in what is trained on, got {only}")
    return sorted(counts, key=lambda label: (_as_number(label), str(label)))


def some_of_each(y: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """The places of at most so many labels, with a like share of each, but two at least, from all over.

    >>> some_of_each(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 4)
    array([0, 2, 4, 6])
    """
    places = [np.flatnonzero(y == k) for k in np.unique(y)]
    counts = [min(max(2, most * len(own) // len(y)), len(own)) for own in places]
    return np.sort(np.concatenate([own[np.arange(n) * len(own) // n] for own, n in zip(places, counts, strict=True)]))


def draw_confusion(y: Sequence[int], best: NDArray[Any], labels: Sequence[Any], path: Path) -> None:
    """Which label was taken for which, as a map with counts.

    Args:
        y: the right ones, by number.
        best: those that were said.
        labels: all.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    K = len(labels)
    counts = np.zeros((K, K), int)
    np.add.at(counts, (np.asarray(y), best), 1)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(2.5 + 0.42 * K, 12)
    figure = Figure(figsize=(side + 0.6, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for i, j in zip(*counts.nonzero(), strict=True):
        ink = "black" if share[i, j] > 0.6 else "white"
        axes.text(j, i, counts[i, j], ha="center", va="center", color=ink, fontsize=8)
    names = [shortened(str(label)) for label in labels]
    turn = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(K), names, rotation=turn, fontsize=8)
    axes.set_yticks(range(K), names, fontsize=8)
    axes.set(xlabel="what the model says", ylabel="what it is")
    write_figure(path, figure)


def _of_each_label(W: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A last layer with a column for each label; of two, scikit-learn has but one."""
    if W.shape[1] > 1:
        return W, b
    return np.concatenate((-W / 2, W / 2), 1), np.concatenate((-b / 2, b / 2))


def _fitting(task: ClassificationTask, codec: Any, train: Sequence[Example]) -> tuple[Sequence[Example], str]:
    """Examples to fit a baseline on, and what its title says of that: where there are too many, some of each label."""
    room = task.room(codec, train)
    if len(train) <= room:
        return train, ""
    numbers = some_of_each(_numbers(codec, train), room)
    return Subset(train, numbers), f", of {len(numbers):,} {task.unit}"


def _numbers(codec: Any, examples: Sequence[Example]) -> NDArray[np.int64]:
    number = {label: i for i, label in enumerate(codec.labels)}
    return np.array([number[example.target] for example in examples])


def _as_number(label: Any) -> float:
    try:
        return float(label)
    except ValueError:
        return math.inf


def _listed(labels: Sequence[Any]) -> str:
    return ", ".join(map(str, labels))[:120]
