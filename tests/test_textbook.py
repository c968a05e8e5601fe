"""The oracle has an oracle of its own: finite differences."""

from typing import get_args

import numpy as np
import pytest

from elman import textbook
from elman.textbook import ACTIVATIONS, Array, Output, Parameters

T, D, H, O = 5, 3, 4, 2  # noqa: E741
every_kind = pytest.mark.parametrize(("g", "output"), [(g, output) for g in ACTIVATIONS for output in get_args(Output)])


def problem() -> tuple[Parameters, Array, Array]:
    draw = np.random.default_rng(1)
    p = Parameters(*(draw.normal(size=np.shape(w)) for w in textbook.start(D, H, O)))
    return p, draw.normal(size=(T, D)), np.eye(O)[draw.integers(O, size=T)]


def loss(p: Parameters, x: Array, targets: Array, g: str, output: Output) -> float:
    y = textbook.forward(p, x, g, output).y
    return textbook.cross_entropy(y, targets) if output == "softmax" else textbook.mean_squared_error(y, targets)


@every_kind
def test_bptt_is_the_gradient(g: str, output: Output) -> None:
    p, x, targets = problem()
    gradient = textbook.bptt(p, x, targets, g, output)
    eps = 1e-6
    for w, dw in zip(p, gradient, strict=True):
        for index in np.ndindex(w.shape):
            kept = w[index]
            w[index] = kept + eps
            above = loss(p, x, targets, g, output)
            w[index] = kept - eps
            below = loss(p, x, targets, g, output)
            w[index] = kept
            assert dw[index] == pytest.approx((above - below) / (2 * eps), rel=1e-6, abs=1e-9)


@every_kind
def test_the_sum_over_k_equals_the_recursion(g: str, output: Output) -> None:
    p, x, targets = problem()
    fast, slow = (method(p, x, targets, g, output) for method in (textbook.bptt, textbook.bptt_as_sum))
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_losses_are_summed_over_the_sequence_and_averaged_over_its_steps() -> None:
    y = np.array([[0.5, 0.5], [0.25, 0.75]])
    targets = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert textbook.cross_entropy(y, targets) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert textbook.mean_squared_error(y, targets) == pytest.approx((0.5 + 0.125) / 2)


def test_descent_learns_a_line_with_a_linear_output() -> None:
    x = np.linspace(-1, 1, 8)[:, None]
    p = textbook.start(1, 6, 1, seed=3)
    first = textbook.mean_squared_error(textbook.forward(p, x, output="linear").y, 2 * x)
    for _ in range(300):
        p = textbook.descend(p, textbook.bptt(p, x, 2 * x, output="linear"), 0.05)
    assert textbook.mean_squared_error(textbook.forward(p, x, output="linear").y, 2 * x) < 0.01 * first
