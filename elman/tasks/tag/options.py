"""The options of `elman train tag`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a tagger: a label for each word of a sentence, such as parts of speech or names.

DATA are sentences with a word to a line and an empty line behind each, in columns (CoNLL), or CoNLL-U. Documents, as
"# newdoc" or "-DOCSTART-" mark them, are never on both sides of a split.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="CoNLL columns or CoNLL-U.", metavar="DATA", show_default=False)
]


@dataclass(frozen=True, kw_only=True)
class TagOptions(SupervisedOptions):
    """The options of the task."""

    column: Annotated[
        str,
        typer.Option(
            help="Column of the labels: a number from 1, or a name of CoNLL-U.",
            metavar="COLUMN",
            show_default="upos in CoNLL-U, else the last",
        ),
    ] = ""
    words: Annotated[
        str,
        typer.Option(help="Column of the words.", metavar="COLUMN", show_default="form in CoNLL-U, else the first"),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    embed: Annotated[int, whole("Size of the word embeddings.", 1)] = 128
    characters: Annotated[int, whole("Size of the recurrent layer over characters.", 1)] = 64
    dropout: shared.Dropout = 0.5
    word_dropout: Annotated[float, real("Word dropout: share of words masked in training.", 0, 1)] = 0.2


@dataclass(frozen=True, kw_only=True)
class TagFitOptions(TrainingOptions, TagOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = TagOptions
