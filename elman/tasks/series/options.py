"""The options of `elman train series`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import BeforeValidator, Field

from elman import options as shared
from elman.options import Share, Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a model that maps sequences of numbers to a label or to a number.

DATA are .ts or .arff files of the UCR and UEA archives; tables with one row per step and the columns --series and
--label or --target, whose other columns are channels; or a folder with one folder of CSV files per label.
"""
PATIENCE = 10
TRAINING: dict[str, Any] = {"lr": 2e-3}
SPACE = {
    "lr": "5e-4..1e-2:log", "cell": "gru,lstm", "hidden": "32,64,128", "filters": "32,64,128", "dropout": "0..0.6",
    "scale": "channel,series", "warp": "0..0.4",
}  # fmt: skip
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Files of series, or a folder.", metavar="DATA", show_default=False),
]
COLUMN = typer.Option(metavar="COLUMN", show_default=False)


class SeriesOptions(SupervisedOptions):
    """The options of the task."""

    series: Annotated[str | None, Field(description="Table: column that identifies the series."), COLUMN] = None
    time: Annotated[
        str | None, Field(description="Table: column of numbers or ISO 8601 times that orders the steps."), COLUMN
    ] = None
    label: Annotated[str | None, Field(description="Table: column of the labels of the series."), COLUMN] = None
    target: Annotated[str | None, Field(description="Table: column of the numbers to predict."), COLUMN] = None
    channels: Annotated[
        list[str] | None,
        BeforeValidator(shared.listed, json_schema_input_type=str | list[str] | None),
        Field(description="Table: columns of the channels; repeat it for several."),
        typer.Option(metavar="COLUMN", show_default="all other columns"),
    ] = None
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    hidden: shared.Hidden = 64
    dropout: shared.Dropout = 0.3
    batch: shared.Batch = 16
    scale: Annotated[
        Literal["channel", "series"],
        Field(description="Standardize each channel over all training series (channel), or in each series (series)"),
    ] = "channel"
    steps: Annotated[
        Whole, Field(ge=1, description="Series longer than about this are shortened: steps are averaged.")
    ] = 512
    filters: Annotated[
        Whole, Field(ge=0, description="Filters of the convolutions before the recurrent layers; 0: none.")
    ] = 64
    members: Annotated[Whole, Field(ge=1, le=64, description="Networks of the ensemble, trained together.")] = 5
    hold_out: Annotated[
        Literal["part", "folds"] | None,
        Field(
            description="Validate all networks on a part of the series (part), or each on a tenth that the others are "
            "trained on (folds)"
        ),
        typer.Option(show_default="folds for fewer than 500 series"),
    ] = None
    smoothing: shared.Smoothing = 0.1
    jitter: Annotated[
        float, Field(ge=0, description="Augmentation: standard deviation of noise, in those of the channels.")
    ] = 0.0
    warp: Annotated[
        Share,
        Field(description="Augmentation: largest share of a series that is cut off, and of tempo changes."),
    ] = 0.0
    minirocket: Annotated[
        bool,
        Field(description="Also fit MiniRocket of the package aeon (extra aeon), as a baseline."),
        typer.Option("--minirocket"),
    ] = False


class SeriesFitOptions(TrainingOptions, SeriesOptions):
    """The options of `fit`."""


OPTIONS = SeriesOptions
