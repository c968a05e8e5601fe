"""The options of `elman train transcribe`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import real, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a speech recognizer that transcribes recordings, character by character.

DATA is a table (CSV, TSV, JSON lines or Parquet) with a column "path" of WAV or FLAC files, relative to its own folder,
and a column "text".
"""
TRAINING: dict[str, Any] = {"lr": 4e-3}
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="A table of recordings and their texts.", metavar="DATA", show_default=False),
]


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(SupervisedOptions):
    """The options of the task."""

    path: Annotated[str, typer.Option(help="Column of the file names.", metavar="NAME")] = "path"
    text: Annotated[str, typer.Option(help="Column of the texts.", metavar="NAME")] = "text"
    group: Annotated[
        str,
        typer.Option(
            help="Column of groups, such as speakers, which are never split.",
            metavar="NAME",
            show_default="none",
        ),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    rate: Annotated[int, whole("Sample rate in Hz, to which recordings are resampled.", 1000, 192_000)] = 8000
    bands: Annotated[int, whole("Mel bands.", 1, 256)] = 40
    stack: Annotated[int, whole("Frames of 10 ms in a time step.", 1, 20)] = 2
    hidden: shared.Hidden = 128
    layers: shared.Layers = 2
    dropout: shared.Dropout = 0.5
    time_mask: Annotated[float, real("SpecAugment: largest share of the time steps that is masked.", 0, 1)] = 0.2
    band_mask: Annotated[float, real("SpecAugment: largest share of the bands that is masked.", 0, 1)] = 0.2
    beam: Annotated[int, whole("Beam width; 1: the likeliest path.", 1)] = 8
    ngram_weight: Annotated[float, real("Weight of a character n-gram language model in the search; 0: none.", 0)] = 0.5


@dataclass(frozen=True, kw_only=True)
class TranscribeFitOptions(TrainingOptions, TranscribeOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = TranscribeOptions
