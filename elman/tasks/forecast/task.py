"""Forecasts of time series with prediction intervals."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from elman.data.examples import Example, is_files
from elman.data.parts import Splits
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.forecast import data as tables
from elman.tasks.forecast import rows
from elman.tasks.forecast.baselines import fit_baselines, load_baselines
from elman.tasks.forecast.data import Series, Window
from elman.tasks.forecast.model import ForecastNetwork, pinball
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.plots import FORECAST
from elman.tasks.forecast.windows import SHARES, ForecastCodec, split_windows, thinned, window_at, windows
from elman.tasks.supervised import Numbers, SupervisedTask
from elman.tasks.task import Loaded

# Defaults that depend on the data.
CONTEXT_SEASONS, CONTEXT_HORIZONS = 7, 2
HORIZON_WITHOUT_SEASON = 6  # steps
MIN_SEASONS = 2  # that the data must have for a season to be assumed
MAX_CONTEXT = 2048  # steps
FAR = 10  # standard deviations from the mean of a covariate in the training
ENDS = "ends.csv"  # in the run folder: the last values of each series


def resolve(
    data: Any, options: ForecastOptions, tell: Callable[[str], Any]
) -> tuple[ForecastOptions, tables.SeriesList]:
    """Decide on step, season, horizon, context, time zone, and the names of columns that have none."""
    asked = options
    options = replace(options, covariates=",".join(rows.listed_names(options.covariates)) or None)
    options, found = rows.rows(data, options)
    clock, how = tables.clock_of(found, options)
    series = tables.SeriesList(tables.even(part, clock) for part in found)
    longest = max(len(part.values) for part in series)
    told = [f"step {clock} ({how})"]
    season, how = clock.seasonal if asked.season is None else (asked.season, "--season")
    if asked.season is None and season * MIN_SEASONS > longest:
        season, how = 1, f"as {longest:,} steps are less than {MIN_SEASONS} times {how}, {season:,} steps"
    told.append(f"season {season:,} ({how})")
    horizon, how = (
        (season, "one season")
        if season > 1
        else (HORIZON_WITHOUT_SEASON, f"{HORIZON_WITHOUT_SEASON}, as there is no season")
    )
    room = longest if options.validation and options.test else int(SHARES["validation"] * longest)
    if asked.horizon is not None:
        horizon, how = asked.horizon, "--horizon"
    elif horizon > room:
        horizon, how = max(room // 2, 1), f"half of a tenth of {longest:,} steps, which is less than {how}"
    told.append(f"horizon {horizon:,} ({how})")
    context, how = max(CONTEXT_SEASONS * season, CONTEXT_HORIZONS * horizon), f"{CONTEXT_SEASONS} seasons"
    if asked.context is not None:
        context, how = asked.context, "--context"
    elif context > MAX_CONTEXT:
        context, how = (
            max(MAX_CONTEXT, CONTEXT_HORIZONS * horizon),
            f"{MAX_CONTEXT:,} steps, or {CONTEXT_HORIZONS} horizons",
        )
    elif context > CONTEXT_SEASONS * season:
        how = f"{CONTEXT_HORIZONS} horizons"
    told.append(f"context {context:,} ({how})")
    zone = found[0].zone
    if zone is not None and zone.name:
        how = "--timezone" if asked.timezone else "of the stamps"
        told.append(f"time zone {zone.name} ({how})")
        if zone.has_rules:  # by which later stamps are read too, though few may not show it
            options = replace(options, timezone=zone.name)
    tell(", ".join(told))
    return replace(options, step=str(clock), season=season, horizon=horizon, context=context), series


def read(data: Any, options: ForecastOptions) -> list[Example]:
    """All windows of series that have known values in context and horizon: of files, a data frame, or read already."""
    found: list[Window] = []
    sizes = options.sizes
    for series in tables.series(data, options):
        need = sizes.least + sizes.horizon
        if len(series.values) < need:
            line = (
                f"series {series.name!r}: expected at least {need} steps, {sizes.least} to read and --horizon "
                f"{sizes.horizon}, got {len(series.values)}"
            )
            if not options.skip_bad:
                raise BadInput(f"{line}; --skip-bad leaves it out")
            note(f"{line}; left out")
        found += windows(series, sizes)
    if not found:
        raise BadInput("forecast: expected values in a context and in the horizon after it, got none together")
    return [Example(window, window, name=str(window)) for window in thinned(found, sizes.season)]


def split(task: SupervisedTask, examples: Sequence[Example], seed: int, parts: Sequence[str]) -> Numbers:
    """Split by time."""
    return split_windows([example.input for example in examples], parts)


def held_out(examples: Iterable[Example], part: str) -> Iterable[Example]:
    """Series in files for a part are not those of the training, whatever their names are."""
    return _with_learned(examples, {})


def match(examples: Sequence[Example], loaded: Loaded) -> Sequence[Example]:
    """A series that agrees with one of the training, where both have values, is that one."""
    learned = tables.from_ends(loaded.run.path / ENDS, loaded.options)
    same, others = dict[Series, str](), dict.fromkeys(example.input.series for example in examples)
    _tell_far(others, loaded)
    for other in others:
        agreeing = sorted((one.name != other.name, one.name) for one in learned if other.agrees(one))
        if agreeing:
            same[other] = agreeing[0][1]
    return list(_with_learned(examples, same))


def ends(splits: Splits, options: ForecastOptions) -> dict[str, str]:
    """The last values of each series of the training, to forecast from; not of files for a part alone."""
    series = (example.input.series for part in splits for example in part)
    learned = dict.fromkeys(one for one in series if one.learned)
    return {ENDS: tables.ends(list(learned), options)}


def collect_inputs(loaded: Loaded, values: Any) -> list[Series]:
    """The series in tables; None: those of the training."""
    if values is None:
        return tables.from_ends(loaded.run.path / ENDS, loaded.options)
    if isinstance(values, list | tuple) and all(isinstance(value, str | Path) for value in values):
        values = [Path(value) for value in values]
    series: list[Series] = tables.series(values, loaded.options)
    by_file = len(loaded.run.config["data"].get("files") or ()) > 1 and not loaded.options.series
    if by_file and is_files(values) and len(values) == 1:  # series are told apart by their files
        series = [replace(one, name=values[0].stem) for one in series]
    _tell_far(series, loaded)
    return series


def parse_input(value: Series, options: ForecastOptions) -> Example:
    """The window after the end of a series."""
    N, sizes = len(value.values), options.sizes
    if sizes.least > N:
        raise BadInput(f"series {value.name!r}: expected at least {sizes.least} steps to read, got {N}")
    return Example(window_at(value, N, sizes), name=value.name)


def metrics(codec: ForecastCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """MASE (Hyndman and Koehler 2006), sMAPE in percent, the pinball loss in units of the series, and the share of
    values between the lowest and the highest quantile.
    """
    y, q = np.stack([window.future for window in targets]), np.stack(predictions)
    known = ~np.isnan(y)
    unit = np.array([codec.scale(window.series) for window in targets])[:, None]
    low, median, high = q.transpose(2, 0, 1)
    error, size = np.abs(y - median), np.abs(y) + np.abs(median)
    loss = pinball(torch.from_numpy(q), torch.from_numpy(y)).numpy() / unit
    return {
        "mase": float((error / unit)[known].mean()),
        "smape": float((200 * error / np.where(size > 0, size, 1))[known].mean()),
        "scaled_pinball": float(loss[known].mean()),
        "coverage": float(((low <= y) & (y <= high))[known].mean()),
    }


def _tell_far(found: Iterable[Series], loaded: Loaded) -> None:
    """Covariates that are far from those of the training, as in another unit: the network reads them in its units."""
    codec: ForecastCodec = loaded.codec
    names = rows.listed_names(loaded.options.covariates)
    for series in found:
        for k, (name, mean, spread) in enumerate(zip(names, codec.means, codec.spreads, strict=True)):
            values = series.covariates[:, k]
            values = values[~np.isnan(values)]
            if len(values) and abs(values.mean() - mean) > FAR * spread:
                note(
                    f"{series.name}: {name} is {values.mean():.4g} on average, and was {mean:.4g} with a deviation of "
                    f"{spread:.4g} in the training; forecasts may be wrong if its unit is another one"
                )


def _with_learned(examples: Iterable[Example], learned: dict[Series, str]) -> Iterator[Example]:
    """Examples of series that have these names in a training, and of others, which are not of it."""
    made: dict[Series, Series] = {}
    for example in examples:
        old = example.input.series
        if old not in made:
            made[old] = replace(old, learned=learned.get(old))
        window = replace(example.input, series=made[old])
        yield example._replace(input=window, target=window)


TASK = SupervisedTask(
    name="forecast",
    description="a forecaster",
    options=ForecastOptions,
    resolve=resolve,
    read=read,
    store=list,  # a window is a view of its series, which is in memory as a whole
    split=split,
    held_out=held_out,
    match=match,
    extra_files=ends,
    collect_inputs=collect_inputs,
    parse_input=parse_input,
    codec=ForecastCodec,
    model=ForecastNetwork,
    unit="windows",
    loss="scaled_pinball",
    metrics=metrics,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    plots=(FORECAST,),
    has_duplicates=False,  # windows of other data are other ones
    option_units={"season": "steps", "horizon": "steps", "context": "steps"},
    next_step="to see what comes next: elman predict {run}",
)
