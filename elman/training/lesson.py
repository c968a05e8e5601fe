"""A task as Lightning trains it."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils._pytree import tree_map_only

from elman.training.options import OPTIMIZERS, TrainingOptions
from elman.training.task import Batches, Task

ENDLESS = 10**9  # steps, where only the clock ends the training


class Steps:
    """All batches of all epochs in a row, for Lightning to walk; it can be left and entered at any step.

    One walk through all epochs, rather than one per epoch, makes every interruption the same simple case.
    """

    def __init__(self, batches: Batches, total: int) -> None:
        self._batches, self._total = batches, total
        self._next = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Any]:
        while self._next < self._total:
            self._next += 1
            yield self._batches[self._next - 1]

    def state_dict(self) -> dict[str, int]:
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._next = state["next"]


class Diverged(Exception):
    """The loss is no longer a number."""


class Lesson(LightningModule):
    """The task's model and loss, with the state carried from batch to batch and kept in checkpoints."""

    def __init__(self, task: Task, options: TrainingOptions) -> None:
        super().__init__()
        self.model = task.model
        self._task, self._options = task, options
        self.seen = 0  # units trained on since this process began
        self._carried: Any = None
        self._validating: Any = None
        self._validation = (0.0, 0)
        self._random: Tensor | None = None  # torch's random numbers, to go on from once training begins again

    def training_step(self, batch: Any) -> Tensor:
        loss, count, state = self._task.loss(batch, self._carried)
        self._carried = tree_map_only(Tensor, Tensor.detach, state)
        self.seen += count
        mean = loss / count
        self.log("train_loss", mean.detach(), batch_size=1)
        return mean

    def on_train_start(self) -> None:
        if self._random is not None:
            torch.set_rng_state(self._random)

    def on_validation_epoch_start(self) -> None:
        self._validating, self._validation = None, (0.0, 0)

    def validation_step(self, batch: Any) -> None:
        loss, count, self._validating = self._task.loss(batch, self._validating)
        total, counted = self._validation
        self._validation = (total + loss.item(), counted + count)

    def on_validation_epoch_end(self) -> None:
        total, counted = self._validation
        mean = total / counted
        if not math.isfinite(mean):
            raise Diverged(f"the validation loss is {mean} after step {self.global_step}")
        self.log("val_loss", torch.tensor(mean, dtype=torch.float64), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        kinds: dict[str, Any] = {
            "adamw": torch.optim.AdamW,
            "adam": torch.optim.Adam,
            "rmsprop": torch.optim.RMSprop,
            "sgd": torch.optim.SGD,
        }
        assert kinds.keys() == OPTIMIZERS.keys()
        optimizer: torch.optim.Optimizer = kinds[self._options.optimizer](self.parameters(), lr=self._options.lr_at(0))
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["lesson"] = {"carried": self._carried, "random": torch.get_rng_state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._carried = checkpoint["lesson"]["carried"]
        self._random = checkpoint["lesson"]["random"]
