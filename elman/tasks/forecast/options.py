"""The options of `elman train forecast`. Imports nothing heavy."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer
from pydantic import AfterValidator, BeforeValidator, Field

from elman import options as shared
from elman.options import Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a forecaster of time series, with prediction intervals.

DATA is a CSV or Parquet file with one row per time step: a column of time stamps, a column of values, and if there are
several series, a column that identifies them. A file with values only needs no time stamps. The first 70 % of the
time range is for training, the next 10 % for validation, the last 20 % for testing.
"""
PATIENCE = 4
TRAINING: dict[str, Any] = {"lr": 6e-3}
SPACE = {
    "lr": "3e-4..1e-2:log", "cell": "gru,lstm", "hidden": "32,64,128", "layers": "1,2", "dropout": "0..0.4",
    "batch": "32,64,128",
}  # fmt: skip
INCOMPARABLE = ("horizon", "season", "context", "step")
COVARIATES = ("covariates", "future_covariates", "static_covariates")
MEDIAN = 0.5
MAX_QUANTILES = 99
MIN_CONTEXT = 2  # steps
MEAN_SEASONS, SECOND_SEASONS = 7, 3  # over which features average values in the same place of the season
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Tables: CSV, TSV, JSON lines, Parquet.", metavar="DATA", show_default=False),
]


COLUMN = typer.Option(metavar="COLUMN", show_default=False)
COLUMNS = typer.Option(metavar="A,B", show_default=False)


def joined_names(names: Iterable[str]) -> str:
    """Return names as the text of an option; those with commas are quoted as in CSV.

    >>> joined_names(["wind", "sun, shade", 'a "b" c'])
    'wind,"sun, shade","a ""b"" c"'
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def _joined(value: Any) -> Any:
    """Join a list of names, which Python and files may have in place of the text of the command line."""
    are_names = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
    return joined_names(value) if are_names else value


COLUMN_NAMES = BeforeValidator(_joined, json_schema_input_type=str | list[str] | None)


def _joined_numbers(value: Any) -> Any:
    """Join a list of numbers, which Python and files may have in place of the text of the command line."""
    values = value if isinstance(value, list | tuple) else [value]
    are_numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in values)
    return ",".join(f"{number:g}" for number in values) if are_numbers and values else value


def _checked_quantiles(text: str) -> str:
    """Check that a text lists quantiles.

    Raises:
        ValueError: if it does not.
    """
    levels_of(text)
    return text


def levels_of(quantiles: str) -> list[float]:
    """Return the quantiles in the text of the option, and the median, in ascending order.

    Raises:
        ValueError: for a text that lists no numbers between 0 and 1.

    >>> levels_of("0.9, 0.1")
    [0.1, 0.5, 0.9]
    """
    try:
        levels = {MEDIAN, *map(float, quantiles.split(","))}
    except ValueError:
        raise ValueError(f"expected numbers between 0 and 1 with commas between them, got {quantiles!r:.60}") from None
    if not all(0 < level < 1 for level in levels) or len(levels) > MAX_QUANTILES:
        raise ValueError(f"expected at most {MAX_QUANTILES - 1} numbers between 0 and 1, got {quantiles!r:.60}")
    return sorted(levels)


class Sizes(NamedTuple):
    """The sizes of windows, in steps.

    season: one season.
    second_season: a second, longer season; 0 if there is none.
    horizon: steps to forecast.
    context: past steps that the network reads, one after the other.
    """

    season: int
    second_season: int
    horizon: int
    context: int

    @property
    def past(self) -> int:
        """The past steps from which features are made: before each step of the context, there are seasons, too."""
        longest = max(self.season, self.second_season)
        return max(self.context + longest, MEAN_SEASONS * self.season, SECOND_SEASONS * self.second_season)

    @property
    def min_context(self) -> int:
        """The fewest past steps that a forecast needs."""
        return min(self.context, MIN_CONTEXT)

    @property
    def min_steps(self) -> int:
        """The fewest steps of a series to train on."""
        return self.min_context + self.horizon

    def first_origin(self, steps: int) -> int:
        """Return the past steps of the first window of a series: a season, or fewer in a series that is too short."""
        season = min(self.context, max(self.season, MIN_CONTEXT))
        return season if season + self.horizon <= steps else self.min_context


class ForecastOptions(SupervisedOptions):
    """The options of the task."""

    hidden: shared.Hidden = 64
    dropout: shared.Dropout = 0.1
    batch: shared.Batch = 64
    time: Annotated[str | None, Field(description="Column of time stamps."), COLUMN] = None
    target: Annotated[str | None, Field(description="Column of the target."), COLUMN] = None
    series: Annotated[
        str | None,
        Field(description="Column that identifies the series, if there are several."),
        COLUMN,
    ] = None
    covariates: Annotated[
        str | None,
        COLUMN_NAMES,
        Field(description="Numeric columns that are known in the past only."),
        COLUMNS,
    ] = None
    future_covariates: Annotated[
        str | None,
        COLUMN_NAMES,
        Field(description="Numeric columns that are known in advance: `predict` needs rows of the horizon with them."),
        COLUMNS,
    ] = None
    static_covariates: Annotated[
        str | None,
        COLUMN_NAMES,
        Field(description="Columns that describe a series: numbers, or categories."),
        COLUMNS,
    ] = None
    holidays: Annotated[
        str | None,
        Field(description="Country whose public holidays are known in advance: DE, or DE-BY for a part of it."),
        typer.Option(metavar="COUNTRY", show_default=False),
    ] = None
    quantiles: Annotated[
        str,
        BeforeValidator(_joined_numbers, json_schema_input_type=str | list[float]),
        AfterValidator(_checked_quantiles),
        Field(description="Quantiles to forecast beside the median."),
        typer.Option(metavar="Q,Q"),
    ] = "0.1,0.9"
    horizon: Annotated[
        Whole | None, Field(ge=1, description="Number of steps to forecast."), typer.Option(show_default="one season")
    ] = None
    season: Annotated[
        Whole | None,
        Field(ge=1, description="Number of steps in a season."),
        typer.Option(
            show_default="by the step: a day for minutes and hours, a week for days, a year for weeks and months"
        ),
    ] = None
    second_season: Annotated[
        Whole | None,
        Field(ge=0, description="Number of steps in a second, longer season; 0: none."),
        typer.Option(show_default="a week for steps under a day, a year for days"),
    ] = None
    context: Annotated[
        Whole | None,
        Field(ge=2, description="Number of past steps that the network reads one after the other."),
        typer.Option(show_default="3 seasons, or 2 horizons"),
    ] = None
    scale: Annotated[
        Literal["log", "linear"] | None,
        Field(description="Scale on which values are standardized: log, linear."),
        typer.Option(show_default="log if values are positive and vary more where they are larger"),
    ] = None
    step: Annotated[
        str | None,
        Field(
            description="Time step: 15m, 1h, 1d, 1b (business days), 1w, 1mo, 1q. "
            "Several values in a step are averaged."
        ),
        typer.Option(metavar="STEP", show_default="the most common"),
    ] = None
    time_format: Annotated[
        str | None,
        Field(
            description="Format of time stamps, as in strptime: %d.%m.%Y, %Y%m%d; %s, ms, us or ns: time since 1970."
        ),
        typer.Option(metavar="FORMAT", show_default="ISO 8601"),
    ] = None
    timezone: Annotated[
        str | None,
        Field(description="Time zone of the time stamps: Europe/Berlin, UTC, +05:30."),
        typer.Option(metavar="ZONE", show_default="that of the time stamps"),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None,
        Field(description="Decimal separator, a point or a comma. The other one may separate thousands."),
        typer.Option(metavar="SIGN", show_default="a point; ambiguous numbers are rejected"),
    ] = None
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""

    @property
    def sizes(self) -> Sizes:
        """The sizes, once `resolve` has set them."""
        assert self.season
        assert self.horizon
        assert self.context
        return Sizes(self.season, self.second_season or 0, self.horizon, self.context)


class ForecastFitOptions(TrainingOptions, ForecastOptions):
    """The options of `fit`."""

    covariates: Any = None
    future_covariates: Any = None
    static_covariates: Any = None
    quantiles: Any = "0.1,0.9"


OPTIONS = ForecastOptions
