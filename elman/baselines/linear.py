"""Logistic regression, feed-forward networks and ridge regression.

The first two are lists of layers (W, b) with W: (D, H) and b: (H,).

>>> X, y = np.array([[0.0], [1.0], [0.1], [0.9]]), np.array([0, 1, 0, 1])
>>> probabilities(logistic(X, y, C=1e6), X).argmax(1)
array([0, 1, 0, 1])
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ALPHAS = np.logspace(-3, 3, 10)  # regularization of a ridge regression, of which the best is chosen
Layers = list[tuple[NDArray[Any], NDArray[Any]]]


def logistic(X: Any, y: Any, C: float = 1.0, class_weight: str | None = None) -> Layers:
    """Fit a logistic regression.

    Args:
        X: features (N, D), dense or sparse.
        y: labels (N,).
        C: inverse regularization strength.
        class_weight: "balanced" weights each label inversely to its frequency; None: all alike.

    Returns:
        One layer, with a column for each label.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=1000, class_weight=class_weight).fit(X, y)
    return [_with_every_label(model.coef_.T, model.intercept_)]


def one_vs_rest(X: Any, Y: NDArray[Any], C: float = 1.0, class_weight: str | None = None) -> Layers:
    """Fit a logistic regression for each of several labels that an example may have at once.

    Args:
        X: features (N, D), dense or sparse.
        Y: which labels each example has, (N, K), 0 or 1.
        C: inverse regularization strength.
        class_weight: as in `logistic`.

    Returns:
        One layer, whose outputs are the log odds of each label.

    >>> X, Y = np.array([[0.0], [1.0], [0.1], [0.9]]), np.array([[0, 1], [1, 1], [0, 1], [1, 1]])
    >>> (logits(one_vs_rest(X, Y, C=1e6), X) > 0).astype(int)
    array([[0, 1],
           [1, 1],
           [0, 1],
           [1, 1]])
    """
    from sklearn.linear_model import LogisticRegression

    N, K = Y.shape
    W, b = np.zeros((X.shape[1], K)), np.zeros(K)
    for k, y in enumerate(Y.T):
        if 0 < y.sum() < N:
            model = LogisticRegression(C=C, max_iter=1000, class_weight=class_weight).fit(X, y)
            W[:, k], b[k] = model.coef_[0], model.intercept_[0]
        else:  # as many examples more without the label, or with it, as there are half of one
            b[k] = np.log((y.sum() + 0.5) / (N - y.sum() + 0.5))
    return [(W, b)]


def feedforward(X: Any, y: NDArray[np.int64], count: int, labels: int, seed: int) -> Layers:
    """Fit a network with one hidden layer.

    Args:
        X: features (N, D).
        y: label ids (N,).
        count: approximate number of weights.
        labels: K, number of labels.
        seed: random seed for the initial weights.

    Returns:
        Two layers.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    hidden = max(1, round((count - labels) / (X.shape[1] + 1 + labels)))
    # Early stopping holds out a stratified tenth: a label needs two examples, and the tenth room for all labels.
    counts = np.unique(y, return_counts=True)[1]
    stops_early = bool(counts.min() > 1 and len(y) // 10 >= len(counts))
    model = MLPClassifier((hidden,), random_state=seed, early_stopping=stops_early, max_iter=300, n_iter_no_change=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 300 epochs suffice for a baseline
        model.fit(X, y)
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    layers[-1] = _with_every_label(*layers[-1])
    return layers


def logits(layers: Layers, X: Any) -> NDArray[Any]:
    """Compute the outputs of the last layer, with ReLU between layers.

    Args:
        layers: the layers.
        X: features (N, D), dense or sparse.

    Returns:
        Logits (N, K).
    """
    a = X
    for i, (W, b) in enumerate(layers):
        a = np.asarray((np.maximum(a, 0) if i else a) @ W + b)
    return np.asarray(a)


def probabilities(layers: Layers, X: Any) -> NDArray[Any]:
    """Compute the probabilities of labels of which each example has one, as in `logits`."""
    a = logits(layers, X)
    e = np.exp(a - a.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def sample_each_label(y: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Choose about `limit` examples, evenly spaced, in proportion to the label counts but at least two per label.

    Args:
        y: label ids (N,).
        limit: approximate number of examples.

    Returns:
        Sorted indices of the chosen examples.

    >>> sample_each_label(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 4)
    array([0, 2, 4, 6])
    """
    indices = [np.flatnonzero(y == k) for k in np.unique(y)]
    counts = [min(max(2, limit * len(rows) // len(y)), len(rows)) for rows in indices]
    return np.sort(
        np.concatenate([rows[np.arange(n) * len(rows) // n] for rows, n in zip(indices, counts, strict=True)])
    )


def _with_every_label(W: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the last layer with one column per label; for two labels, scikit-learn returns a single column."""
    if W.shape[1] > 1:
        return W, b
    return np.concatenate((-W / 2, W / 2), 1), np.concatenate((-b / 2, b / 2))


def from_arrays(arrays: Sequence[NDArray[Any]], inputs: int | None, labels: int) -> Layers:
    """Build layers from alternating weight matrices and biases.

    Args:
        arrays: W, b, W, b, ... from the first to the last layer.
        inputs: expected number of features; None means any.
        labels: K, expected number of labels.

    Raises:
        ValueError: if the shapes do not match each other, the number of inputs or the number of labels.
    """
    layers = list(zip(arrays[::2], arrays[1::2], strict=True))
    sizes = [(W.shape[1:], b.shape, *W.shape[:1]) for W, b in layers]
    ends = [(size,) for _, _, size in sizes[1:]] + [(labels,)]
    if any(not columns == biases == end for (columns, biases, _), end in zip(sizes, ends, strict=True)):
        raise ValueError("layers whose shapes do not match each other or the labels")
    if inputs is not None and len(layers[0][0]) != inputs:
        raise ValueError(f"{len(layers[0][0])} features, but the codec has {inputs}")
    return layers


class Ridge(NamedTuple):
    """A ridge regression, whose regularization has the lowest leave-one-out error.

    weights, intercept: (K, D) and (K,).
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, X: NDArray[np.float64], Y: NDArray[np.float64]) -> "tuple[Ridge, NDArray[np.float64]]":
        """Fit to features (N, D) and targets (N, K); also return each target as predicted without its own row."""
        from sklearn.linear_model import RidgeCV

        if len(X) == 1:
            return cls(np.zeros((Y.shape[1], X.shape[1])), Y[0]), Y
        mean, std = X.mean(0), X.std(0)
        std[std == 0] = 1.0
        regression = RidgeCV(ALPHAS, scoring="neg_mean_squared_error", store_cv_results=True).fit((X - mean) / std, Y)
        weights = regression.coef_.reshape(Y.shape[1], -1) / std
        left_out = regression.cv_results_[..., np.flatnonzero(regression.alpha_ == ALPHAS)[0]].reshape(Y.shape)
        return cls(weights, regression.intercept_ - weights @ mean), left_out

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predict the targets (N, K) of features (N, D)."""
        result: NDArray[np.float64] = X @ self.weights.T + self.intercept
        return result
