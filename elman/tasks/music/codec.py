"""Encoding of pieces of music as time steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data.examples import Example
from elman.data.midi import Notes
from elman.io.schema import Size
from elman.tasks.codec import Codec
from elman.tasks.music.model import MusicBatch, pitch_range
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import event_times, notes_of_events, notes_of_frames

# The default length of generated pieces.
LENGTH_QUARTERS = 64  # quarter notes, as frames
LENGTH_EVENTS = 500


@dataclass(frozen=True)
class MusicCodec(Codec):
    """Frames or events. A prediction is the nats of each step, (T,).

    Attributes:
        steps: "frames" or "events".
        grid: steps to a quarter note.
    """

    steps: Literal["frames", "events"]
    grid: Size

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: MusicOptions) -> "MusicCodec":
        return cls(options.as_, options.steps)

    @override
    def model_args(self, options: MusicOptions) -> dict[str, Any]:
        names = ("cell", "hidden", "layers", "dropout", "transpose", "bptt")
        output = {"output": options.output if self.steps == "frames" else "events"}
        return output | {name: getattr(options, name) for name in names}

    def notes(self, steps: Any) -> Notes:
        """Return the notes of frames (T, 128) or events (T,)."""
        return notes_of_frames(steps) if self.steps == "frames" else notes_of_events(steps)

    def times(self, steps: Any) -> Any:
        """Return the step of the grid of each time step, (T,)."""
        return np.arange(len(steps)) if self.steps == "frames" else event_times(steps)

    @property
    def default_length(self) -> int:
        """The number of time steps to generate by default."""
        return LENGTH_QUARTERS * self.grid if self.steps == "frames" else LENGTH_EVENTS

    @override
    def encode(self, example: Example) -> tuple[Any, int]:
        steps = torch.from_numpy(example.input)
        return (steps, *pitch_range(steps)), len(steps)

    @override
    def collate(self, encoded: Sequence[Any]) -> MusicBatch:
        pieces = [steps if steps.dim() == 1 else steps.float() for steps, _, _ in encoded]
        low, high = (torch.tensor([piece[i] for piece in encoded]) for i in (1, 2))
        return MusicBatch(pad_sequence(pieces), torch.tensor([len(steps) for steps in pieces]), low, high)

    @override
    def predict(self, model: Any, batch: MusicBatch) -> list[Any]:
        nats = model.nats(batch).cpu().double().numpy()
        return [nats[:length, b] for b, length in enumerate(batch.lengths.tolist())]

    @override
    def to_row(self, prediction: Any) -> dict[str, Any]:
        return {self.steps: len(prediction), "nats_per_step": round(float(prediction.mean()), 4)}
