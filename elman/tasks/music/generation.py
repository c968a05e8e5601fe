"""Music that is generated step by step, as JSON."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from elman.data import midi
from elman.tasks.music.codec import MusicCodec
from elman.tasks.music.compose import composer_of, notes_of
from elman.tasks.music.data import frames_of
from elman.tasks.music.steps import OFF, ON, PITCHES, SHIFT, notes_of_frames
from elman.tasks.sampled_generation import SampledGeneration
from elman.tasks.task import check_steps

OFFSETS = {"on": ON, "off": OFF, "shift": SHIFT - 1}  # of the events


class MusicGeneration(SampledGeneration[Any]):
    """A piece that is composed step by step. A step is {"pitches": [60, 64]}, or an event as {"on": 60}.

    Args:
        model: in evaluation mode.
        codec: of the model.
        seed: the same seed gives the same music; None: a different one each time.
    """

    def __init__(self, model: Any, codec: MusicCodec, seed: int | None) -> None:
        self._composer: Any = composer_of(model, seed)
        super().__init__(self._composer)
        self._model, self._codec = model, codec

    @override
    def read(self, prompt: Sequence[Sequence[int]], max_steps: int | None = None) -> None:
        """Continue with frames of MIDI pitches."""
        steps = self._composer.encode(notes_of_frames(frames_of("prompt", prompt)))
        check_steps("prompt", len(steps), max_steps)
        self._composer.read(steps)

    @override
    def output(self, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return the notes (pitch, first step, end), the number of steps, and a MIDI file in base64."""
        piece = notes_of(self._model, [self._of_dict(step) for step in steps])
        file = b64encode(midi.to_bytes(piece, self._codec.grid)).decode()
        return {"notes": piece.notes.tolist(), "grid": self._codec.grid, "midi": file}

    @override
    def to_json(self, step: Any) -> dict[str, Any]:
        if self._codec.steps == "frames":
            return {"pitches": np.flatnonzero(step).tolist()}
        kind = "shift" if step >= SHIFT else "off" if step >= OFF else "on"
        return {kind: step - OFFSETS[kind]}

    def _of_dict(self, step: dict[str, Any]) -> Any:
        if self._codec.steps == "frames":
            return np.isin(np.arange(PITCHES), step["pitches"])
        return next(OFFSETS[kind] + value for kind, value in step.items())
