"""What `elman train transcribe` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network that hears a recording and writes down what is said, character by character.

DATA is a table (CSV, TSV, JSON lines or Parquet) with a column "path" of WAV or FLAC files, relative to its own folder,
and a column "text".
"""
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="A table of recordings and their texts.", metavar="DATA", show_default=False),
]


@dataclass(frozen=True)
class TranscribeOptions(SupervisedOptions):
    """The options by their names on the command line."""

    path: Annotated[str, typer.Option(help="The column of the files.", metavar="NAME")] = "path"
    text: Annotated[str, typer.Option(help="The column of the texts.", metavar="NAME")] = "text"
    group: Annotated[
        str,
        typer.Option(
            help="A column, of speakers or takes; what is alike in it is never on both sides of the split.",
            metavar="NAME",
            show_default="none",
        ),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    rate: Annotated[int, whole("Samples a second that every recording is brought to.", 1000, 192_000)] = 8000
    bands: Annotated[int, whole("Bands of the mel scale that the spectrum is summed up in.", 1, 256)] = 40
    stack: Annotated[int, whole("Frames of 10 ms that make up a step.", 1, 20)] = 2
    hidden: shared.Hidden = 128
    layers: shared.Layers = 2
    dropout: shared.Dropout = 0.5
    time_mask: Annotated[
        float, real("Largest share of a recording's steps that are hidden, in one piece, in training.", 0, 1)
    ] = 0.2
    band_mask: Annotated[
        float, real("Largest share of the bands that are hidden, side by side, in training.", 0, 1)
    ] = 0.2
    beam: Annotated[int, whole("Beam width: texts followed side by side in writing; 1: the likeliest path's.", 1)] = 8
    ngram_weight: Annotated[
        float, real("Weight of a character n-gram of the training's texts in writing; 0: none.", 0)
    ] = 0.5


OPTIONS = TranscribeOptions
