"""The options of `elman train classify`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a text classifier.

DATA is a table (CSV, TSV, JSON lines, Parquet) with a column of texts and a column of labels; or a file of lines for
each label: reviews.pos and reviews.neg, or pos.txt and neg.txt.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 2e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="A table, or a file for each label.", metavar="DATA", show_default=False)
]


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(SupervisedOptions):
    """The options of the task."""

    text: Annotated[str, typer.Option(help="Column of the texts.", metavar="COLUMN")] = "text"
    label: Annotated[str, typer.Option(help="Column of the labels.", metavar="COLUMN")] = "label"
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    hidden: shared.Hidden = 64
    embed: Annotated[int, whole("Size of the word embeddings.", 1)] = 64
    dropout: shared.Dropout = 0.5
    pieces: Annotated[int, whole("Size of the hash table of character n-grams.", 1)] = 20_000
    word_dropout: Annotated[float, real("Word dropout: share of words masked in training.", 0, 1)] = 0.4
    smoothing: Annotated[float, real("Label smoothing.", 0, 1)] = 0.2


@dataclass(frozen=True, kw_only=True)
class ClassifyFitOptions(TrainingOptions, ClassifyOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = ClassifyOptions
