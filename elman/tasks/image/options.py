"""The options of `elman train image`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field

from elman import options as shared
from elman.options import Share, Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train an image classifier that reads images column by column, or row by row.

DATA is a folder with one folder of images per label; a CSV file with a column "label" and a column for
each pixel; or IDX files, images and labels. Images in colour are read as such. Without it: scikit-learn's 1,797 digits.
"""
TRAINING: dict[str, Any] = {"lr": 3e-3}
SPACE = {
    "lr": "1e-3..2e-2:log", "cell": "gru,lstm", "hidden": "48,96,192", "layers": "1,2", "dropout": "0..0.5",
    "batch": "16,32,64", "filters": "8,16,32", "perturb": "0..0.3",
}  # fmt: skip
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Images; without it, scikit-learn's digits.", metavar="DATA", show_default=False),
]


class ImageOptions(SupervisedOptions):
    """The options of the task."""

    hidden: shared.Hidden = 96
    read: Annotated[Literal["columns", "rows"], Field(description="Time steps")] = "columns"
    size: Annotated[
        Whole | None,
        Field(ge=1, description="Image side in pixels, to which images are scaled."),
        typer.Option(show_default="size of the first image"),
    ] = None
    grey: Annotated[bool, Field(description="Read images in colour as grey."), typer.Option("--grey")] = False
    filters: Annotated[
        Whole, Field(ge=0, description="Filters of the convolutions before the recurrent layers; 0: none.")
    ] = 16
    perturb: Annotated[
        Share,
        Field(
            description="Augmentation: largest rotation (radians), shear, and relative change of size in training, "
            "with bends to match; 0: none."
        ),
    ] = 0.15
    flip: Annotated[
        bool,
        Field(description="Augmentation: mirror half of the images, for photographs; not for letters and digits."),
        typer.Option("--flip"),
    ] = False


class ImageFitOptions(TrainingOptions, ImageOptions):
    """The options of `fit`."""


OPTIONS = ImageOptions
