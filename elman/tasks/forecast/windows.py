"""Windows of time series, and their split by time."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from elman.errors import BadInput
from elman.tasks.forecast.data import Series, Window
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import Sizes

SHARES = {"validation": 0.1, "test": 0.2}  # of the time, from its end; the rest is the training part
MAX_WINDOWS = 50_000  # above it, only every n-th window is used


def window_at(series: Series, origin: int, sizes: Sizes) -> Window:
    """Return the window whose horizon begins at a step."""
    return Window(series, max(0, origin - sizes.past), origin, sizes.horizon)


def origins_of(series: Series, sizes: Sizes) -> NDArray[np.int64]:
    """Return the steps at which the horizon of a window can begin: with known values in context and horizon."""
    N, known = len(series.values), np.concatenate(([0], np.cumsum(~np.isnan(series.values))))
    origins = np.arange(sizes.first_origin(N), N - sizes.horizon + 1)
    has_past = known[origins] > known[np.maximum(origins - sizes.context, 0)]
    return np.asarray(origins[has_past & (known[origins + sizes.horizon] > known[origins])])


def find_windows(all_series: Sequence[Series], sizes: Sizes) -> list[Window]:
    """Return windows of series: all, or about `MAX_WINDOWS`, evenly spaced, that begin at all places in the season."""
    origins = [origins_of(series, sizes) for series in all_series]
    every = -(-sum(map(len, origins)) // MAX_WINDOWS)
    while every > 1 and math.gcd(every, sizes.season) > 1:
        every += 1
    windows, seen = list[Window](), 0
    for series, steps in zip(all_series, origins, strict=True):
        windows += [window_at(series, int(step), sizes) for step in steps[-seen % max(every, 1) :: max(every, 1)]]
        seen += len(steps)
    return windows


def split_windows(windows: Sequence[Window], names: Sequence[str]) -> dict[str, list[int]]:
    """Split windows by time. No horizon reaches into the time of the next part.

    Time stamps that are numbers are those of each series itself: then the parts are counted from the end of each
    series, and have at least the horizon.

    Args:
        windows: all windows.
        names: parts to take from the end of the time, after the training part.

    Returns:
        The indices of the windows of each part.
    """
    series = list({id(window.series): window.series for window in windows}.values())
    parts = ["train", *names]
    cuts = _cuts(series, windows[0].horizon, names)
    numbers: dict[str, list[int]] = {name: [] for name in parts}
    for i, window in enumerate(windows):
        begin, end = window.series.moments(window.origin, window.origin + window.horizon)[[0, -1]]
        bounds = cuts[id(window.series)]
        at = int(np.searchsorted(bounds, begin, "right"))
        if end < bounds[at]:
            numbers[parts[at]].append(i)
    for name in parts:
        if not numbers[name]:
            longest = max(len(s.values) for s in series)
            raise BadInput(
                f"forecast: expected each part to be long enough for --horizon {windows[0].horizon}, got a {name} part "
                f"that is too short; the longest series has {longest} steps; add data, or pass a smaller --horizon or "
                "--season"
            )
    return numbers


def training_values(all_series: Sequence[Series], horizon: int, names: Sequence[str]) -> list[Values]:
    """Return the values of each series in the training part, before those of the named parts."""
    cuts = _cuts(all_series, horizon, names)
    moments = (series.moments(0, len(series.values)) for series in all_series)
    ends = [np.searchsorted(m, cuts[id(series)][0]) for m, series in zip(moments, all_series, strict=True)]
    return [series.values[:end] for series, end in zip(all_series, ends, strict=True)]


def rolling_origins(
    all_series: Sequence[Series], sizes: Sizes, stride: int, count: int | None
) -> list[dict[Series, int]]:
    """Return the cutoffs of a backtest, the earliest first: for each series the step at which its horizon begins.

    The last horizon ends with the data. A cutoff is the same moment in all series; where time stamps are numbers, it is
    as many steps before the end of each. Series without known values in context or horizon are left out of it.

    Args:
        all_series: the series.
        sizes: sizes of windows.
        stride: steps from one cutoff to the next.
        count: number of cutoffs; None: all whose horizon lies in the time of the test part.

    Raises:
        BadInput: if there are not so many, or none.
    """
    has_moments = bool(all_series[0].grid.clock.unit)
    cuts = _cuts(all_series, sizes.horizon, list(SHARES))
    usable = {series: set(origins_of(series, sizes).tolist()) for series in all_series}
    last = max(all_series, key=lambda series: int(series.moments(len(series.values) - 1, len(series.values))[0]))
    length = len(last.values) if has_moments else max(len(series.values) for series in all_series)
    cutoffs = list[dict[Series, int]]()
    for before_end in range(sizes.horizon, length, stride):
        if len(cutoffs) == count:
            break
        moment = last.moments(length - before_end, length - before_end + 1)[0] if has_moments else 0
        origins = {
            series: int(np.searchsorted(series.moments(0, len(series.values)), moment))
            if has_moments
            else len(series.values) - before_end
            for series in all_series
        }
        if count is None:
            in_test = {s: step for s, step in origins.items() if 0 <= step < len(s.values) and _is_test(s, step, cuts)}
            if not in_test:
                break
            origins = in_test
        if usable_origins := {series: step for series, step in origins.items() if step in usable[series]}:
            cutoffs.insert(0, usable_origins)
    if len(cutoffs) < (count or 1):
        raise BadInput(
            f"--windows: expected at most {len(cutoffs):,} for this data with --stride {stride} and --horizon "
            f"{sizes.horizon}, got {count or 1:,}; add data, or pass a smaller --stride"
        )
    return cutoffs


def _is_test(series: Series, step: int, cuts: Mapping[int, Sequence[int]]) -> bool:
    return bool(series.moments(step, step + 1)[0] >= cuts[id(series)][-2])


def _cuts(all_series: Sequence[Series], horizon: int, names: Sequence[str]) -> Mapping[int, Sequence[int]]:
    """Return for each series, by its id, the time of the end of each part.

    Where time stamps are numbers, parts are counted from the end of each series, and have at least the horizon.
    """
    if not all_series[0].grid.clock.unit:
        return _cuts_of_series(all_series, horizon, names)
    known = [series.moments(0, len(series.values))[~np.isnan(series.values)] for series in all_series]
    time = np.sort(np.concatenate(known))
    cuts, share = [int(time[-1]) + 1], 1.0
    for name in reversed(names):
        share -= SHARES[name]
        cuts.insert(0, int(time[int(share * len(time))]))
    return dict.fromkeys(map(id, all_series), cuts)


def _cuts_of_series(all_series: Sequence[Series], horizon: int, names: Sequence[str]) -> Mapping[int, Sequence[int]]:
    """Return for each series, by its id, the time of the end of each part, counted from the end of the series."""
    cuts = {}
    for series in all_series:
        ends = [len(series.values)]
        for name in reversed(names):
            ends.insert(0, ends[0] - max(horizon, round(SHARES[name] * len(series.values))))
        moments = series.moments(min(ends[0], 0), ends[-1] + 1)
        cuts[id(series)] = [int(moments[end - min(ends[0], 0)]) for end in ends]
    return cuts
