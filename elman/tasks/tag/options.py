"""What `elman train tag` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network that gives every word of a sentence a label: parts of speech, names.

DATA are sentences with a word to a line and an empty line behind each, in columns (CoNLL), or CoNLL-U. Documents, as
"# newdoc" or "-DOCSTART-" mark them, are never on both sides of a split.
"""
PATIENCE = 3
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="CoNLL columns or CoNLL-U.", metavar="DATA", show_default=False)
]


@dataclass(frozen=True)
class TagOptions(SupervisedOptions):
    """The options by their names on the command line."""

    column: Annotated[
        str,
        typer.Option(
            help="The column of the labels: a number from 1, or a name of CoNLL-U.",
            metavar="COLUMN",
            show_default="upos in CoNLL-U, else the last",
        ),
    ] = ""
    words: Annotated[
        str,
        typer.Option(help="The column of the words.", metavar="COLUMN", show_default="form in CoNLL-U, else the first"),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    embed: Annotated[int, whole("Width of the embedding of words.", 1)] = 128
    characters: Annotated[int, whole("Width of the recurrent layer over the characters of a word.", 1)] = 64
    dropout: shared.Dropout = 0.5
    word_dropout: Annotated[float, real("Share of the words that are hidden in training.", 0, 1)] = 0.2


OPTIONS = TagOptions
