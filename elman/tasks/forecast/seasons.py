"""The seasons of time series: from the calendar, or found in the values."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elman.data.time_index.clock import TimeStep
from elman.tasks.forecast.numerals import Values

MAX_LAG = 400  # steps of a season that is found in values
MIN_REPEATS = 3  # times that a season must fit into a series to be found in it
MIN_CORRELATION = 0.15  # of changes with those one season before
DEVIATIONS = 4  # the same, in standard deviations of the correlation of independent changes
MIN_OF_HIGHEST = 0.8  # the correlation of a season, as a share of the highest
MAX_SERIES = 200  # that are looked at, evenly spaced
MAX_SECOND = 2048  # steps of a second season of the calendar
MIN_SHARE = 0.2  # of the series that must have a second season of the calendar
MAX_RATIO = 0.9  # of differences one second season apart to differences half of it apart


def found_seasons(all_values: Sequence[Values], clock: TimeStep) -> list[tuple[int, str]]:
    """Return the seasons of series, (N,) each, in steps, and where they come from.

    The shorter is the first; it is 1 if there is none. Those of time stamps are a calendar's: an hour, a day, a week, a
    year. A second one is left out if values that are one of it apart do not differ less than others. Where time stamps
    are numbers, seasons are found in the values, by the autocorrelation of their changes.
    """
    values = all_values[:: -(-len(all_values) // MAX_SERIES)]
    if not clock.unit:
        lags = found_lags(values)
        why = "found by the autocorrelation of the changes"
        return [(lag, why) for lag in lags] or [clock.seasonal]
    first, second = clock.seasonal, clock.second_seasonal
    can_repeat = first[0] < second[0] <= MAX_SECOND
    return [first, second] if can_repeat and _repeats(values, first[0], second[0]) else [first]


def found_lags(values: Sequence[Values]) -> list[int]:
    """Return at most two seasons of series, (N,) each, the shorter first.

    The changes from step to step are correlated with those of earlier steps. A season is the smallest lag with a local
    maximum near the largest of all; a second season is a multiple of it with a correlation larger than that of its
    neighbors, if values that far apart differ less than others.

    >>> tides = np.sin(np.arange(200) * np.pi / 6) + 0.01 * np.arange(200)
    >>> found_lags([tides]), found_lags([np.random.default_rng(0).normal(size=200).cumsum()])
    ([12], [])
    """
    correlation = _mean_correlation(values)
    threshold = max(MIN_CORRELATION, DEVIATIONS / np.sqrt(max(sum(map(len, values)), 1)))
    peaks = [lag for lag in _maxima(correlation) if correlation[lag] > threshold]
    if not peaks:
        return []
    first = next(lag for lag in peaks if correlation[lag] >= MIN_OF_HIGHEST * correlation[peaks].max())
    multiples = correlation[::first]
    longer = [k * first for k in _maxima(multiples) if k > 1 and multiples[k] > threshold]
    highest = max((correlation[lag] for lag in longer), default=0.0)
    second = next((lag for lag in longer if correlation[lag] >= MIN_OF_HIGHEST * highest), 0)
    return [first, second] if second and _repeats(values, first, second) else [first]


def _maxima(values: NDArray[np.float64]) -> list[int]:
    """Return the places of the local maxima of values."""
    inner = values[1:-1]
    return (np.flatnonzero((inner >= values[:-2]) & (inner > values[2:])) + 1).tolist()


def _mean_correlation(values: Sequence[Values]) -> NDArray[np.float64]:
    """Return the mean autocorrelation of changes at lags 0, 1, ..., over the series that are long enough for each."""
    sums, counts = np.zeros((2, MAX_LAG + 2))
    for series in values:
        changes = np.diff(series)
        known = ~np.isnan(changes)
        changes = np.where(known, changes - changes[known].mean(), 0) if known.any() else np.zeros(0)
        count = min(len(series) // MIN_REPEATS + 2, MAX_LAG + 2, len(changes))
        power = float(changes @ changes)
        if power == 0 or not np.isfinite(power):
            continue
        size = 1 << (2 * len(changes) - 1).bit_length()
        products = np.fft.irfft(np.abs(np.fft.rfft(changes, size)) ** 2, size)[:count]
        sums[:count] += products / power * len(changes) / (len(changes) - np.arange(count))
        counts[:count] += 1
    enough = counts >= max(counts.max() / 2, 1)  # a season that only the longest series could have is none of all
    return np.where(enough, sums / np.maximum(counts, 1), 0)


def _repeats(values: Sequence[Values], first: int, second: int) -> bool:
    """Return whether values one second season apart differ less than those half of it apart, in some of the series."""
    half = max(round(second / 2 / first), 1) * first
    long = [series for series in values if len(series) >= 2 * second]
    repeated = [_difference(series, second) < MAX_RATIO * _difference(series, half) for series in long]
    return bool(repeated) and float(np.mean(repeated)) >= MIN_SHARE


def _difference(values: Values, lag: int) -> float:
    differences = np.abs(values[lag:] - values[:-lag])
    known = differences[~np.isnan(differences)]
    return float(known.mean()) if len(known) else 0.0
