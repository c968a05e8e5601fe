"""The options of `elman train music`. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field

from elman import options as shared
from elman.options import Whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a model of music that predicts the next frame or the next event.

DATA are MIDI files, folders of these, or JSON with the frames of pieces, each a list of MIDI pitches. JSON with the
keys "train", "valid" and "test" defines the split.
"""
# Validation nats per frame of chorales after 80 epochs: --lr 7e-3 4.72, 4e-3 4.80, 1.2e-2 4.75. With --lr 4e-3:
# --batch 8 4.85, 16 4.98; --batch 16 --dropout 0.15 4.90, 0.3 4.98; --transpose 3 4.82, 5 4.80, 0 4.92 after 15 epochs,
# and higher later.
TRAINING: dict[str, Any] = {"lr": 7e-3}
SPACE = {
    "lr": "2e-3..2e-2:log", "hidden": "128,256,384", "dropout": "0..0.4", "batch": "4,8,16", "transpose": "0,3,5",
}  # fmt: skip
INCOMPARABLE = ("as_", "grid")
DATA = Annotated[
    list[Path] | None, typer.Argument(help="MIDI files, folders, or JSON.", metavar="DATA", show_default=False)
]


class MusicOptions(SupervisedOptions):
    """The options of the task."""

    as_: Annotated[
        Literal["frames", "events"],
        Field(
            alias="as",
            description="Time steps: all notes that sound at a time, or note-on, note-off and time-shift events",
        ),
    ] = "frames"
    output: Annotated[
        Literal["chain", "sigmoid"],
        Field(description="Output for frames: a chain of notes from the top, or independent pitches"),
    ] = "chain"
    grid: Annotated[
        Whole | None,
        Field(ge=1, le=32_767, description="Steps per quarter note."),
        typer.Option(show_default="4; 1 for JSON, where each step is a frame"),
    ] = None
    transpose: Annotated[
        Whole, Field(ge=0, description="Data augmentation: transpose by up to this many semitones.")
    ] = 5
    hidden: shared.Hidden = 256
    batch: shared.Batch = 8

    @property
    def steps(self) -> int:
        """Steps to a quarter note, once `resolve` has set them."""
        assert self.grid
        return self.grid


class MusicFitOptions(TrainingOptions, MusicOptions):
    """The options of `fit`."""


OPTIONS = MusicOptions
