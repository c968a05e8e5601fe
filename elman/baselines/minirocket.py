"""MiniRocket of the package aeon with a ridge regression of its features: a baseline of series.

A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
classification", KDD 2021.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from elman.extras import needs

MIN_STEPS = 9  # the length of the kernels
ALPHAS = np.logspace(-3, 3, 10)
Parameters = tuple[NDArray[Any], ...]


def package() -> Any:
    """Import the transform, which takes seconds.

    Raises:
        MissingPackage: without aeon.
    """
    with needs("aeon", "--minirocket"):
        from aeon.transformations.collection.convolution_based import MiniRocket
    return MiniRocket


def fit_kernels(X: NDArray[Any], seed: int) -> Parameters:
    """Fit the dilations and biases of the kernels to series (N, C, T), and return them for `features`."""
    parameters: Parameters = package()(random_state=seed).fit(X).parameters
    return parameters


def features(parameters: Parameters, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the features of series (N, C, T), (N, D)."""
    transform = package()().fit(np.zeros((1, *X.shape[1:]), np.float32))  # for its shapes
    transform.parameters = parameters
    result: NDArray[np.float64] = transform.transform(X).astype(np.float64)
    return result


class Ridge(NamedTuple):
    """A ridge regression, whose regularization has the lowest leave-one-out error.

    weights, intercept: (K, D) and (K,).
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]

    @classmethod
    def fit(cls, X: NDArray[np.float64], Y: NDArray[np.float64]) -> "tuple[Ridge, NDArray[np.float64]]":
        """Fit to features (N, D) and targets (N, K); also return each target as predicted without its own row."""
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
