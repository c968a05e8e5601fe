"""Baselines of series: the nearest series by dynamic time warping, a linear model of statistics, and MiniRocket."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from elman.baselines import linear, minirocket
from elman.baselines.dtw import distances
from elman.baselines.linear import Ridge
from elman.data.disk_list import Subset
from elman.data.examples import Example
from elman.tasks.classification import Feedforward
from elman.tasks.series.codec import SeriesCodec, averaged
from elman.tasks.series.model import QUANTILES
from elman.tasks.supervised import Baseline, sample_note

MAX_TEMPLATES = 1000  # fewer if series are long
MAX_WARPED_STEPS = 128  # longer series are averaged
MAX_STEP_PAIRS = 4_000_000  # for each query: about 0.05 seconds
MAX_LEFT_OUT = 100  # templates that are predicted from the others, to know how often the nearest is right
MAX_ROCKET_STEPS = 1024
ROCKET = "minirocket"
LOGISTIC = "logistic regression on statistics"
RIDGE = "ridge regression on statistics"


class NearestSeries(Baseline):
    """The label or number of the nearest training series by dynamic time warping.

    Args:
        codec: the fitted codec.
        templates: channels of N series, (T, C) each.
        targets: the label number or number of each, (N,).
        spread: how often the label is right for templates that are left out; or the quantiles of their errors.
        total: number of series that the templates were drawn from.
    """

    def __init__(
        self, codec: SeriesCodec, templates: Sequence[Any], targets: NDArray[Any], spread: NDArray[Any], total: int
    ) -> None:
        self._codec, self._templates, self._targets, self._spread = codec, list(templates), targets, spread
        self._total = total
        self.title = "1-NN DTW" + sample_note(len(templates) if len(templates) < total else 0, "series")

    @classmethod
    def fit(cls, codec: SeriesCodec, train: Sequence[Example]) -> "NearestSeries":
        """Take templates from the training part, evenly spaced if there are too many."""
        longest = min(max(len(example.input) for example in train), MAX_WARPED_STEPS)
        count = max(2, min(len(train), MAX_TEMPLATES, MAX_STEP_PAIRS // longest**2))
        numbers = np.linspace(0, len(train) - 1, min(count, len(train))).round().astype(int)
        if codec.labels and len(numbers) < len(train):
            y = np.array([codec.label[example.target] for example in train])
            numbers = linear.sample_each_label(y, count)
        chosen = Subset(train, numbers)
        targets = np.array([codec.label[e.target] if codec.labels else e.target for e in chosen], np.float64)
        nearest = cls(codec, [_steps(codec, e) for e in chosen], targets, np.zeros(1), len(train))
        nearest._spread = nearest._left_out()
        return nearest

    def _left_out(self) -> NDArray[np.float64]:
        """Predict some templates from all others; return how often the label is right, or quantiles of the errors."""
        N = len(self._templates)
        errors = list[float]()
        for i in np.linspace(0, N - 1, min(N, MAX_LEFT_OUT)).round().astype(int).tolist():
            far = distances(self._templates[i], self._templates)
            far[i] = np.inf
            errors.append(self._targets[i] - self._targets[far.argmin()])
        if self._codec.labels:
            return np.array([(errors.count(0.0) + 1) / (len(errors) + 2)])
        return np.quantile(errors, (QUANTILES[0], QUANTILES[-1]))

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        near = (distances(_steps(self._codec, example), self._templates).argmin() for example in examples)
        return [self._of(self._targets[i]) for i in near]

    def _of(self, target: float) -> NDArray[np.float64]:
        if not self._codec.labels:
            return target + _interval(self._spread)
        return _certain(int(target), float(self._spread[0]), len(self._codec.labels))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "dtw/templates": torch.from_numpy(np.concatenate(self._templates)),
            "dtw/lengths": torch.tensor([len(steps) for steps in self._templates]),
            "dtw/targets": torch.from_numpy(self._targets),
            "dtw/spread": torch.from_numpy(self._spread),
            "dtw/total": torch.tensor(self._total),
        }

    @classmethod
    def load(cls, codec: SeriesCodec, tensors: Mapping[str, torch.Tensor]) -> "NearestSeries":
        """Load the baseline from its tensors.

        Raises:
            ValueError: for tensors that do not fit each other or the codec.
        """
        steps, lengths, targets, spread = (
            tensors[f"dtw/{name}"] for name in ("templates", "lengths", "targets", "spread")
        )
        sizes = (steps.shape[1:], targets.shape, tuple(spread.shape))
        if sizes != ((len(codec.mean),), lengths.shape, (1 if codec.labels else 2,)) or not len(lengths):
            raise ValueError("templates, targets or deviations of another size than the codec has")
        templates = [part.numpy() for part in steps.split(lengths.tolist())]
        return cls(codec, templates, targets.numpy(), spread.numpy(), int(tensors["dtw/total"]))


def _certain(label: int, right: float, K: int) -> NDArray[np.float64]:
    """Return probabilities of K labels for a prediction that is right with this probability."""
    right = max(right, 1 / K)
    P = np.full(K, (1 - right) / (K - 1))
    P[label] = right
    return P


def _interval(errors: NDArray[Any]) -> NDArray[np.float64]:
    """Return what to add to a median for the quantiles of an interval, (3,), from the quantiles of errors, (2,)."""
    return np.array([min(errors[0], 0.0), 0.0, max(errors[1], 0.0)])


def _steps(codec: SeriesCodec, example: Example) -> NDArray[np.float32]:
    """Return the channels of a series, scaled as for the model, at most `MAX_WARPED_STEPS` steps, (T, C)."""
    C = len(codec.mean)
    x = codec.steps(example)[:, :C]
    return np.ascontiguousarray(averaged(x, -(-len(x) // MAX_WARPED_STEPS)), np.float32)


class StatisticsRegression(Baseline):
    """A ridge regression on statistics of the channels, with an interval by its leave-one-out errors.

    Args:
        codec: the fitted codec.
        ridge: the regression of the number.
        spread: as for `NearestSeries`, over the training series that are left out.
    """

    title = RIDGE

    def __init__(self, codec: SeriesCodec, ridge: Ridge, spread: NDArray[Any]) -> None:
        self._codec, self._ridge, self._spread = codec, ridge, spread

    @classmethod
    def fit(cls, codec: SeriesCodec, train: Sequence[Example]) -> "StatisticsRegression":
        """Fit on the training part."""
        return cls(codec, *_fit_ridge(codec.features(train), train))

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        return list(self._ridge.predict(self._codec.features(examples)) + _interval(self._spread))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        return {f"{RIDGE}/{i}": torch.from_numpy(array) for i, array in enumerate((*self._ridge, self._spread))}

    @classmethod
    def load(cls, codec: SeriesCodec, tensors: Mapping[str, torch.Tensor]) -> "StatisticsRegression":
        """Load the baseline from its tensors.

        Raises:
            ValueError: for tensors that do not fit the codec.
        """
        weights, intercept, spread = (tensors[f"{RIDGE}/{i}"].numpy() for i in range(3))
        if (weights.shape, intercept.shape, spread.shape) != ((1, codec.feature_count), (1,), (2,)):
            raise ValueError(f"{RIDGE} of another size than the codec has")
        return cls(codec, Ridge(weights, intercept), spread)


def _fit_ridge(F: NDArray[np.float64], examples: Sequence[Example]) -> tuple[Ridge, NDArray[np.float64]]:
    """Fit a ridge regression of the numbers of series to features, (N, D); also return the quantiles of its errors."""
    Y = np.array([[example.target] for example in examples])
    ridge, left_out = Ridge.fit(F, Y)
    return ridge, np.quantile(Y - left_out, (QUANTILES[0], QUANTILES[-1]))


class MiniRocketRidge(Baseline):
    """A ridge regression of the features of MiniRocket.

    Args:
        codec: the fitted codec.
        kernels: dilations and biases of the kernels.
        steps: T, to which series are stretched.
        ridge: the regression: of the labels, each 0 or 1, or of the number.
        spread: as for `NearestSeries`, over the training series that are left out.
    """

    title = "MiniRocket"

    def __init__(
        self, codec: SeriesCodec, kernels: minirocket.Parameters, steps: int, ridge: Ridge, spread: NDArray[Any]
    ) -> None:
        self._codec, self._kernels, self._steps, self._ridge, self._spread = codec, kernels, steps, ridge, spread

    @classmethod
    def fit(cls, codec: SeriesCodec, train: Sequence[Example], seed: int) -> "MiniRocketRidge":
        """Fit on the training part."""
        longest = max(len(codec.steps(example)) for example in train)
        steps = min(max(longest, minirocket.MIN_STEPS), MAX_ROCKET_STEPS)
        X = _stretched(codec, train, steps)
        kernels = minirocket.fit_kernels(X, seed)
        F = minirocket.features(kernels, X)
        if not codec.labels:
            return cls(codec, kernels, steps, *_fit_ridge(F, train))
        numbers = np.array([codec.label[example.target] for example in train])
        ridge, left_out = Ridge.fit(F, np.eye(len(codec.labels))[numbers])
        right = (left_out.argmax(1) == numbers).sum()
        return cls(codec, kernels, steps, ridge, np.array([(right + 1) / (len(numbers) + 2)]))

    @override
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        Y = self._ridge.predict(minirocket.features(self._kernels, _stretched(self._codec, examples, self._steps)))
        if self._codec.labels:
            return [_certain(label, float(self._spread[0]), Y.shape[1]) for label in Y.argmax(1).tolist()]
        return list(Y + _interval(self._spread))

    @override
    def tensors(self) -> dict[str, torch.Tensor]:
        arrays = (*self._ridge, self._spread, *self._kernels)
        return {f"{ROCKET}/{i}": torch.from_numpy(array) for i, array in enumerate(arrays)} | {
            f"{ROCKET}/steps": torch.tensor(self._steps)
        }

    @classmethod
    def load(cls, codec: SeriesCodec, tensors: Mapping[str, torch.Tensor]) -> "MiniRocketRidge":
        """Load the baseline from its tensors.

        Raises:
            ValueError: for tensors that do not fit each other or the codec.
            MissingPackage: without aeon.
        """
        minirocket.package()
        weights, intercept, spread, *kernels = (tensors[f"{ROCKET}/{i}"].numpy() for i in range(8))
        steps = int(tensors[f"{ROCKET}/steps"])
        K = len(codec.labels) or 1
        sizes = (weights.shape, intercept.shape, spread.shape)
        if sizes != ((K, len(kernels[-1])), (K,), (1 if codec.labels else 2,)) or steps < minirocket.MIN_STEPS:
            raise ValueError(f"{ROCKET} of another size than the codec has")
        return cls(codec, tuple(kernels), steps, Ridge(weights, intercept), spread)


def _stretched(codec: SeriesCodec, examples: Sequence[Example], steps: int) -> NDArray[np.float32]:
    """Return the channels of series, scaled as for the model, and interpolated to so many steps, (N, C, T)."""
    C, at = len(codec.mean), np.linspace(0, 1, steps)
    X = np.empty((len(examples), C, steps), np.float32)
    for i, example in enumerate(examples):
        x = codec.steps(example)[:, :C]
        X[i] = [np.interp(at, np.linspace(0, 1, len(x)), channel) for channel in x.T]
    return X


def fit_baselines(codec: SeriesCodec, train: Sequence[Example], options: Any, seed: int) -> list[Baseline]:
    """Fit the nearest neighbour by dynamic time warping, a linear model of statistics and, as an option, MiniRocket."""
    baselines: list[Baseline] = [NearestSeries.fit(codec, train)]
    if options.minirocket:
        baselines.append(MiniRocketRidge.fit(codec, train, seed))
    if not codec.labels:
        return [*baselines, StatisticsRegression.fit(codec, train)]
    y = np.array([codec.label[example.target] for example in train])
    X = codec.features(train)
    return [*baselines, Feedforward(LOGISTIC, codec, linear.logistic(X, y))]


def load_baselines(codec: SeriesCodec, tensors: Mapping[str, torch.Tensor]) -> list[Baseline]:
    """Load the baselines from their tensors."""
    baselines: list[Baseline] = [NearestSeries.load(codec, tensors)]
    if f"{ROCKET}/steps" in tensors:
        baselines.append(MiniRocketRidge.load(codec, tensors))
    if not codec.labels:
        return [*baselines, StatisticsRegression.load(codec, tensors)]
    arrays = [tensors[f"{LOGISTIC}/{i}"].numpy() for i in (0, 1)]
    try:
        layers = linear.from_arrays(arrays, codec.feature_count, len(codec.labels))
        return [*baselines, Feedforward(LOGISTIC, codec, layers)]
    except ValueError as error:
        raise ValueError(f"{LOGISTIC} with {error}") from None
