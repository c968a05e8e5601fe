"""The options of `elman train caption`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field

from elman import options as shared
from elman.options import Whole
from elman.tasks.text_output_options import TextOutputOptions
from elman.training.options import TrainingOptions

HELP = """Train a model that captions images.

DATA is a CSV file with a column "path" of image files and a column "text". Without it: scikit-learn's 1,797 digits,
spelled out.
"""
# Exact match on validation digits in percent, mean of seeds 0, 1 and 2. After 40 epochs: --dropout 0.3 96.5, 0.5 97.0,
# --hidden 128 97.0, --lr 2e-3 95.5. After 80 epochs: --dropout 0.3 95.6, 0.5 98.0.
TRAINING: dict[str, Any] = {"lr": 4e-3}
SPACE = {
    "lr": "1e-3..1e-2:log", "hidden": "64,96,128", "embed": "32,64,128", "dropout": "0.2..0.7", "smoothing": "0..0.2",
    "batch": "16,32,64",
}  # fmt: skip
INCOMPARABLE = ("tokens", "vocabulary")
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Images with texts; without it, scikit-learn's digits.", metavar="DATA", show_default=False),
]


class CaptionOptions(TextOutputOptions):
    """The options of the task."""

    hidden: shared.Hidden = 96
    dropout: shared.Dropout = 0.5
    path: Annotated[str, Field(description="Column of the file names."), typer.Option(metavar="NAME")] = "path"
    text: Annotated[str, Field(description="Column of the texts."), typer.Option(metavar="NAME")] = "text"
    quote: shared.Quote = ""
    size: Annotated[
        Whole | None,
        Field(ge=1, description="Image side in pixels, to which images are scaled."),
        typer.Option(show_default="size of the first image"),
    ] = None


class CaptionFitOptions(TrainingOptions, CaptionOptions):
    """The options of `fit`."""


OPTIONS = CaptionOptions
