"""Time series forecasting with prediction intervals."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import nn
from typing_extensions import override

from elman.data.examples import Example, is_files
from elman.data.parts import Splits
from elman.data.time_index.zone import DAY
from elman.errors import BadInput
from elman.io.format import counted
from elman.io.run_folder import Run
from elman.io.terminal import note
from elman.report.shown import Scores
from elman.tasks.backtest import Backtest
from elman.tasks.backtest_options import BacktestOptions
from elman.tasks.forecast import data as tables
from elman.tasks.forecast import holidays, rows
from elman.tasks.forecast.backtest import run_backtest
from elman.tasks.forecast.baselines import fit_baselines, load_baselines
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Series
from elman.tasks.forecast.export import export
from elman.tasks.forecast.model import ForecastNetwork
from elman.tasks.forecast.options import COVARIATES, ForecastOptions, joined_names, levels_of
from elman.tasks.forecast.paths import PATHS, PathCodec, fit_templates, load_templates
from elman.tasks.forecast.plots import PLOTS
from elman.tasks.forecast.scores import Observed, forecast_scores
from elman.tasks.forecast.seasons import found_seasons
from elman.tasks.forecast.windows import SHARES, find_windows, split_windows, training_values, window_at
from elman.tasks.supervised import Numbers, SupervisedTask
from elman.tasks.task import Input, Loaded, PreparedData, parts_in
from elman.training.devices import device_of, to_device

# Defaults that depend on the data.
CONTEXT_SEASONS, CONTEXT_HORIZONS = 3, 2
HORIZON_WITHOUT_SEASON = 6  # steps
MIN_SEASONS = 2  # of data, for a season to be assumed
MAX_CONTEXT = 2048  # steps
MIN_RESAMPLED_SERIES = 30  # above it, confidence intervals are those of other series
MAX_COVARIATE_DEVIATION = 10  # of a mean from that of the training, in standard deviations
ENDS = "ends.csv"  # the file in the run folder with the last values of each series


def resolve(
    data: Any, options: ForecastOptions, tell: Callable[[str], Any]
) -> tuple[ForecastOptions, tables.SeriesList]:
    """Decide the time step, season, horizon, context, time zone, and the names of unnamed columns."""
    given_options = options
    names = {name: joined_names(rows.listed_names(options, name)) or None for name in COVARIATES}
    options = options.model_copy(update=names)
    options, all_rows = rows.read_rows(data, options)
    clock, reason = tables.clock_of(all_rows, options)
    series = tables.SeriesList(tables.resample(rows_of_series, clock) for rows_of_series in all_rows)
    longest = max(len(rows_of_series.values) for rows_of_series in series)
    decisions = [f"step {clock} ({reason})"]
    named = parts_in(options)
    drawn = [part for part in SHARES if part not in named]  # the test part has no say in the seasons
    seasons = found_seasons(training_values(series, given_options.horizon or 1, drawn), clock)
    season, reason = seasons[0] if given_options.season is None else (given_options.season, "--season")
    if given_options.season is None and season * MIN_SEASONS > longest:
        season, reason = 1, f"{longest:,} steps are fewer than {MIN_SEASONS} seasons of {season:,}, {reason}"
    decisions.append(f"season {season:,} ({reason})")
    second, reason = next(((n, why) for n, why in seasons[1:] if n > season and n * MIN_SEASONS <= longest), (0, ""))
    if given_options.second_season is not None:
        second, reason = given_options.second_season, "--second-season"
        if second and second <= season:
            raise BadInput(f"--second-season: expected more than {season:,} steps, the season, got {second:,}")
    if second:
        decisions.append(f"second season {second:,} ({reason})")
    horizon, reason = (
        (season, "one season")
        if season > 1
        else (HORIZON_WITHOUT_SEASON, f"{HORIZON_WITHOUT_SEASON}, because there is no season")
    )
    max_horizon = longest if not drawn else int(SHARES["validation"] * longest)
    if given_options.horizon is not None:
        horizon, reason = given_options.horizon, "--horizon"
    elif horizon > max_horizon:
        horizon, reason = max(max_horizon // 2, 1), f"half of the longest possible horizon, {max_horizon:,} steps"
    decisions.append(f"horizon {horizon:,} ({reason})")
    context, reason = max(CONTEXT_SEASONS * season, CONTEXT_HORIZONS * horizon), f"{CONTEXT_SEASONS} seasons"
    if given_options.context is not None:
        context, reason = given_options.context, "--context"
    elif context > MAX_CONTEXT:
        context, reason = (
            max(MAX_CONTEXT, CONTEXT_HORIZONS * horizon),
            f"{MAX_CONTEXT:,} steps, or {CONTEXT_HORIZONS} horizons",
        )
    elif context > CONTEXT_SEASONS * season:
        reason = f"{CONTEXT_HORIZONS} horizons"
    decisions.append(f"context {context:,} ({reason})")
    zone = all_rows[0].zone
    if zone is not None and zone.name:
        reason = "--timezone" if given_options.timezone else "of the stamps"
        decisions.append(f"time zone {zone.name} ({reason})")
        if zone.has_rules:  # later data may be too short to show the zone
            options = options.model_copy(update={"timezone": zone.name})
    tell(", ".join(decisions))
    if options.holidays:
        if clock.unit != "b" and not (clock.unit == "us" and clock.size <= DAY):
            raise BadInput(f"--holidays: expected steps of at most a day, got {clock}")
        holidays.calendar(options.holidays)  # raises an error for an unknown country
    return options.model_copy(
        update={
            "step": str(clock), "season": season, "second_season": second, "horizon": horizon, "context": context,
            "quantiles": ",".join(f"{level:g}" for level in levels_of(options.quantiles)),
        }
    ), series  # fmt: skip


def read(data: Any, options: ForecastOptions) -> list[Example]:
    """Read all windows with known values in context and horizon."""
    all_series, sizes = tables.read_series(data, options), options.sizes
    short = [series for series in all_series if len(series.values) < sizes.min_steps]
    if short:
        others = f", and {counted(len(short) - 1, 'other')}" if len(short) > 1 else ""
        message = (
            f"series {short[0].name!r:.100}{others}: expected at least {sizes.min_steps} steps ({sizes.min_context} of "
            f"context and --horizon {sizes.horizon}), got {len(short[0].values)}"
        )
        if not options.skip_bad:
            raise BadInput(f"{message}; pass --skip-bad to skip {'them' if others else 'it'}")
        note(f"{message}; skipped")
    windows = find_windows(all_series, sizes)
    if not windows:
        raise BadInput("forecast: expected a window with known values in its context and its horizon, got none")
    return [Example(window, window, name=str(window)) for window in windows]


def split(task: SupervisedTask, examples: Sequence[Example], seed: int, parts: Sequence[str]) -> Numbers:
    """Split windows by time."""
    return split_windows([example.input for example in examples], parts)


def parse_input(value: Series, options: ForecastOptions) -> Example:
    """Return the window after the end of a series."""
    N, sizes = len(value.values), options.sizes
    if sizes.min_context > N:
        raise BadInput(f"series {value.name!r:.100}: expected at least {sizes.min_context} steps of context, got {N}")
    names = rows.listed_names(options, "future_covariates")
    ahead = value.future_covariates[N : N + sizes.horizon]
    for name, column in zip(names, ahead.T, strict=True):
        known = int((~np.isnan(column)).sum())
        if known < sizes.horizon:
            steps = f"{counted(sizes.horizon, 'step')} after the last value, up to {value.stamp(N + sizes.horizon - 1)}"
            raise BadInput(
                f"series {value.name!r:.100}: --future-covariates: expected {name!r:.60} for {steps}, got {known:,}; "
                "add rows without a target to DATA"
            )
    return Example(window_at(value, N, sizes), name=value.name)


def metrics(codec: ForecastCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """Return the scores of `forecast_scores`, in units of the training part."""
    units, series = [codec.scale(window.series) for window in targets], [window.series for window in targets]
    observed = Observed.of([window.future for window in targets], units, series)
    return forecast_scores(np.stack(predictions), codec.levels, observed)


def _tell_far_covariates(all_series: Iterable[Series], loaded: Loaded) -> None:
    """Print which covariates are far from those of the training, as in another unit."""
    codec: ForecastCodec = loaded.codec
    kinds = (
        ("covariates", codec.means, codec.spreads),
        ("future_covariates", codec.future_means, codec.future_spreads),
    )
    for series in all_series:
        for kind, means, spreads in kinds:
            names = rows.listed_names(loaded.options, kind)
            for name, mean, spread, values in zip(names, means, spreads, getattr(series, kind).T, strict=True):
                known = values[~np.isnan(values)]
                if len(known) and abs(known.mean() - mean) > MAX_COVARIATE_DEVIATION * spread:
                    note(
                        f"{series.name}: {name} has the mean {known.mean():.4g}, but {mean:.4g} with a standard "
                        f"deviation of {spread:.4g} in the training data; forecasts may be wrong if its unit has "
                        "changed"
                    )


def _read_tables(loaded: Loaded, values: Any) -> list[Series]:
    """Read the series of tables to forecast from."""
    if isinstance(values, list | tuple) and all(isinstance(value, str | Path) for value in values):
        values = [Path(value) for value in values]
    series: list[Series] = tables.read_series(values, loaded.options)
    by_file = len(loaded.run.config["data"].get("files") or ()) > 1 and not loaded.options.series
    if by_file and is_files(values) and len(values) == 1:  # series are identified by their files
        series = [replace(item, name=values[0].stem) for item in series]
    _tell_far_covariates(series, loaded)
    return series


def _with_learned(examples: Iterable[Example], learned: dict[Series, str]) -> Iterator[Example]:
    """Yield examples whose series have these names in the training data; other series are not part of it."""
    renamed: dict[Series, Series] = {}
    for example in examples:
        original = example.input.series
        if original not in renamed:
            renamed[original] = replace(original, learned=learned.get(original))
        window = replace(example.input, series=renamed[original])
        yield example._replace(input=window, target=window)


def _learned_names(all_series: Iterable[Series], stored: Sequence[Series]) -> dict[Series, str]:
    """Return the name in the training data of each series that has the same values, its own name if that is one."""
    by_name, names = {series.name: series for series in stored}, dict[Series, str]()
    for candidate in all_series:
        same = by_name.get(candidate.name)
        agreeing = [same] if same and candidate.agrees(same) else filter(candidate.agrees, stored)
        if name := min((series.name for series in agreeing), default=None):
            names[candidate] = name
    return names


class ForecastTask(SupervisedTask):
    """Forecasting. A series of other data is one of the training if it has the same values, whatever its name."""

    @override
    def held_out(self, examples: Iterable[Example], part: str) -> Iterable[Example]:
        """Yield the examples as series that are not in the training data, whatever their names are."""
        return _with_learned(examples, {})

    @override
    def read_other(self, loaded: Loaded, data: Any) -> Sequence[Example]:
        """Read windows, and identify series of the training data: those with equal values at shared time stamps."""
        examples = super().read_other(loaded, data)
        stored = tables.read_ends(loaded.run.files.check(ENDS), loaded.options)
        all_series = dict.fromkeys(example.input.series for example in examples)
        _tell_far_covariates(all_series, loaded)
        return list(_with_learned(examples, _learned_names(all_series, stored)))

    @override
    def sampling(self, loaded: Loaded, samples: int, seed: int | None) -> Loaded:
        ranks = load_templates(loaded.run, loaded.codec.horizon)
        return replace(loaded, codec=PathCodec(loaded.codec, ranks, samples, seed))

    @override
    def backtest(self, loaded: Loaded, data: Any, how: BacktestOptions, console: Console) -> Backtest:
        if data is None:
            files = loaded.options.test
            data = [Path(name) for name in files] if files else self.training_data(loaded.run)
        all_series = _read_tables(loaded, data)
        learned = _learned_names(all_series, tables.read_ends(loaded.run.files.check(ENDS), loaded.options))
        return run_backtest(self, loaded, [replace(s, learned=learned.get(s)) for s in all_series], how, console)

    @override
    def extra_files(self, splits: Splits, options: ForecastOptions, data: tables.SeriesList) -> dict[str, str]:
        """Return the last values of each series, to forecast from; also of those that no window was chosen from."""
        sizes = options.sizes
        return {ENDS: tables.ends_to_csv([s for s in data if len(s.values) >= sizes.min_steps], options)}

    @override
    def score_run(self, run: Run, model: nn.Module, data: PreparedData, console: Console) -> Scores:
        """Calibrate the quantiles on the validation part, keep its errors, and score the model."""
        assert isinstance(model, ForecastNetwork)
        device, batches = device_of(model), data.validation
        model.calibrate(to_device(batches[i], device) for i in range(len(batches)))
        run.save_tensors("model", model.state_dict())
        ranks = fit_templates(model, (to_device(batches[i], device) for i in range(len(batches))))
        run.save_tensors(PATHS, {"ranks": ranks})
        return super().score_run(run, model, data, console)

    @override
    def resampled(self, codec: ForecastCodec, examples: Sequence[Example]) -> Sequence[Hashable]:
        """Return the series of each window if there are many, else a block of its time: windows nearby overlap."""
        windows = [example.input for example in examples]
        if len({window.series for window in windows}) >= MIN_RESAMPLED_SERIES:
            return [window.series for window in windows]
        return [(window.series, window.origin // (codec.horizon + codec.season)) for window in windows]

    @override
    def parse_inputs(self, loaded: Loaded, values: Any) -> list[list[Input]]:
        """Read series from tables; None: the stored ends of the training series."""
        if values is None:
            series = tables.read_ends(loaded.run.files.check(ENDS), loaded.options)
        else:
            series = _read_tables(loaded, values)
        return [[Input("", item) for item in series]]


TASK = ForecastTask(
    name="forecast",
    description="a forecaster",
    options=ForecastOptions,
    resolve=resolve,
    read=read,
    store=list,  # windows are views of series in memory
    split=split,
    parse_input=parse_input,
    codec=ForecastCodec,
    model=ForecastNetwork,
    unit="values",
    examples="windows",
    loss="scaled_pinball",
    score="-mase",
    metrics=metrics,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    # Columns by name, or values; null: the ends of the training series.
    json_inputs=dict[str, list[int | float | str | None]] | list[float] | None,
    plots=PLOTS,
    has_duplicates=False,  # equal windows of different series are not duplicates
    option_units={"season": "steps", "second_season": "steps", "horizon": "steps", "context": "steps"},
    next_step="to see what comes next: elman predict {run}",
)
