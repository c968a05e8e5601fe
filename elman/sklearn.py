"""Recurrent networks as scikit-learn estimators: `SequenceClassifier`, `SequenceRegressor` and `Forecaster`.

They run in pipelines, cross-validation and grid searches, and write no files. For sequences of any kind with baselines,
a report and checkpoints, there is `elman.tasks`.

>>> import numpy as np
>>> X = np.random.default_rng(0).normal(size=(80, 12))        # 80 sequences of 12 steps
>>> y = np.where(X.sum(1) > 0, "up", "down")
>>> model = SequenceClassifier(epochs=20, random_state=0).fit(X, y)
>>> model.score(X, y) > 0.9
True
>>> model.predict_proba([X[0, :5], X[1, :9]]).shape           # sequences of other lengths
(2, 2)
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, softplus
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from elman import cells
from elman.extras import needs
from elman.io.validate import check_whole
from elman.layers import Stack

with needs("tasks", "elman.sklearn"):
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, check_X_y, validate_data

__all__ = ["Forecaster", "SequenceClassifier", "SequenceRegressor"]

Array = NDArray[Any]
CHUNK = 256  # sequences predicted at once
SHORTEST = 8  # steps of context that a forecaster has at least by default


class _Network(nn.Module):
    """Recurrent layers, and a linear output over the mean and the last of their outputs."""

    def __init__(self, inputs: int, outputs: int, estimator: "_Recurrent") -> None:
        super().__init__()
        dropout, layers = estimator.dropout, estimator.layers
        self.recurrent = Stack(
            inputs,
            estimator.hidden,
            layers,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=estimator.bidirectional,
            cell_type=cells.by_name(estimator.cell),
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * self.recurrent.output_size, outputs)

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        """B sequences (T, D), to (B, outputs)."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        ragged = bool((lengths != lengths[0]).any())
        h, _ = self.recurrent(pad_sequence(list(sequences)), lengths=lengths if ragged else None)
        last = h[lengths - 1, torch.arange(len(sequences))]
        outputs: Tensor = self.output(self.dropout(torch.cat([h.sum(0) / lengths[:, None], last], 1)))
        return outputs


class _Recurrent(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: the hyperparameters, and the training."""

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        epochs: int = 50,
        batch: int = 32,
        lr: float = 0.01,
        clip: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.cell, self.hidden, self.layers, self.dropout = cell, hidden, layers, dropout
        self.bidirectional, self.epochs, self.batch, self.lr, self.clip = bidirectional, epochs, batch, lr, clip
        self.random_state = random_state

    def _train(self, sequences: Sequence[Tensor], outputs: int, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Fit `model_` to sequences (T, D), by a loss of outputs (B, outputs) and the numbers (B,) of the sequences."""
        name = type(self).__name__
        epochs, batch = check_whole(f"{name}: epochs", self.epochs, 1), check_whole(f"{name}: batch", self.batch, 1)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.model_ = _Network(sequences[0].shape[1], outputs, self)
            optimizer = torch.optim.AdamW(self.model_.parameters(), lr=self.lr, fused=True)
            steps = epochs * -(-len(sequences) // batch)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            self.loss_curve_: list[float] = []
            for epoch in range(1, epochs + 1):
                total = 0.0
                for numbers in torch.randperm(len(sequences)).split(batch):
                    optimizer.zero_grad()
                    mean = loss(self.model_([sequences[i] for i in numbers.tolist()]), numbers)
                    if not mean.isfinite():
                        raise ValueError(f"{name}: the loss is {mean.item()} in epoch {epoch}; pass a lower lr")
                    mean.backward()
                    clip_grad_norm_(self.model_.parameters(), self.clip)
                    optimizer.step()
                    schedule.step()
                    total += mean.item() * len(numbers)
                self.loss_curve_.append(total / len(sequences))
        # In double precision, a prediction does not depend on the sequences beside it.
        self.model_.double().eval()

    def _run(self, sequences: Sequence[Tensor]) -> Array:
        """Outputs of the trained network, (N, outputs)."""
        chunks = [sequences[begin : begin + CHUNK] for begin in range(0, len(sequences), CHUNK)]
        with torch.inference_mode():
            return np.concatenate([self.model_(chunk).numpy() for chunk in chunks])


class _SequenceEstimator(_Recurrent):
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
            self._mean, self._scale = steps.mean(0), _nonzero(steps.std(0))
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
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with labels."""
        arrays = self._read(X, reset=True)
        _, y = check_X_y(np.zeros((len(arrays), 1)), y, estimator=self, dtype=None)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"SequenceClassifier: y: expected two classes at least, got one class, {self.classes_[0]!r}"
            )
        targets = torch.tensor(numbers)
        self._train(
            self._scaled(arrays, torch.float32),
            len(self.classes_),
            lambda outputs, rows: cross_entropy(outputs, targets[rows]),
        )
        return self

    def predict_proba(self, X: Any) -> Array:
        """Predict probabilities of the classes, (N, K)."""
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict(self, X: Any) -> Array:
        """Predict labels, (N,)."""
        outputs = self._outputs(X)
        labels: Array = self.classes_[outputs.argmax(1)]
        return labels


class SequenceRegressor(RegressorMixin, _SequenceEstimator):  # type: ignore[misc]
    """Predict numbers from sequences with a recurrent network, by the squared error.

    Inputs and targets are standardized. Arguments, attributes and X are those of `SequenceClassifier`, except
    `classes_`; y is (N,) or (N, targets).

    >>> X = np.random.default_rng(0).normal(size=(200, 6))
    >>> SequenceRegressor(hidden=16, random_state=0).fit(X, X.sum(1)).score(X, X.sum(1)) > 0.95
    True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on sequences with numbers."""
        arrays = self._read(X, reset=True)
        zeros = np.zeros((len(arrays), 1))
        _, y = check_X_y(zeros, y, estimator=self, dtype=None, multi_output=True, y_numeric=True)
        y = np.asarray(y, np.float64)
        self._target_mean, self._target_scale = y.mean(0), _nonzero(y.std(0))
        scaled = ((y - self._target_mean) / self._target_scale).reshape(len(y), -1)
        targets, self._target_shape = torch.tensor(scaled, dtype=torch.float32), y.shape[1:]
        self._train(
            self._scaled(arrays, torch.float32),
            targets.shape[1],
            lambda outputs, rows: mse_loss(outputs, targets[rows]),
        )
        return self

    def predict(self, X: Any) -> Array:
        """Predict numbers, (N,) or (N, targets)."""
        outputs = self._outputs(X)
        return np.asarray(outputs.reshape(len(outputs), *self._target_shape) * self._target_scale + self._target_mean)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class Forecaster(_Recurrent):
    """Forecast one or several time series, with intervals, by a recurrent network.

    The network reads windows of the series and predicts the next `horizon` values at once, as differences from the
    values one season before, by the pinball loss. All series share its weights.

    Args:
        horizon: steps that can be forecast.
        season: steps after which the series repeats itself; 1: differences are from the last value.
        context: steps that are read; None: twice the larger of season and horizon, at least 8.
        coverage: share of the values that are to be inside the intervals.
        cell, hidden, layers, dropout, epochs, batch, lr, clip, random_state: as for `SequenceClassifier`.

    Attributes:
        model_: the trained network.
        loss_curve_: mean training loss of each epoch.

    >>> tide = 5 + np.sin(np.arange(120) * np.pi / 6)
    >>> model = Forecaster(horizon=12, season=12, hidden=8, epochs=5, random_state=0).fit(tide[:108])
    >>> bool(np.abs(model.predict() - tide[108:]).max() < 0.3)
    True
    >>> model.predict_interval(fh=3).shape
    (3, 2)
    """

    def __init__(
        self,
        horizon: int = 1,
        season: int = 1,
        context: int | None = None,
        coverage: float = 0.8,
        cell: str = "gru",
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 50,
        batch: int = 32,
        lr: float = 0.01,
        clip: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.horizon, self.season, self.context, self.coverage = horizon, season, context, coverage
        self.cell, self.hidden, self.layers, self.dropout = cell, hidden, layers, dropout
        self.epochs, self.batch, self.lr, self.clip, self.random_state = epochs, batch, lr, clip, random_state

    bidirectional = False  # of a context, the end counts

    def fit(self, y: ArrayLike) -> Self:
        """Train on a series (N,), or on several side by side, (N, series)."""
        horizon = check_whole("Forecaster: horizon", self.horizon, 1)
        season = check_whole("Forecaster: season", self.season, 1)
        least = max(2 * max(season, horizon), SHORTEST) if self.context is None else self.context
        self._context = check_whole("Forecaster: context", least, season)
        if not 0 < self.coverage < 1:
            raise ValueError(f"Forecaster: coverage: expected a number between 0 and 1, got {self.coverage!r}")
        values = self._read(y)
        length = self._context + horizon
        if len(values) < length:
            raise ValueError(f"Forecaster: y: expected {length} steps at least, context and horizon; got {len(values)}")
        self._shape = np.shape(y)[1:]
        self._unit = _nonzero(np.abs(values[season:] - values[:-season]).mean(0))
        self._end = values[-self._context :]
        windows = np.lib.stride_tricks.sliding_window_view(values / self._unit, length, axis=0).reshape(-1, length)
        contexts, base = self._encode(windows[:, : self._context])
        targets = torch.tensor(windows[:, self._context :] - base, dtype=torch.float32)
        share = (1 - self.coverage) / 2
        levels = torch.tensor([share, 0.5, 1 - share])

        def pinball(outputs: Tensor, rows: Tensor) -> Tensor:
            above = targets[rows, :, None] - _quantiles(outputs)
            return torch.maximum(levels * above, (levels - 1) * above).mean()

        self._train([context.float() for context in contexts], 3 * horizon, pinball)
        return self

    def predict(self, fh: int | None = None, y: ArrayLike | None = None) -> Array:
        """Forecast the medians of the next values.

        Args:
            fh: steps to forecast; None: `horizon`.
            y: the same series with later values, to forecast what follows them; None: what follows the training data.

        Returns:
            (fh,), or (fh, series) for several series.
        """
        return self._forecast(fh, y)[..., 1]

    def predict_interval(self, fh: int | None = None, y: ArrayLike | None = None) -> Array:
        """Forecast intervals that have the next values inside with the probability `coverage`.

        Args:
            fh: as for `predict`.
            y: as for `predict`.

        Returns:
            Lower and upper bounds, (fh, 2), or (fh, series, 2) for several series.
        """
        return self._forecast(fh, y)[..., [0, 2]]

    def _forecast(self, fh: int | None, y: ArrayLike | None) -> Array:
        check_is_fitted(self)
        steps = check_whole("Forecaster: fh", self.horizon if fh is None else fh, 1)
        if steps > self.horizon:
            raise ValueError(f"Forecaster: fh: expected {self.horizon} steps at most, the horizon; got {steps}")
        end = self._end if y is None else self._read(y)[-self._context :]
        if end.shape != self._end.shape:
            expected = f"{self._context} steps at least of {self._end.shape[1]} series"
            raise ValueError(f"Forecaster: y: expected {expected}, got {end.shape[0]} of {end.shape[1]}")
        contexts, base = self._encode((end / self._unit).T)
        quantiles = _quantiles(torch.from_numpy(self._run(contexts))).numpy() + base[:, :, None]
        forecast = quantiles[:, :steps].transpose(1, 0, 2) * self._unit[:, None]
        return np.asarray(forecast.reshape(steps, *self._shape, 3))

    def _read(self, y: Any) -> Array:
        """Values (N, series)."""
        values = check_array(y, dtype=np.float64, ensure_2d=False, estimator=self, input_name="y")
        return np.asarray(values.reshape(len(values), -1))

    def _encode(self, windows: Array) -> tuple[list[Tensor], Array]:
        """Contexts as the network reads them, (C, 1) from the last value on, and the values a season before, (B, F)."""
        base = windows[:, -self.season + np.arange(self.horizon) % self.season]
        return list(torch.tensor(windows - windows[:, -1:])[:, :, None]), base


def _quantiles(outputs: Tensor) -> Tensor:
    """Outputs (B, 3 * F) as quantiles (B, F, 3), the lowest first."""
    below, median, above = outputs.reshape(len(outputs), -1, 3).unbind(2)
    return torch.stack([median - softplus(below), median, median + softplus(above)], 2)


def _nonzero(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1.0)


def _kind(X: Any) -> str:
    """What X is: "list", a list of arrays, or of lists of different lengths; "array", (N, T, D); or "table"."""
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
