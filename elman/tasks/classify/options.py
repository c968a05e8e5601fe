"""The options of `elman train classify`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, model_validator

from elman import options as shared
from elman.options import Share, Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a text classifier.

DATA is a table (CSV, TSV, JSON lines, Parquet) with a column of texts and a column of labels; or a file of lines for
each label: reviews.pos and reviews.neg, or pos.txt and neg.txt. With --stream, Parquet or Arrow files, or folders of
them.
"""
PATIENCE = 3
EMBED = 64
TRAINING: dict[str, Any] = {"lr": 2e-3}
SPACE = {
    "lr": "5e-4..1e-2:log", "hidden": "32,64,128", "embed": "32,64,128", "dropout": "0.2..0.7",
    "word_dropout": "0..0.6", "smoothing": "0..0.3",
}  # fmt: skip
INCOMPARABLE = ("multi_label", "separator")
DATA = Annotated[
    list[Path] | None, typer.Argument(help="A table, or a file for each label.", metavar="DATA", show_default=False)
]


class ClassifyOptions(SupervisedOptions):
    """The options of the task."""

    text: Annotated[str, Field(description="Column of the texts."), typer.Option(metavar="COLUMN")] = "text"
    label: Annotated[str, Field(description="Column of the labels."), typer.Option(metavar="COLUMN")] = "label"
    multi_label: Annotated[
        bool, Field(description="A text may have several labels, or none."), typer.Option("--multi-label")
    ] = False
    separator: Annotated[
        str,
        Field(min_length=1, description="With --multi-label: what is between the labels of a text."),
        typer.Option(metavar="TEXT"),
    ] = ","
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    stream: shared.Stream = False
    shuffle_rows: shared.ShuffleRows = 10_000
    hidden: shared.Hidden = 64
    embed: Annotated[
        Whole | None,
        Field(ge=1, description="Size of the word embeddings."),
        typer.Option(show_default=f"{EMBED}; with --vectors, that of the vectors"),
    ] = None
    vectors: shared.Vectors = None
    dropout: shared.Dropout = 0.5
    pieces: Annotated[Whole, Field(ge=1, description="Size of the hash table of character n-grams.")] = 20_000
    pairs: Annotated[
        Whole,
        Field(ge=0, description="Word pairs of the naive Bayes part, the most frequent ones; 0: no such part."),
    ] = 200_000
    word_dropout: Annotated[Share, Field(description="Word dropout: share of words masked in training.")] = 0.4
    smoothing: shared.Smoothing = 0.2
    class_weight: shared.ClassWeight = None

    _default_embed = model_validator(mode="before")(shared.default_embed(EMBED))


class ClassifyFitOptions(TrainingOptions, ClassifyOptions):
    """The options of `fit`."""


OPTIONS = ClassifyOptions
