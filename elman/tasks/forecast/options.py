"""The options of `elman train forecast`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from elman import options as shared
from elman.options import LIST_METAVAR, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a forecaster of time series, with prediction intervals.

DATA is a CSV or Parquet file with a row for each time: a column of time stamps, a column of values, and if there are
several series, a column that identifies them. A file of values alone needs no time stamps. The first 70 % of the time
are for training, the next 10 % for validation, the last 20 % for the test.
"""
PATIENCE = 4
TRAINING: dict[str, Any] = {"lr": 1e-3, "patience": 4}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Tables: CSV, TSV, JSON lines, Parquet.", metavar="DATA", show_default=False),
]


def _column(help: str, **more: Any) -> Any:
    return typer.Option(help=help, metavar="COLUMN", show_default=False, **more)


def _decimal(text: str) -> str:
    if text not in (".", ","):
        raise typer.BadParameter(f"expected . or ,; got {text!r}")
    return text


class Sizes(NamedTuple):
    """The season, the horizon and the longest context of windows, in steps."""

    season: int
    horizon: int
    context: int

    @property
    def min_context(self) -> int:
        """The fewest past steps that a forecast needs."""
        return min(self.context, max(self.season, 2))


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(SupervisedOptions):
    """The options of the task."""

    hidden: shared.Hidden = 64
    dropout: shared.Dropout = 0.1
    batch: shared.Batch = 64
    time: Annotated[str | None, _column("Column of time stamps.")] = None
    target: Annotated[str | None, _column("Column of the target.")] = None
    series: Annotated[str | None, _column("Column that identifies the series, if there are several.")] = None
    covariates: Annotated[
        str | None,
        typer.Option(help="Numeric columns that are known in the past only.", metavar=LIST_METAVAR, show_default=False),
    ] = None
    horizon: Annotated[int | None, whole("Steps to forecast.", 1, show_default="one season")] = None
    season: Annotated[
        int | None,
        whole(
            "Steps in a season.",
            1,
            show_default="by the step: a day of minutes and hours, a week of days, a year of weeks and months",
        ),
    ] = None
    context: Annotated[
        int | None, whole("Steps of the past that the model reads.", 2, show_default="7 seasons, or 2 horizons")
    ] = None
    step: Annotated[
        str | None,
        typer.Option(
            help="Time step: 15m, 1h, 1d, 1b (business days), 1w, 1mo, 1q. Several values in a step are averaged.",
            metavar="STEP",
            show_default="the most common",
        ),
    ] = None
    time_format: Annotated[
        str | None,
        typer.Option(
            help="Format of time stamps, as in strptime: %d.%m.%Y, %Y%m%d; %s, ms, us or ns: time since 1970.",
            metavar="FORMAT",
            show_default="ISO 8601",
        ),
    ] = None
    timezone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of the time stamps: Europe/Berlin, UTC, +05:30.", metavar="ZONE", show_default="their own"
        ),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option(
            help="Decimal separator, a point or a comma. The other one may separate thousands.",
            parser=_decimal,
            metavar="SIGN",
            show_default="a point, where no comma may be one",
        ),
    ] = None
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""

    @property
    def sizes(self) -> Sizes:
        """The sizes, once `resolve` has set them."""
        assert self.season
        assert self.horizon
        assert self.context
        return Sizes(self.season, self.horizon, self.context)


@dataclass(frozen=True, kw_only=True)
class ForecastFitOptions(TrainingOptions, ForecastOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None
    covariates: Any = None


OPTIONS = ForecastOptions
