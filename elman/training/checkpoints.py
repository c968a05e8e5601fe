"""Reading and atomic writing of checkpoints."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from elman.io.files import write_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint plugin that writes files atomically; Lightning leaves a partial file when the disk is full.

    Paths are always local files, whereas Lightning interprets the prefixes `http`, `file:` and `~`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(exist_ok=True)
        # The user's callbacks are not restored on resume, and their state may not be loadable with weights_only=True.
        states = checkpoint["callbacks"]
        checkpoint["callbacks"] = {name: states[name] for name in ("Clock", "Keeper")}
        data = io.BytesIO()
        torch.save(checkpoint, data)
        write_whole(Path(path), data.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load(Path(path))


def load(path: Path, mmap: bool = False) -> dict[str, Any]:
    """Load a checkpoint, from any device to the CPU, without unpickling arbitrary objects.

    Args:
        path: the file.
        mmap: map the file into memory, for callers that read only a few small values.
    """
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    return checkpoint


class Progress(NamedTuple):
    """Progress of a training, as saved in a checkpoint.

    Attributes:
        steps: number of completed steps.
        seconds: training time in seconds, validations included.
        best: the lowest validation loss; None before the first validation.
        is_best: whether the weights of the checkpoint have the lowest validation loss.
        has_ended: whether the last validation is done.
        limit: "epochs" or "minutes", if that limit ended the training before validation stopped improving.
    """

    steps: int
    seconds: float
    best: float | None
    is_best: bool
    has_ended: bool
    limit: str | None


def progress(checkpoint: Path) -> Progress:
    """Read the progress from a checkpoint."""
    values = load(checkpoint, mmap=True)
    steps, clock, keeper = int(values["global_step"]), values["callbacks"]["Clock"], values["callbacks"]["Keeper"]
    is_best, has_ended = keeper.get("best_step") == steps, bool(keeper.get("has_ended"))
    return Progress(steps, float(clock["seconds"]), keeper["best"], is_best, has_ended, clock.get("limit"))


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read the model weights from a checkpoint, by parameter name."""
    state = load(checkpoint, mmap=True)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}
