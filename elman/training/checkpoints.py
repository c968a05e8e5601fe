"""Checkpoints that a full disk cannot spoil."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from elman.io.files import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints written whole or not at all; Lightning leaves a part when the disk is full.

    A path is the name of a file; Lightning takes one that begins with `http`, `file:` or `~` for something else.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(exist_ok=True)
        # Callbacks of users are not there when a training is resumed, and may save what cannot be loaded safely.
        states = checkpoint["callbacks"]
        checkpoint["callbacks"] = {name: states[name] for name in ("Clock", "Keeper")}
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_whole(Path(path), data.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        checkpoint: dict[str, Any] = torch.load(Path(path), weights_only=True)
        return checkpoint


class Progress(NamedTuple):
    """How far a training had come.

    steps: that it has done.
    seconds: that these took, validations included.
    best: the lowest validation loss; None before the first validation.
    is_best: whether the weights of the checkpoint are those of the lowest validation loss.
    has_ended: whether its last validation is done.
    limit: "epochs" or "minutes", if one of these ended it before validation stopped improving.
    """

    steps: int
    seconds: float
    best: float | None
    is_best: bool
    has_ended: bool
    limit: str | None


def progress(checkpoint: Path) -> Progress:
    """What a checkpoint has behind it; nothing of it is executed."""
    found = _read(checkpoint)
    steps, clock, keeper = int(found["global_step"]), found["callbacks"]["Clock"], found["callbacks"]["Keeper"]
    is_best, has_ended = keeper.get("best_step") == steps, bool(keeper.get("has_ended"))
    return Progress(steps, float(clock["seconds"]), keeper["best"], is_best, has_ended, clock.get("limit"))


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """The model's weights of a checkpoint."""
    state = _read(checkpoint)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


def _read(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(checkpoint, weights_only=True, mmap=True)  # read as far as it is used
    return found
