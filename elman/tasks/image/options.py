"""What `elman train image` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import choice, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network that reads an image column by column, or row by row, and says what it shows.

DATA is a folder with a folder of images for each label; a CSV file with a column "label" and a column for
each pixel; or IDX files, images and labels. Without it: scikit-learn's 1,797 digits.
"""
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Images; without it, scikit-learn's digits.", metavar="DATA", show_default=False),
]
READ = ("columns", "rows")


@dataclass(frozen=True)
class ImageOptions(SupervisedOptions):
    """The options by their names on the command line."""

    hidden: shared.Hidden = 96
    read: Annotated[str, choice("What the steps are", READ)] = "columns"
    size: Annotated[
        int | None, whole("Pixels to a side that images are scaled to.", 1, show_default="as the first image is")
    ] = None


OPTIONS = ImageOptions
