"""Cells over time in NumPy, forward and backward by hand: what the package is held against."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Weights(NamedTuple):
    """Of one layer, or the gradient of each: G gates stacked, as in torch.nn."""

    W_ih: Array  # (G*H, D)
    W_hh: Array  # (G*H, H)
    b_ih: Array  # (G*H,)
    b_hh: Array  # (G*H,)


class Gradients(NamedTuple):
    x: Array  # (T, B, D)
    states: tuple[Array, ...]  # h_0, or h_0 and c_0, each (B, H)
    weights: Weights


class Answer(NamedTuple):
    outputs: Array  # (T, B, H)
    final: tuple[Array, ...]  # h_T, or h_T and c_T, each (B, H)
    gradients: Gradients


# (weights, x, initial states, cotangent of the outputs, cotangents of the final states)
Oracle = Callable[[Weights, Array, tuple[Array, ...], Array, tuple[Array, ...]], Answer]


def sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))
