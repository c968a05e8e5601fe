"""The content of the page: a sentence and the textbook RNN that learns it."""

from typing import Any, NamedTuple

import numpy as np

from elman import textbook
from elman.textbook import Array, Parameters


class Lesson(NamedTuple):
    """A sentence and the hyperparameters of an RNN that learns to predict each next word.

    Attributes:
        words: the sentence.
        hidden: hidden size.
        activation: "tanh", "sigmoid" or "relu".
        learning_rate: learning rate of gradient descent.
        steps: number of gradient descent steps.
        seed: random seed for the weights.
    """

    words: tuple[str, ...]
    hidden: int = 4
    activation: str = "tanh"
    learning_rate: float = 0.5
    steps: int = 100
    seed: int = 0

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The distinct words, in order of first occurrence."""
        return tuple(dict.fromkeys(self.words))

    @property
    def x(self) -> Array:
        """Inputs: all words but the last, one-hot, (T, D)."""
        return textbook.one_hot(self.words[:-1], self.vocabulary)

    @property
    def targets(self) -> Array:
        """Targets: all words but the first, one-hot, (T, D)."""
        return textbook.one_hot(self.words[1:], self.vocabulary)

    def start(self) -> Parameters:
        """Return the initial parameters."""
        words = len(self.vocabulary)
        return textbook.start(words, self.hidden, words, self.seed)

    def forward(self, p: Parameters) -> textbook.Trace:
        """Compute the states and outputs at every step of the sentence."""
        return textbook.forward(p, self.x, self.activation)

    def loss(self, p: Parameters) -> float:
        """Compute the cross-entropy loss on the sentence."""
        return textbook.cross_entropy(self.forward(p).y, self.targets)

    def gradient(self, p: Parameters) -> Parameters:
        """Compute the gradient of the loss by backpropagation through time (BPTT)."""
        return textbook.bptt(p, self.x, self.targets, self.activation)

    def terms(self, p: Parameters) -> Array:
        """Compute dL_t/da_k for every t and k, (T, T, H); zero for k > t.

        Every term of the sums in BPTT is a product of one of these.

        >>> lesson = Lesson(("please", "stay", "at", "home"))
        >>> p = lesson.start()
        >>> np.allclose(lesson.terms(p).sum((0, 1)), lesson.gradient(p).b)
        True
        """
        h, y = self.forward(p)
        dh = textbook.output_gradient(y, self.targets) @ p.V
        per_step = np.eye(len(dh))[:, :, None] * dh  # row t has the gradient of the loss at step t only
        return np.stack([textbook.backward(p, h, row, self.activation) for row in per_step])


class ExplainedTraining(NamedTuple):
    """Result of training a lesson's network.

    Attributes:
        losses: the loss before the first step and after each step.
        p: the trained parameters.
        y: outputs of the trained network on the sentence, (T, D).
    """

    losses: list[float]
    p: Parameters
    y: Array


def train(lesson: Lesson) -> ExplainedTraining:
    """Train a lesson's network by gradient descent.

    Values that are not finite do not stop the training, as on the page.
    """
    p = lesson.start()
    with np.errstate(all="ignore"):
        losses = [lesson.loss(p)]
        for _ in range(lesson.steps):
            p = textbook.descend(p, lesson.gradient(p), lesson.learning_rate)
            losses.append(lesson.loss(p))
        return ExplainedTraining(losses, p, lesson.forward(p).y)


def as_json(lesson: Lesson, losses: list[float]) -> dict[str, Any]:
    """Convert a lesson to the JSON object that the page reads; the page compares its own results with "check"."""
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
