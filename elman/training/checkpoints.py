"""Checkpoints that a full disk cannot spoil."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from elman.files import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way with checkpoints, written whole or not at all; Lightning leaves a part when the disk is full."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_whole(Path(path), data.getvalue())


def steps_done(checkpoint: Path) -> int:
    """How many steps a checkpoint has behind it; nothing of it is executed."""
    return int(torch.load(checkpoint, weights_only=True, mmap=True)["global_step"])
