"""Reading, checking and atomic writing of checkpoints."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor, nn

from elman.io.files import write_whole
from elman.io.run_folder import BEST, LAST, Run, check_tensors
from elman.io.schema import DAMAGE, restoring

# What torch and Lightning raise on damaged checkpoints.
DAMAGED_FILE = (*DAMAGE, OSError, EOFError, AssertionError, MemoryError, struct.error, pickle.UnpicklingError)
Limits = tuple[float | None, float | None]  # epochs and minutes


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint plugin that writes files atomically; Lightning leaves a partial file when the disk is full.

    Paths are always local files, whereas Lightning interprets the prefixes `http`, `file:` and `~`.

    Args:
        run: the run, which records the digest of its checkpoint.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # The user's callbacks are not restored on resume, and their state may not be loadable with weights_only=True.
        states = checkpoint["callbacks"]
        checkpoint["callbacks"] = {name: states[name] for name in ("Clock", "Keeper")}
        checkpoint["run"] = self._run.identity
        data = io.BytesIO()
        torch.save(checkpoint, data)
        if Path(path) == self._run.last:
            self._run.write({LAST: data.getvalue()})
        else:  # of a callback of the user
            Path(path).parent.mkdir(exist_ok=True)
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
        limits: the epochs and minutes of the training; None in checkpoints of earlier versions.
        skipped: number of steps that were skipped because their loss or gradient was not finite.
    """

    steps: int
    seconds: float
    best: float | None
    is_best: bool
    has_ended: bool
    limit: str | None
    limits: Limits | None
    skipped: int


def progress(checkpoint: Path) -> Progress:
    """Read the progress from a checkpoint."""
    values = load(checkpoint, mmap=True)
    steps, clock, keeper = int(values["global_step"]), values["callbacks"]["Clock"], values["callbacks"]["Keeper"]
    best = None if keeper["best"] is None else float(keeper["best"])
    is_best, has_ended = keeper.get("best_step") == steps, bool(keeper.get("has_ended"))
    limits, skipped = clock.get("limits"), values["lesson"].get("skipped", (0, 0))[0]
    return Progress(steps, float(clock["seconds"]), best, is_best, has_ended, clock.get("limit"), limits, skipped)


def check(run: Run, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Check the checkpoints that a training resumes from: last.ckpt, and best.ckpt, to which a plateau returns.

    Args:
        run: the run.
        module: a new module of its training, which gets the weights of the checkpoint.
        optimizer: a new optimizer of the module, which gets its state.

    Returns:
        The progress of the training.

    Raises:
        BadInput: if a checkpoint is damaged, or of another run.
    """
    run.files.check(LAST, BEST)  # best.ckpt is good to go on from, where last.ckpt is lost
    if run.best.exists():
        run.files.check(BEST)
    with restoring(run.last, "a checkpoint of this run", DAMAGED_FILE):
        values = load(run.last)
        if values.get("run", run.identity) != run.identity:
            raise ValueError("its data, model or options are those of another run")
        check_tensors(run.last, *map(_by_parameter_name, (values["state_dict"], module.state_dict())))
        module.load_state_dict(values["state_dict"])
        optimizer.load_state_dict(values["optimizer_states"][0])
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                if isinstance(value, Tensor) and value.numel() != 1 and value.shape != parameter.shape:
                    shapes = f"{tuple(parameter.shape)}, got {tuple(value.shape)}"
                    raise ValueError(f"expected {name} of the optimizer in shape {shapes}")
        return progress(run.last)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Read the model weights to keep from a checkpoint, by parameter name: their average, if there is one."""
    state = load(checkpoint, mmap=True)["state_dict"]
    prefix = "averaged.module." if "averaged.n_averaged" in state else "model."
    return _by_parameter_name({name: tensor for name, tensor in state.items() if name.startswith(prefix)}, prefix)


def _by_parameter_name(state: dict[str, Tensor], prefix: str = "model.") -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
