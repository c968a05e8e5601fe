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
NONE_SEEN = 3.0  # of n examples, none of which has an error, so many may have one, at 95 % (the rule of three)


def margins(
    metrics: Callable[[Sequence[int]], dict[str, float]], units: Sequence[Hashable], seed: int = 0
) -> dict[str, float]:
    """Return half the width of the 95 % confidence interval of each metric: 1.96 standard errors.

    A metric that is 0 on all samples, or 1, has no error: a bootstrap knows nothing of errors that did not occur. Then
    it is the largest share of errors that agrees with none in n examples, 3 / n.

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
    result = {}
    for name, first in rows[0].items():
        deviation = float(np.std([row[name] for row in rows], ddof=1))
        if deviation == 0 and first in (0.0, 1.0):
            result[name] = NONE_SEEN / len(units)
        elif math.isfinite(deviation):
            result[name] = Z * math.sqrt(m / n) * deviation
    return result
