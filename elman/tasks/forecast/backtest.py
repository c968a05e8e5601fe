"""Backtests: forecasts from several cutoffs near the end of the data, each from the values before it alone.

Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 5.10.
"""

import csv
import io
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from elman.baselines import statistical
from elman.baselines.forecast import naive_2
from elman.data.examples import Example
from elman.errors import BadInput, Failure, Terminated
from elman.io.format import clock_time, counted
from elman.io.run_folder import Run, new_run
from elman.io.terminal import note
from elman.report.shown import Scores
from elman.tasks import backtest_options
from elman.tasks.backtest import Backtest
from elman.tasks.backtest_options import BacktestOptions
from elman.tasks.bootstrap import margins
from elman.tasks.forecast import plots
from elman.tasks.forecast.codec import ForecastCodec
from elman.tasks.forecast.data import Series, Window
from elman.tasks.forecast.model import ForecastNetwork
from elman.tasks.forecast.numerals import Values
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.forecast.scores import Observed, forecast_scores
from elman.tasks.forecast.windows import find_windows, rolling_origins, split_windows, window_at
from elman.tasks.run import TrainingPlan
from elman.tasks.supervised import SPLIT, Baseline, SupervisedTask
from elman.tasks.task import Loaded
from elman.training.callbacks import Interrupted
from elman.training.devices import device_of, to_device
from elman.training.lightning_arguments import LightningArguments
from elman.training.options import TrainingOptions
from elman.training.trainer import fit

WINDOWS_OF_REFIT = 3  # by default, because each is a training
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}  # by the type of a device


class TrainedForecaster(NamedTuple):
    """A model that forecasts, with its baselines."""

    codec: ForecastCodec
    model: ForecastNetwork
    baselines: Sequence[Baseline]


@dataclass
class _Forecasts:
    """The forecasts from all cutoffs.

    Attributes:
        horizon: F, steps of each forecast.
        windows: the windows to forecast from, whose series end at their cutoffs.
        actual: the same windows of the whole series, with the true values of the horizon.
        quantiles: the forecasts (F, Q) from each window, by the title of the model or baseline.
    """

    horizon: int
    windows: list[Window] = field(default_factory=list)
    actual: list[Window] = field(default_factory=list)
    quantiles: dict[str, list[Values]] = field(default_factory=dict)


def run_backtest(
    task: SupervisedTask, loaded: Loaded, all_series: Sequence[Series], how: BacktestOptions, console: Console
) -> Backtest:
    """Forecast from several cutoffs, with the trained model or with one that is retrained at each, and score that.

    Args:
        task: the task.
        loaded: the trained model.
        all_series: the series; those of the training data have their names there as `learned`.
        how: the options.
        console: the console for progress.

    Raises:
        BadInput: for options or data that cannot be used.
        Failure: if a training diverges.
        MissingPackage: with `baselines`, without statsforecast.
    """
    codec: ForecastCodec = loaded.codec
    horizon = how.horizon or codec.horizon
    if horizon > codec.horizon:
        raise BadInput(
            f"--horizon: expected at most {codec.horizon}, the horizon of {loaded.run.path}, got {horizon}; for a "
            "longer one, train with a larger --horizon"
        )
    models = backtest_options.statistical(how.baselines)
    if models:
        statistical.package()  # before anything that takes time
    sizes = codec.sizes._replace(horizon=horizon)
    count = WINDOWS_OF_REFIT if how.windows is None and how.refit else how.windows
    cutoffs = rolling_origins(all_series, sizes, how.stride or horizon, count)
    forecasts = _Forecasts(horizon)
    if how.refit:
        for origins, forecaster in _refitted(task, loaded, all_series, cutoffs, console):
            _forecast(task, forecaster, origins, loaded.options.batch, forecasts, console)
    else:
        _tell_seen(loaded, cutoffs)
        baselines = task.saved_baselines(codec, loaded.run) if task.has_baselines(loaded.run) else []
        forecaster = TrainedForecaster(codec, loaded.model, baselines)
        origins_of_all = [(series, origin) for origins in cutoffs for series, origin in origins.items()]
        _forecast(task, forecaster, origins_of_all, loaded.options.batch, forecasts, console)
    forecasts.quantiles = {title: [q[:horizon] for q in rows] for title, rows in forecasts.quantiles.items()}
    _add_statistical(forecasts, codec, models, console)
    scores = _scores(task, forecasts, codec, console)
    scores.counted = f"{len(forecasts.windows):,} windows from {counted(len(cutoffs), 'cutoff')}"
    rows = list(_rows(forecasts, codec))

    def draw(path: Path) -> None:
        plots.plot_backtest(forecasts.actual, next(iter(forecasts.quantiles.values())), codec, path)

    return Backtest(scores, rows, draw)


def _forecast(
    task: SupervisedTask,
    forecaster: TrainedForecaster,
    origins: Sequence[tuple[Series, int]],
    batch: int,
    forecasts: _Forecasts,
    console: Console,
) -> None:
    """Add forecasts that know each series up to its origin alone."""
    codec, model, baselines = forecaster
    windows = [window_at(series.before(origin, codec.horizon), origin, codec.sizes) for series, origin in origins]
    examples = [Example(window, window) for window in windows]
    forecasts.windows += windows
    forecasts.actual += [Window(series, 0, origin, forecasts.horizon) for series, origin in origins]
    predicted = {str(model.title): task.predictions(model, codec, examples, batch, console)}
    predicted |= {baseline.title: baseline.predict(examples) for baseline in baselines}
    for title, rows in predicted.items():
        forecasts.quantiles.setdefault(title, []).extend(rows)


def _refitted(
    task: SupervisedTask,
    loaded: Loaded,
    all_series: Sequence[Series],
    cutoffs: Sequence[dict[Series, int]],
    console: Console,
) -> Iterator[tuple[list[tuple[Series, int]], TrainedForecaster]]:
    """Yield the origins of each cutoff, and a model that was trained on what is before it."""
    began = time.monotonic()
    for number, origins in enumerate(cutoffs):
        (series, origin), *_ = origins.items()
        cutoff = series.stamp(origin - 1)
        left = (time.monotonic() - began) / number * (len(cutoffs) - number) if number else None
        suffix = "" if left is None else f", about {clock_time(left)} left"
        line = f"cutoff {number + 1} of {len(cutoffs)}, {cutoff}: training{suffix}"
        if not console.is_terminal:
            console.print(line)
        with console.status(line):
            try:
                forecaster = refit(task, loaded, _known_at(all_series, origins))
            except BadInput as error:
                raise BadInput(f"--refit: cutoff {cutoff}: {error}") from None
            except Failure as error:
                raise Failure(f"--refit: cutoff {cutoff}: {error}") from None
        yield list(origins.items()), forecaster


def _known_at(all_series: Sequence[Series], origins: Mapping[Series, int]) -> list[Series]:
    """Return what is known of all series at a cutoff.

    Series that are not forecast from it end before it, or have another one at the same time; where time stamps are
    numbers, which are those of each series itself, they are left out.
    """
    reference, step = next(iter(origins.items()))
    moment = reference.moments(step, step + 1)[0]
    known = list[Series]()
    for series in all_series:
        if series in origins:
            known.append(series.before(origins[series], 0))
        elif series.grid.clock.unit:
            origin = int(np.searchsorted(series.moments(0, len(series.values)), moment))
            known.append(series.before(origin, 0))
    return known


def refit(task: SupervisedTask, loaded: Loaded, all_series: Sequence[Series]) -> TrainedForecaster:
    """Train a new model with the options of a run. All data are for training and validation, none for a test.

    Args:
        task: the task.
        loaded: a trained model, whose options are used, on its device.
        all_series: what is known of the series.

    Raises:
        BadInput: for too few data.
        Failure: if the training diverges.
    """
    options: ForecastOptions = loaded.options
    sizes, training = options.sizes, _single_process(task.training_of(loaded.run), loaded)
    usable = [replace(series, learned=series.name) for series in all_series if len(series.values) >= sizes.min_steps]
    windows = find_windows(usable, sizes)
    if not windows:
        raise BadInput(f"expected a series of at least {sizes.min_steps} steps, got none")
    parts = split_windows(windows, ["validation"])
    train, held_out = ([Example(windows[i], windows[i]) for i in parts[name]] for name in ("train", "validation"))
    codec = ForecastCodec.fit(train, options)
    torch.manual_seed(training.seed)
    model = ForecastNetwork(**codec.model_args(options))
    validation = task.batches(codec, held_out, options.batch, None)
    plan = TrainingPlan(model, task.batches(codec, train, options.batch, training.seed), validation, task.unit)
    config = {"task": task.name, "data": {}, "model": codec.model_args(options), "options": {}, "training": {}}
    quiet = LightningArguments({"enable_progress_bar": False}, loggers=())
    try:
        with TemporaryDirectory() as scratch, new_run(Path(scratch) / "run", config) as run:
            fit(plan, training, run, Console(quiet=True), time.monotonic(), lightning=quiet)
            model.load_state_dict(run.load_tensors("model"))
    except Interrupted as error:  # nothing of this training can be resumed
        raise (KeyboardInterrupt if error.signal == signal.SIGINT else Terminated(error.signal)) from None
    device = device_of(loaded.model)
    model.to(device).eval().calibrate(to_device(validation[i], device) for i in range(len(validation)))
    return TrainedForecaster(codec, model, task.fit_baselines(codec, train, options, training.seed))


def _single_process(training: TrainingOptions, loaded: Loaded) -> TrainingOptions:
    """Return the options of a training in this process, on the device of the loaded model."""
    accelerator = ACCELERATORS[device_of(loaded.model).type]
    changes = {"devices": 1, "nodes": 1, "strategy": "ddp", "flow_every": 0, "accelerator": accelerator}
    return training.model_copy(update=changes)


def _tell_seen(loaded: Loaded, cutoffs: Sequence[Mapping[Series, int]]) -> None:
    """Print how many of the windows lie in the time that the model was trained or validated on."""
    seen = _seen_names(loaded.run)
    horizon, count, total = loaded.codec.horizon, 0, 0
    firsts: dict[Series, int] = {}
    for origins in reversed(cutoffs):
        firsts |= origins
    ends: dict[Series, int] = {}  # the first step after the time of the training
    for series, first in firsts.items():
        begins = range(len(series.values) - 1, max(first - horizon, -1), -1)
        is_seen = (step for step in begins if f"{series.learned} from {series.stamp(step)}" in seen)
        ends[series] = next(is_seen, -horizon) + horizon if series.learned else 0
    for origins in cutoffs:
        total += len(origins)
        count += sum(origin < ends[series] for series, origin in origins.items())
    if count:
        note(
            f"{count:,} of the {total:,} windows begin in the time that this model was trained or validated on: their "
            "scores are too good; pass a smaller --windows, or --refit"
        )


def _seen_names(run: Run) -> set[str]:
    """Return the names of the windows that a run was trained or validated on; none if it does not have its split."""
    if not (run.path / SPLIT).exists():
        return set()
    rows = csv.DictReader(io.StringIO(run.files.read(SPLIT).decode()))
    return {row["name"] for row in rows if row["part"] != "test"}


def _add_statistical(forecasts: _Forecasts, codec: ForecastCodec, models: Sequence[str], console: Console) -> None:
    """Add the forecasts of models of statsforecast, fitted to the past of each window."""
    seasons = [codec.season, *([codec.second_season] if codec.second_season else [])]
    for model in models:
        rows = list[Values]()
        with console.status(f"fitting {model}") as status:
            for number, window in enumerate(forecasts.windows, 1):
                status.update(f"fitting {model}: {number:,} of {len(forecasts.windows):,}")
                past = window.series.values
                rows.append(statistical.forecast(model, past, forecasts.horizon, seasons, codec.levels))
        forecasts.quantiles[model] = rows


def _scores(task: SupervisedTask, forecasts: _Forecasts, codec: ForecastCodec, console: Console) -> Scores:
    """Score all forecasts, in units of the past of each series before its cutoff."""
    pasts = [window.series for window in forecasts.windows]
    observed = Observed.of(
        [window.future for window in forecasts.actual],
        [past.unit(codec.season) for past in pasts],
        [window.series for window in forecasts.actual],
        np.stack([naive_2(past.values, forecasts.horizon, codec.season) for past in pasts]),
    )
    units, scores = task.resampled(codec, [Example(window) for window in forecasts.actual]), Scores()
    for title, rows in forecasts.quantiles.items():
        quantiles = np.stack(rows)

        def metrics_of(indices: Sequence[int], quantiles: Values = quantiles) -> dict[str, float]:
            return forecast_scores(quantiles[indices], codec.levels, observed.at(indices))

        scores[title] = metrics_of(range(len(pasts)))
        with console.status(f"confidence intervals of {title}"):
            scores.margins[title] = margins(metrics_of, units)
    return scores


def _rows(forecasts: _Forecasts, codec: ForecastCodec) -> Iterator[dict[str, Any]]:
    for title, rows in forecasts.quantiles.items():
        for window, quantiles in zip(forecasts.actual, rows, strict=True):
            cutoff = window.series.stamp(window.origin - 1)
            for y, row in zip(window.future.tolist(), codec.to_rows(0, "", Example(window), quantiles), strict=True):
                known = {"actual": None if np.isnan(y) else y}
                start = {"model": title, "series": row.pop("series"), "cutoff": cutoff, "time": row.pop("time")}
                yield start | known | row
