"""Checkpoints that a full disk cannot spoil."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from elman.files import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way with checkpoints, written whole or not at all; Lightning leaves a part when the disk is full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_whole(Path(path), data.getvalue())


class Progress(NamedTuple):
    """How far a training had come.

    steps: that it has done.
    seconds: that these took, validations included.
    validated: whether its weights have been validated once.
    """

    steps: int
    seconds: float
    validated: bool


def progress(checkpoint: Path) -> Progress:
    """What a checkpoint has behind it; nothing of it is executed."""
    found = torch.load(checkpoint, weights_only=True, mmap=True)  # of the weights nothing is read
    callbacks = found["callbacks"]
    return Progress(
        int(found["global_step"]), float(callbacks["Clock"]["seconds"]), callbacks["Keeper"]["best"] is not None
    )
