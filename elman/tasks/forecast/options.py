"""What `elman train forecast` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from elman import options as shared
from elman.options import LISTED, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network that reads the past of time series and says how they go on, and how sure that is.

DATA is a CSV or Parquet file with a row for each moment: a column of stamps, a column of values, and where there are
several series, a column that names them. A file of values alone needs no column of stamps. The first 70 % of the time
are learned from, the next 10 % validated on, the last 20 % tested on.
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
    """Of windows, in steps: what comes again; what is foretold; what is read of the past at most."""

    season: int
    horizon: int
    context: int

    @property
    def least(self) -> int:
        """The fewest steps of the past that are enough."""
        return min(self.context, max(self.season, 2))


@dataclass(frozen=True)
class ForecastOptions(SupervisedOptions):
    """The options by their names on the command line."""

    hidden: shared.Hidden = 64
    dropout: shared.Dropout = 0.1
    batch: shared.Batch = 64
    time: Annotated[str | None, _column("The column of stamps.")] = None
    target: Annotated[str | None, _column("The column of values that are to be foretold.")] = None
    series: Annotated[str | None, _column("The column that names the series, where there are several.")] = None
    covariates: Annotated[
        str | None,
        typer.Option(help="Columns of numbers that are known of the past alone.", metavar=LISTED, show_default=False),
    ] = None
    horizon: Annotated[int | None, whole("How many steps to foretell.", 1, show_default="one season")] = None
    season: Annotated[
        int | None,
        whole(
            "How many steps a season has.",
            1,
            show_default="by the step: a day of minutes and hours, a week of days, a year of weeks and months",
        ),
    ] = None
    context: Annotated[
        int | None, whole("How many steps of the past to read.", 2, show_default="7 seasons, or 2 horizons")
    ] = None
    step: Annotated[
        str | None,
        typer.Option(
            help="Time from one value to the next: 15m, 1h, 1d, 1b (business days), 1w, 1mo, 1q. Several values in a "
            "step are averaged.",
            metavar="STEP",
            show_default="the most common",
        ),
    ] = None
    time_format: Annotated[
        str | None,
        typer.Option(
            help="Format of the stamps, as for strptime: %d.%m.%Y, %Y%m%d; %s, ms, us or ns: counted from 1970.",
            metavar="FORMAT",
            show_default="ISO 8601",
        ),
    ] = None
    timezone: Annotated[
        str | None,
        typer.Option(
            help="Time zone of the stamps: Europe/Berlin, UTC, +05:30.", metavar="ZONE", show_default="their own"
        ),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option(
            help="Decimal separator of numbers, a point or a comma. The other one may stand between thousands.",
            parser=_decimal,
            metavar="SIGN",
            show_default="a point, where no comma may be one",
        ),
    ] = None
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""

    @property
    def sizes(self) -> Sizes:
        """As they were settled."""
        assert self.season
        assert self.horizon
        assert self.context
        return Sizes(self.season, self.horizon, self.context)


OPTIONS = ForecastOptions
