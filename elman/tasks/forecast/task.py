"""Forecasts of time series as a task."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from typing_extensions import override

from elman.data.examples import Example, is_files
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.terminal import note, show
from elman.tasks.forecast import data as tables
from elman.tasks.forecast import picture, rows
from elman.tasks.forecast.baselines import Rule, rules
from elman.tasks.forecast.data import Series, Window
from elman.tasks.forecast.model import ForecastBatch, Forecaster, pinball
from elman.tasks.forecast.options import ForecastOptions, Sizes
from elman.tasks.forecast.windows import SHARES, ForecastCodec, fitted, split, thinned, window_at, windows
from elman.tasks.prepared_data import Loaded, PreparedData
from elman.tasks.supervised import Baseline, SupervisedTask

T = TypeVar("T")
SEASONS, HORIZONS = 7, 2  # that the context has, where nothing is said
HORIZON = 6  # steps, where nothing is said and there are no seasons
LEAST = 2  # seasons in the data, where the season is not told
FAR = 10  # deviations from the mean of a covariate in the training
MOST = 2048  # steps of a context, where that is not told
ENDS = "ends.csv"  # in a run: the last values of each series


class Forecast(SupervisedTask):
    """How time series go on."""

    name = "forecast"
    unit = "windows"
    loss = "scaled_pinball"
    what = "a forecaster"
    options = ForecastOptions
    pictures: ClassVar = {"forecast.png": "Some windows of the test part: what was read, what was said, what came."}
    codec_type = ForecastCodec
    repeats = False  # windows of other data are other ones
    next = "to see what comes next: elman predict {run}"
    units: ClassVar = {"season": "steps", "horizon": "steps", "context": "steps"}

    def settled(self, data: Any, options: ForecastOptions, tell: Callable[[str], Any] = show) -> ForecastOptions:
        """As there: step, season, horizon and context, the time zone, and the names of columns that have none."""
        asked = options = super().settled(data, options, tell)
        options = replace(options, covariates=",".join(rows.listed_names(options.covariates)) or None)
        options = rows.named(data, options)
        with redirect_stderr(StringIO()):  # notes are made when the data are read to be used
            found = rows.rows(data, options)
            clock, how = tables.clock_of(found, options)
            longest = max(len(tables.even(part, clock).values) for part in found)
        told = [f"step {clock} ({how})"]
        season, how = clock.seasonal if asked.season is None else (asked.season, "--season")
        if asked.season is None and season * LEAST > longest:
            season, how = 1, f"as {longest:,} steps are less than {LEAST} times {how}, {season:,} steps"
        told.append(f"season {season:,} ({how})")
        horizon, how = (season, "one season") if season > 1 else (HORIZON, f"{HORIZON}, as there is no season")
        room = longest if options.validation and options.test else int(SHARES["validation"] * longest)
        if asked.horizon is not None:
            horizon, how = asked.horizon, "--horizon"
        elif horizon > room:
            horizon, how = max(room // 2, 1), f"half of a tenth of {longest:,} steps, which is less than {how}"
        told.append(f"horizon {horizon:,} ({how})")
        context, how = max(SEASONS * season, HORIZONS * horizon), f"{SEASONS} seasons"
        if asked.context is not None:
            context, how = asked.context, "--context"
        elif context > MOST:
            context, how = max(MOST, HORIZONS * horizon), f"{MOST:,} steps, or {HORIZONS} horizons"
        elif context > SEASONS * season:
            how = f"{HORIZONS} horizons"
        told.append(f"context {context:,} ({how})")
        zone = found[0].zone
        if zone is not None and zone.name:
            how = "--timezone" if asked.timezone else "of the stamps"
            told.append(f"time zone {zone.name} ({how})")
            if zone.rules:  # by which later stamps are read too, though few may not show it
                options = replace(options, timezone=zone.name)
        tell(", ".join(told))
        return replace(options, step=str(clock), season=season, horizon=horizon, context=context)

    def prepare(self, data: Any, options: ForecastOptions, seed: int, run: Run | None = None) -> PreparedData:
        """As there; a run keeps the last values of each series, to go on from there; not of files for a part alone."""
        material = super().prepare(data, options, seed, run)
        _, parts, *_ = material.rest
        found = (example.input.series for part in parts for example in part)
        ends = dict.fromkeys(series for series in found if series.learned)
        return replace(material, kept=material.kept | {ENDS: tables.ends(list(ends), options)})

    def read(self, data: Any, options: ForecastOptions) -> list[Example]:
        """As there: all windows with a horizon that is known."""
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

    def held_out(self, examples: Iterable[Example], part: str) -> Iterable[Example]:
        """As there, of series that are not those of the training, whatever their names are."""
        return _of(examples, {})

    def others(self, loaded: Loaded, data: Any) -> Sequence[Example]:
        """As there. A series that agrees with one of the training where both have values is that one."""
        examples = super().others(loaded, data)
        learned = tables.from_ends(loaded.run.path / ENDS, loaded.options)
        same, others = dict[Series, str](), dict.fromkeys(example.input.series for example in examples)
        _tell_far(others, loaded)
        for other in others:
            agreeing = sorted((one.name != other.name, one.name) for one in learned if other.agrees(one))
            if agreeing:
                same[other] = agreeing[0][1]
        return self.stored(_of(examples, same))

    def stored(self, items: Iterable[T]) -> Sequence[T]:
        """As there, all in memory: a window is a view of its series, which is there as a whole."""
        return list(items)

    def split(
        self, examples: Sequence[Example], options: ForecastOptions, seed: int, parts: Sequence[str]
    ) -> dict[str, list[int]]:
        """As there, by time."""
        return split([example.input for example in examples], parts)

    @override
    def fit(self, train: Sequence[Example], options: ForecastOptions) -> ForecastCodec:
        return fitted([example.input for example in train], options.sizes)

    @override
    def shape(self, codec: ForecastCodec, options: ForecastOptions) -> dict[str, Any]:
        own, asked = ([getattr(one, name) for name in Sizes._fields] for one in (codec, options))
        if own != asked:
            raise ValueError(f"{', '.join(Sizes._fields)} of {own}, where the options have {asked}")
        names = ("cell", "hidden", "layers", "dropout", "bptt")
        return {"inputs": codec.inputs, "horizon": codec.horizon} | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> Forecaster:
        return Forecaster(**shape)

    def encode(self, codec: ForecastCodec, example: Example) -> tuple[Any, int]:
        """As there: a window, which becomes numbers when its batch is made."""
        return (codec, example.input), example.input.steps

    @override
    def collate(self, encoded: Sequence[Any]) -> ForecastBatch:
        return encoded[0][0].batch([window for _, window in encoded])  # type: ignore[no-any-return]

    def say(self, model: Any, codec: ForecastCodec, batch: ForecastBatch) -> list[Any]:
        """As there: quantiles (F, 3)."""
        quantiles = model(batch.steps, batch.lengths).double()
        return list((quantiles * batch.spread[:, None, None] + batch.last[:, None, None]).numpy())

    def measure(self, codec: ForecastCodec, said: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """MASE (Hyndman and Koehler 2006), sMAPE in percent, the pinball loss in units of the series, and the share of
        values between the lowest and the highest quantile.
        """
        y, q = np.stack([window.future for window in targets]), np.stack(said)
        known = ~np.isnan(y)
        unit = np.array([codec.scale(window.series) for window in targets])[:, None]
        low, median, high = q.transpose(2, 0, 1)
        error, size = np.abs(y - median), np.abs(y) + np.abs(median)
        loss = pinball(torch.from_numpy(q), torch.from_numpy(y)).numpy() / unit
        return {
            "mase": float((error / unit)[known].mean()),
            "smape": float((200 * error / np.where(size > 0, size, 1))[known].mean()),
            self.loss: float(loss[known].mean()),
            "coverage": float(((low <= y) & (y <= high))[known].mean()),
        }

    def baselines(
        self, codec: ForecastCodec, train: Sequence[Example], options: ForecastOptions, seed: int
    ) -> list[Baseline]:
        """The last value, a line, the last season, and that with its growth."""
        return [Rule.fitted(title, codec, train) for title in rules(codec)]

    @override
    def restored(self, codec: ForecastCodec, tensors: dict[str, torch.Tensor]) -> list[Baseline]:
        found = [(title, tensors[title].numpy()) for title in rules(codec)]
        for title, errors in found:
            if errors.shape != (codec.horizon, 2):
                raise ValueError(f"{title} of shape {errors.shape}")
        return [Rule(title, codec, errors) for title, errors in found]

    def draw(self, run: Run, codec: ForecastCodec, said: Sequence[Any], targets: Sequence[Any]) -> None:
        """forecast.png: some windows, what was said of them, what came, and the best baseline."""
        at = picture.chosen(len(targets))
        others = self.restored(codec, run.load_tensors("baseline"))
        examples = [Example(window, window) for window in targets]
        best = min(others, key=lambda other: self.measure(codec, other.say(examples), targets)["mase"])
        windows = [targets[i] for i in at]
        lines = best.say([examples[i] for i in at])
        picture.draw(windows, [said[i] for i in at], lines, best.title, codec.season, run.path / "forecast.png")

    def inputs(self, loaded: Loaded, given: Any) -> list[Series]:
        """As there: the series in tables; where none is named, those of the training."""
        if given is None:
            return tables.from_ends(loaded.run.path / ENDS, loaded.options)
        if isinstance(given, list | tuple) and all(isinstance(one, str | Path) for one in given):
            given = [Path(one) for one in given]
        found = tables.series(given, loaded.options)
        several = len(loaded.run.config["data"].get("files") or ()) > 1 and not loaded.options.series
        if several and is_files(given) and len(given) == 1:  # files are what tells series apart
            found = [replace(series, name=given[0].stem) for series in found]
        _tell_far(found, loaded)
        return found

    def given(self, what: Series, options: ForecastOptions) -> Example:
        """As there: the window behind the end of a series."""
        N, sizes = len(what.values), options.sizes
        if sizes.least > N:
            raise BadInput(f"series {what.name!r}: expected at least {sizes.least} steps to read, got {N}")
        return Example(window_at(what, N, sizes), name=what.name)

    def row(self, codec: ForecastCodec, said: Any) -> dict[str, Any]:
        """The first step and the last one."""
        F = codec.horizon
        at = {1: "next step", F: f"step {F}"}
        return {name: "{1:.4g} ({0:.4g} to {2:.4g})".format(*said[step - 1]) for step, name in at.items()}

    def rows(self, codec: ForecastCodec, number: int, example: Example, said: Any) -> Iterator[dict[str, Any]]:
        """As there: one for each step of the horizon."""
        window: Window = example.input
        for step, quantiles in enumerate(said, window.origin):
            low, median, high = (float(f"{value:.6g}") for value in quantiles)
            yield {
                "series": window.series.name,
                "time": window.series.stamp(step),
                "median": median,
                "low": low,
                "high": high,
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


def _of(examples: Iterable[Example], learned: dict[Series, str]) -> Iterator[Example]:
    """Examples of series that have these names in a training, and of others, which are not of it."""
    made: dict[Series, Series] = {}
    for example in examples:
        old = example.input.series
        if old not in made:
            made[old] = replace(old, learned=learned.get(old))
        window = replace(example.input, series=made[old])
        yield example._replace(input=window, target=window)


TASK = Forecast()
