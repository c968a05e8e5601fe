"""Confidence intervals of scores, by bootstrap.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 6 and 13. Of large test parts, samples of m of
n units are drawn, whose standard errors are sqrt(n / m) times those of n units (Bickel, Götze and van Zwet 1997).
"""

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

RESAMPLES = 100
MAX_DRAWN = 200  # units in a sample
MIN_UNITS = 10  # below it, a standard error says little
Z = 1.96  # standard errors in half of a 95 % interval


def margins(
    metrics: Callable[[Sequence[int]], dict[str, float]], units: Sequence[Hashable], seed: int = 0
) -> dict[str, float]:
    """Return half the width of the 95 % confidence interval of each metric: 1.96 standard errors.

    Args:
        metrics: computes metrics on examples, by their indices, some of which occur several times.
        units: the unit of each example. Examples of a unit are drawn together, because their errors are alike.
        seed: the random seed.

    Returns:
        The margins by metric; empty for fewer than `MIN_UNITS` units. A metric that is NaN on a sample has none.

    >>> correct = np.array([True] * 90 + [False] * 10)
    >>> accuracy = lambda indices: {"accuracy": float(correct[indices].mean())}
    >>> round(margins(accuracy, range(100))["accuracy"], 3)       # 1.96 * sqrt(0.9 * 0.1 / 100) = 0.059
    0.062
    """
    members: dict[Hashable, list[int]] = {}
    for i, unit in enumerate(units):
        members.setdefault(unit, []).append(i)
    groups = list(members.values())
    n, m = len(groups), min(len(groups), MAX_DRAWN)
    if n < MIN_UNITS:
        return {}
    draws = np.random.default_rng(seed).integers(n, size=(RESAMPLES, m))
    rows = [metrics([i for group in draw for i in groups[group]]) for draw in draws]
    deviations = {name: float(np.std([row[name] for row in rows], ddof=1)) for name in rows[0]}
    return {name: Z * math.sqrt(m / n) * value for name, value in deviations.items() if math.isfinite(value)}
