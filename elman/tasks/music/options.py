"""The options of `elman train music`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import choice, whole
from elman.tasks.supervised_options import SupervisedOptions
from elman.training.options import TrainingOptions

HELP = """Train a model of music that predicts the next frame or the next event.

DATA are MIDI files, folders of these, or JSON with the frames of pieces, each a list of MIDI pitches. JSON that holds
"train", "valid" and "test" is split as it says.
"""
# Validation nats per frame of chorales after 80 epochs: --lr 7e-3 4.72, 4e-3 4.80, 1.2e-2 4.75. With --lr 4e-3:
# --batch 8 4.85, 16 4.98; --batch 16 --dropout 0.15 4.90, 0.3 4.98; --transpose 3 4.82, 5 4.80, 0 4.92 after 15 epochs,
# and higher later.
TRAINING: dict[str, Any] = {"lr": 7e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="MIDI files, folders, or JSON.", metavar="DATA", show_default=False)
]
STEPS = ("frames", "events")
OUTPUTS = ("chain", "sigmoid")


@dataclass(frozen=True, kw_only=True)
class MusicOptions(SupervisedOptions):
    """The options of the task."""

    as_: Annotated[
        str,
        choice("Time steps: all notes that sound at a time, or note-on, note-off and time-shift events", STEPS, "--as"),
    ] = "frames"
    output: Annotated[
        str, choice("Output for frames: a chain of notes from the top, or independent pitches", OUTPUTS)
    ] = "chain"
    grid: Annotated[
        int | None,
        whole(
            "Steps to a quarter note.", 1, 32_767, show_default="4; 1 where the data are JSON, whose steps are frames"
        ),
    ] = None
    transpose: Annotated[int, whole("Data augmentation: transpose by up to this many semitones.", 0)] = 5
    hidden: shared.Hidden = 256
    batch: shared.Batch = 8

    @property
    def steps(self) -> int:
        """Steps to a quarter note, once `resolve` has set them."""
        assert self.grid
        return self.grid


@dataclass(frozen=True, kw_only=True)
class MusicFitOptions(TrainingOptions, MusicOptions):
    """The options of `fit`; `validation` and `test` may be any data that `fit` takes."""

    validation: Any = None
    test: Any = None


OPTIONS = MusicOptions
