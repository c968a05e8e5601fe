"""What `elman train music` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elman import options as shared
from elman.options import choice, whole
from elman.tasks.supervised_options import SupervisedOptions

HELP = """Train a network on pieces of music: what sounds next, given all that has sounded.

DATA are MIDI files, folders of these, or JSON with the frames of pieces, each a list of MIDI pitches. JSON that holds
"train", "valid" and "test" is split as it says.
"""
# By validation on the chorales, after 80 epochs each, in nats per frame: --lr 7e-3 4.72, 4e-3 4.80, 1.2e-2 4.75; with
# 4e-3, --batch 8 4.85 and 16 4.98, --dropout 0.15 4.90 and 0.3 4.98 of batches of 16, --transpose 3 4.82 and 5 4.80;
# without --transpose 4.92, after 15 epochs, and worse then.
TRAINING: dict[str, Any] = {"lr": 7e-3}
DATA = Annotated[
    list[Path] | None, typer.Argument(help="MIDI files, folders, or JSON.", metavar="DATA", show_default=False)
]
STEPS = ("frames", "events")
OUTPUTS = ("chain", "sigmoid")


@dataclass(frozen=True)
class MusicOptions(SupervisedOptions):
    """The options by their names on the command line."""

    as_: Annotated[
        str, choice("What the steps are: all that sounds at a time, or notes on, notes off and time", STEPS, "--as")
    ] = "frames"
    output: Annotated[
        str, choice("How a frame is said: note by note from the top, or every pitch by itself", OUTPUTS)
    ] = "chain"
    grid: Annotated[
        int | None,
        whole(
            "Steps to a quarter note.", 1, 32_767, show_default="4; 1 where the data are JSON, whose steps are frames"
        ),
    ] = None
    transpose: Annotated[int, whole("Semitones up or down that pieces are moved in training, at most.", 0)] = 5
    hidden: shared.Hidden = 256
    batch: shared.Batch = 8

    @property
    def steps(self) -> int:
        """To a quarter note, as they were settled."""
        assert self.grid
        return self.grid


OPTIONS = MusicOptions
