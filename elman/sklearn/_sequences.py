"""A classifier and a regressor of sequences."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from elman.extras import needs
from elman.sklearn._recurrent import Array, RecurrentEstimator, nonzero

with needs("tasks", "elman.sklearn"):
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data


class _SequenceEstimator(RecurrentEstimator):
    """Reads X, and scales it."""

    _is_table: bool  # whether the training's X was a table

    def _read(self, X: Any, reset: bool) -> list[Array]:
        """Sequences (T, D) of a table, an array (N, T, D), or a list of arrays."""
        kind = _kind(X)
        if kind == "table" and (reset or self._is_table):
            arrays = list(validate_data(self, X, dtype=np.float64, reset=reset)[:, :, None])
        elif kind == "list":
            arrays = [_sequence(x, f"X[{i}]", self) for i, x in enumerate(X)]
        else:
            values = check_array(X, dtype=np.float64, allow_nd=True, estimator=self, input_name="X")
            arrays = list(values.reshape(*values.shape[:2], -1))
        widths = sorted({array.shape[1] for array in arrays})
        expected = widths[0] if reset else self.model_.recurrent.input_size
        if widths != [expected]:
            one, got = "one D" if reset else f"D = {expected}", ", ".join(map(str, widths))
            raise ValueError(f"{type(self).__name__}: X: expected steps (D,) of {one}, got D = {got}")
        if reset:
            self._is_table = kind == "table"
            if not self._is_table:
                self.n_features_in_ = expected
            steps = np.concatenate(arrays)
            self._mean, self._scale = steps.mean(0), nonzero(steps.std(0))
        return arrays

    def _scaled(self, arrays: Sequence[Array], dtype: torch.dtype) -> list[Tensor]:
        return [torch.tensor((array - self._mean) / self._scale, dtype=dtype) for array in arrays]

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        return self._run(self._scaled(self._read(X, reset=False), torch.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class SequenceClassifier(ClassifierMixin, _SequenceEstimator):  # type: ignore[misc]
    """Classify sequences with a recurrent network.

    Inputs are standardized, by the mean and the standard deviation of each number of a step over all steps of the
    training data.

    Args:
        cell: a name in `elman.cells.REGISTRY`: "rnn", "gru", "lstm" and others.
        hidden: size of the hidden state of each layer and direction.
        layers: number of recurrent layers.
        dropout: dropout probability between layers and before the output.
        bidirectional: whether sequences are read from both ends.
        epochs: passes over the data. All are trained.
        batch: sequences in a batch.
        lr: learning rate of AdamW at its highest; it falls to zero along a cosine.
        clip: largest norm of the gradient.
        random_state: seed for weights, order and dropout; an int gives the same model again.

    Attributes:
        classes_: labels in the order of the columns of `predict_proba`, (K,).
        model_: the trained network.
        n_features_in_: columns of a table X (N, T); D of other X.
        loss_curve_: mean training loss of each epoch.

    Shapes:
        X: an array (N, T), N sequences of T steps with one number each (a table, of which every X has the same
        columns); an array (N, T, D), steps with D numbers; or a list of arrays (T,) or (T, D) of any lengths.
        y: N labels.

    >>> X = np.random.default_rng(0).normal(size=(80, 12))        # 80 sequences of 12 steps
    >>> y = np.where(X.sum(1) > 0, "up", "down")
    >>> SequenceClassifier(epochs=20, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with labels.

        Args:
            X: sequences, in one of the shapes in the class's docstring.
            y: a label for each sequence, (N,).

        Returns:
            The estimator.

        Raises:
            ValueError: for sequences of different widths, fewer than two classes, values that are not finite, or an
                invalid parameter; if the loss is not finite.
        """
        arrays = self._read(X, reset=True)
        _, y = check_X_y(np.zeros((len(arrays), 1)), y, estimator=self, dtype=None)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"SequenceClassifier: y: expected at least two classes, got 1 class, {self.classes_[0]!r}")
        targets = torch.tensor(numbers)
        self._train(
            self._scaled(arrays, torch.float32),
            len(self.classes_),
            lambda outputs, rows: cross_entropy(outputs, targets[rows]),
        )
        return self

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of the classes.

        Args:
            X: sequences, as for `fit`.

        Returns:
            (N, K), with the columns in the order of `classes_`.
        """
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict(self, X: Any) -> Array:
        """Predict labels.

        Args:
            X: sequences, as for `fit`.

        Returns:
            The most probable class of each sequence, (N,).
        """
        outputs = self._outputs(X)
        labels: Array = self.classes_[outputs.argmax(1)]
        return labels


class SequenceRegressor(RegressorMixin, _SequenceEstimator):  # type: ignore[misc]
    """Predict numbers from sequences with a recurrent network, by the squared error.

    Inputs and targets are standardized, by the mean and the standard deviation of each number over the training data.

    Args:
        cell: a name in `elman.cells.REGISTRY`: "rnn", "gru", "lstm" and others.
        hidden: size of the hidden state of each layer and direction.
        layers: number of recurrent layers.
        dropout: dropout probability between layers and before the output.
        bidirectional: whether sequences are read from both ends.
        epochs: passes over the data. All are trained.
        batch: sequences in a batch.
        lr: learning rate of AdamW at its highest; it falls to zero along a cosine.
        clip: largest norm of the gradient.
        random_state: seed for weights, order and dropout; an int gives the same model again.

    Attributes:
        model_: the trained network.
        n_features_in_: columns of a table X (N, T); D of other X.
        loss_curve_: mean training loss of each epoch.

    Shapes:
        X: as for `SequenceClassifier`.
        y: (N,) or (N, targets).

    >>> X = np.random.default_rng(0).normal(size=(200, 6))
    >>> SequenceRegressor(hidden=16, random_state=0).fit(X, X.sum(1)).score(X, X.sum(1)) > 0.95
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with numbers.

        Args:
            X: sequences, as for `SequenceClassifier`.
            y: a number for each sequence, (N,), or several, (N, targets).

        Returns:
            The estimator.

        Raises:
            ValueError: for sequences of different widths, values that are not finite, or an invalid parameter; if the
                loss is not finite.
        """
        arrays = self._read(X, reset=True)
        zeros = np.zeros((len(arrays), 1))
        _, y = check_X_y(zeros, y, estimator=self, dtype=None, multi_output=True, y_numeric=True)
        y = np.asarray(y, np.float64)
        self._target_mean, self._target_scale = y.mean(0), nonzero(y.std(0))
        scaled = ((y - self._target_mean) / self._target_scale).reshape(len(y), -1)
        targets, self._target_shape = torch.tensor(scaled, dtype=torch.float32), y.shape[1:]
        self._train(
            self._scaled(arrays, torch.float32),
            targets.shape[1],
            lambda outputs, rows: mse_loss(outputs, targets[rows]),
        )
        return self

    def predict(self, X: Any) -> Array:
        """Predict numbers.

        Args:
            X: sequences, as for `fit`.

        Returns:
            (N,) or (N, targets), as the y of `fit`.
        """
        outputs = self._outputs(X)
        return np.asarray(outputs.reshape(len(outputs), *self._target_shape) * self._target_scale + self._target_mean)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _kind(X: Any) -> str:
    """Return the kind of X: "list" of arrays or of lists of different lengths, "array" (N, T, D), or "table"."""
    several = X if isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype == object) else []
    if len(several) and np.ndim(several[0]) and getattr(X, "ndim", 1) == 1:
        if any(hasattr(x, "__array__") for x in several) or len({len(x) for x in several}) > 1:
            return "list"
        return "array" if np.ndim(several[0]) > 1 else "table"
    return "array" if getattr(X, "ndim", 2) > 2 else "table"


def _sequence(x: Any, name: str, estimator: Any) -> Array:
    """A sequence (T, D)."""
    values = check_array(x, dtype=np.float64, ensure_2d=False, estimator=estimator, input_name=name)
    return np.asarray(values.reshape(len(values), -1))
