"""What `elman train caption` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import whole
from elman.tasks.text_output_options import TextOutputOptions

HELP = """Train a network that reads an image row by row and writes a text about it, character by character.

DATA is a CSV file with a column "path" of image files and a column "text". Without it: scikit-learn's 1,797 digits,
spelled out.
"""
# By exact match on the validation parts of seeds 0, 1 and 2 of the digits, in percent: 40 epochs with --dropout 0.3
# 96.5, 0.5 97.0, --hidden 128 97.0, --lr 2e-3 95.5; 80 epochs with 0.3 95.6, with 0.5 98.0.
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="Images with texts; without it, scikit-learn's digits.", metavar="DATA", show_default=False),
]


@dataclass(frozen=True)
class CaptionOptions(TextOutputOptions):
    """The options by their names on the command line."""

    hidden: shared.Hidden = 96
    dropout: shared.Dropout = 0.5
    path: Annotated[str, typer.Option(help="The column of the files.", metavar="NAME")] = "path"
    text: Annotated[str, typer.Option(help="The column of the texts.", metavar="NAME")] = "text"
    quote: shared.Quote = ""
    size: Annotated[
        int | None, whole("Pixels to a side that images are scaled to.", 1, show_default="as the first image is")
    ] = None


OPTIONS = CaptionOptions
