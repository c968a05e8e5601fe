"""The options of `elman train image`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import choice, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train an image classifier that reads images column by column, or row by row.

DATA is a folder with a folder of images for each label; a CSV file with a column "label" and a column for
each pixel; or IDX files, images and labels. Without it: scikit-learn's 1,797 digits.
"""
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Images; without it, scikit-learn's digits.", metavar="DATA", show_default=False),
]
READ = ("columns", "rows")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(SupervisedOptions):
    """The options of the task."""

    hidden: shared.Hidden = 96
    read: Annotated[str, choice("Time steps", READ)] = "columns"
    size: Annotated[
        int | None,
        whole("Image side in pixels, to which images are scaled.", 1, show_default="size of the first image"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ImageFitOptions(TrainingOptions, ImageOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = ImageOptions
