"""What `elman train classify` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network that reads a text and says what kind of text it is.

DATA is a table (CSV, TSV, JSON lines, Parquet) with a column of texts and a column of labels; or a file of lines for
each label: reviews.pos and reviews.neg, or pos.txt and neg.txt.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 2e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="A table, or a file for each label.", metavar="DATA", show_default=False)
]


@dataclass(frozen=True)
class ClassifyOptions(SupervisedOptions):
    """The options by their names on the command line."""

    text: Annotated[str, typer.Option(help="The column of the texts.", metavar="COLUMN")] = "text"
    label: Annotated[str, typer.Option(help="The column of the labels.", metavar="COLUMN")] = "label"
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    hidden: shared.Hidden = 64
    embed: Annotated[int, whole("Width of the embedding of words.", 1)] = 64
    dropout: shared.Dropout = 0.5
    pieces: Annotated[int, whole("How many embeddings the pieces of words share.", 1)] = 20_000
    word_dropout: Annotated[float, real("Share of the words that are hidden in training.", 0, 1)] = 0.4
    smoothing: Annotated[
        float, real("Label smoothing: the share of what is right that all labels share in, in training.", 0, 1)
    ] = 0.2


OPTIONS = ClassifyOptions
