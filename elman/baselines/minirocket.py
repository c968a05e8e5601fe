"""MiniRocket of the package aeon, whose features a ridge regression maps to labels or numbers of series.

A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
classification", KDD 2021.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from elman.extras import needs

MIN_STEPS = 9  # the length of the kernels
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
