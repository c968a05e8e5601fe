"""The options of `elman train transcribe`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field

from elman import options as shared
from elman.io.schema import BeamWidth, SampleRate
from elman.options import Real, Share, Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a speech recognizer that transcribes recordings, character by character.

DATA is a table (CSV, TSV, JSON lines or Parquet) with a column "path" of WAV or FLAC files, relative to its own folder,
and a column "text".
"""
TRAINING: dict[str, Any] = {"lr": 4e-3, "average": 0.1}
SPACE = {
    "lr": "1e-3..1e-2:log", "hidden": "96,128,192", "layers": "1,2,3", "dropout": "0.2..0.6", "time_mask": "0..0.3",
    "band_mask": "0..0.3",
}  # fmt: skip
Seconds = Annotated[Real, Field(ge=0, le=10)]
DATA = Annotated[
    list[Path] | None,
    typer.Argument(help="A table of recordings and their texts.", metavar="DATA", show_default=False),
]


class TranscribeOptions(SupervisedOptions):
    """The options of the task."""

    path: Annotated[str, Field(description="Column of the file names."), typer.Option(metavar="NAME")] = "path"
    text: Annotated[str, Field(description="Column of the texts."), typer.Option(metavar="NAME")] = "text"
    group: Annotated[
        str,
        Field(description="Column of groups, such as speakers, which are never split."),
        typer.Option(metavar="NAME", show_default="none"),
    ] = ""
    encoding: shared.Encoding = "utf-8"
    quote: shared.Quote = ""
    rate: Annotated[SampleRate, Field(description="Sample rate in Hz, to which recordings are resampled.")] = 8000
    bands: Annotated[Whole, Field(ge=1, le=256, description="Mel bands.")] = 40
    stack: Annotated[Whole, Field(ge=1, le=20, description="Number of 10 ms frames in a time step.")] = 3
    normalize: Annotated[
        Literal["all_features", "per_feature"],
        Field(description="Subtract the mean of a recording over all its bands, or the mean of each band"),
    ] = "all_features"
    perturb: Annotated[
        Share,
        Field(
            description="Augmentation: largest relative change of speaking rate and vocal tract; pitch: twice as much."
        ),
    ] = 0.08
    noise: Annotated[
        Real, Field(ge=0, description="Augmentation: largest level of added noise, relative to that of the recording.")
    ] = 0.3
    reverb: Annotated[Seconds, Field(description="Augmentation: longest reverberation time, in seconds.")] = 0.3
    equalize: Annotated[
        Real, Field(ge=0, le=30, description="Augmentation: standard deviation of random gains of bands, in dB.")
    ] = 6.0
    contrast: Annotated[
        Real, Field(ge=0, le=1, description="Augmentation: standard deviation of random contrast of the features.")
    ] = 0.2
    silence: Annotated[
        Seconds, Field(description="Augmentation: longest silence before and after a recording, in seconds.")
    ] = 0.1
    formants: Annotated[
        Real,
        Field(ge=0, le=1, description="Augmentation: standard deviation of random factors of the formants (relative)."),
    ] = 0.1
    rhythm: Annotated[
        Real,
        Field(ge=0, le=1, description="Augmentation: standard deviation of the local speaking rate (relative)."),
    ] = 0.2
    filters: Annotated[
        Whole, Field(ge=0, description="Filters of the convolutions before the recurrent layers; 0: no convolutions.")
    ] = 16
    hidden: shared.Hidden = 128
    layers: shared.Layers = 1
    dropout: shared.Dropout = 0.4
    time_mask: Annotated[Share, Field(description="SpecAugment: largest share of the time steps that is masked.")] = 0.1
    band_mask: Annotated[Share, Field(description="SpecAugment: largest share of the bands that is masked.")] = 0.1
    beam: Annotated[BeamWidth, Field(description="Beam width; 1: the most probable path.")] = 8
    ngram_weight: Annotated[
        Real, Field(ge=0, description="Weight of a character n-gram language model in the search; 0: none.")
    ] = 2.0


class TranscribeFitOptions(TrainingOptions, TranscribeOptions):
    """The options of `fit`."""


OPTIONS = TranscribeOptions
