"""What the page is about: a sentence and the textbook network that learns it."""

from typing import Any, NamedTuple

import numpy as np

from elman import textbook
from elman.textbook import Array, Parameters


class Lesson(NamedTuple):
    """A sentence, and how a network learns to say it."""

    words: tuple[str, ...]
    hidden: int = 4
    activation: str = "tanh"
    learning_rate: float = 0.5
    steps: int = 100
    seed: int = 0

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Its different words, in the order in which they come."""
        return tuple(dict.fromkeys(self.words))

    @property
    def x(self) -> Array:
        """All words but the last, one-hot: (T, D)."""
        return textbook.one_hot(self.words[:-1], self.vocabulary)

    @property
    def targets(self) -> Array:
        """All words but the first, one-hot: (T, D)."""
        return textbook.one_hot(self.words[1:], self.vocabulary)

    def start(self) -> Parameters:
        """The untrained network."""
        words = len(self.vocabulary)
        return textbook.start(words, self.hidden, words, self.seed)

    def forward(self, p: Parameters) -> textbook.Trace:
        """The states and outputs along the sentence."""
        return textbook.forward(p, self.x, self.activation)

    def loss(self, p: Parameters) -> float:
        """The cross-entropy of a network on the sentence."""
        return textbook.cross_entropy(self.forward(p).y, self.targets)

    def gradient(self, p: Parameters) -> Parameters:
        """Of that loss."""
        return textbook.bptt(p, self.x, self.targets, self.activation)

    def terms(self, p: Parameters) -> Array:
        """dL_t/da_k for every t and k, (T, T, H); zero where k > t. All terms of the sum of BPTT are products of these.

        >>> lesson = Lesson(("please", "stay", "at", "home"))
        >>> p = lesson.start()
        >>> np.allclose(lesson.terms(p).sum((0, 1)), lesson.gradient(p).b)
        True
        """
        h, y = self.forward(p)
        dh = textbook.output_gradient(y, self.targets) @ p.V
        alone = np.eye(len(dh))[:, :, None] * dh  # the loss of one step at a time
        return np.stack([textbook.backward(p, h, row, self.activation) for row in alone])


class ExplainedTraining(NamedTuple):
    """What gradient descent made of a lesson's network."""

    losses: list[float]  # before the first step and after each
    p: Parameters
    y: Array  # its outputs on the sentence, (T, D)


def train(lesson: Lesson) -> ExplainedTraining:
    """Gradient descent from the start on. Where the loss explodes, it goes on with what it has, as the page does."""
    p = lesson.start()
    with np.errstate(all="ignore"):
        losses = [lesson.loss(p)]
        for _ in range(lesson.steps):
            p = textbook.descend(p, lesson.gradient(p), lesson.learning_rate)
            losses.append(lesson.loss(p))
        return ExplainedTraining(losses, p, lesson.forward(p).y)


def as_json(lesson: Lesson, losses: list[float]) -> dict[str, Any]:
    """All that the page has to be told; `check` is for it to compare its own numbers with."""
    p = lesson.start()
    return {
        **lesson._asdict(),
        "vocabulary": lesson.vocabulary,
        "start": _lists(p),
        "check": {
            "losses": [loss if np.isfinite(loss) else None for loss in losses],
            "gradient": _lists(lesson.gradient(p)),
            "terms": [row[: t + 1].tolist() for t, row in enumerate(lesson.terms(p))],  # row t ends with k = t
        },
    }


def _lists(p: Parameters) -> dict[str, Any]:
    return {name: value.tolist() for name, value in p._asdict().items()}
