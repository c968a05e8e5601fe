"""The options of `elman train tag`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import Field, model_validator

from elman import options as shared
from elman.options import Share, Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a tagger: a label for each word of a sentence, such as parts of speech or names.

DATA has one word per line, in columns (CoNLL) or CoNLL-U, and an empty line after each sentence. A document, which
begins with "# newdoc" or "-DOCSTART-", is never divided by a split. With --stream, DATA are Parquet or Arrow files, or
folders of them, with a list of words and a list of labels in each row.
"""
PATIENCE = 3
EMBED, SMOOTHING = 128, 0.05
TRAINING: dict[str, Any] = {"lr": 4e-3, "average": 0.2}
SPACE = {
    "lr": "1e-3..1e-2:log", "hidden": "64,128,256", "embed": "64,128,256", "characters": "32,64,128",
    "dropout": "0.2..0.7", "word_dropout": "0..0.4",
}  # fmt: skip
DATA = Annotated[
    list[Path] | None, typer.Argument(help="CoNLL columns or CoNLL-U.", metavar="DATA", show_default=False)
]


class TagOptions(SupervisedOptions):
    """The options of the task."""

    column: Annotated[
        str,
        Field(description="Column of the labels: a number from 1, or a name of CoNLL-U."),
        typer.Option(metavar="COLUMN", show_default="upos in CoNLL-U, else the last; labels with --stream"),
    ] = ""
    words: Annotated[
        str,
        Field(description="Column of the words."),
        typer.Option(metavar="COLUMN", show_default="form in CoNLL-U, else the first; words with --stream"),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    stream: shared.Stream = False
    shuffle_rows: shared.ShuffleRows = 10_000
    embed: Annotated[
        Whole | None,
        Field(ge=1, description="Size of the word embeddings."),
        typer.Option(show_default=f"{EMBED}; with --vectors, that of the vectors"),
    ] = None
    vectors: shared.Vectors = None
    characters: Annotated[Whole, Field(ge=1, description="Size of the recurrent layer over characters.")] = 64
    dropout: shared.Dropout = 0.5
    word_dropout: Annotated[Share, Field(description="Word dropout: share of words masked in training.")] = 0.2
    smoothing: Annotated[
        Share | None,
        Field(description="Label smoothing."),
        typer.Option(show_default=f"{SMOOTHING:g}, with --crf 0"),
    ] = None
    class_weight: shared.ClassWeight = None
    crf: Annotated[
        bool,
        Field(description="Score the labels of a sentence together, by a conditional random field: names, spans."),
        typer.Option("--crf"),
    ] = False

    _default_embed = model_validator(mode="before")(shared.default_embed(EMBED))


class TagFitOptions(TrainingOptions, TagOptions):
    """The options of `fit`."""


OPTIONS = TagOptions
