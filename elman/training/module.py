"""A task as Lightning trains it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from elman.engine.torch_private import tree_map_only
from elman.training.diverged import Diverged, diverged
from elman.training.options import OPTIMIZERS, TrainingOptions
from elman.training.trainable import Batches, Trainable

ENDLESS = 10**9  # steps, where only the clock ends the training


class StepLoader:
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


class TaskModule(LightningModule):
    """The task's model and loss, with the state carried from batch to batch and kept in checkpoints.

    Raises:
        Diverged: as soon as a loss or a gradient is no longer a number, before it spoils the weights.
    """

    def __init__(self, task: Trainable, options: TrainingOptions) -> None:
        super().__init__()
        self.model = task.model
        self._task, self._options = task, options
        self.seen = 0  # units trained on since this process began
        self._carried: Any = None
        self._entered: tuple[Any, Any, Tensor] | None = None  # batch, state and random numbers of this step
        self._validating: Any = None
        self._validation = (0.0, 0)
        self._random: Tensor | None = None  # torch's random numbers, to go on from once training begins again

    def training_step(self, batch: Any) -> Tensor:
        self._entered = (batch, self._carried, torch.get_rng_state())
        loss, count, state = self._task.loss(batch, self._carried)
        mean = loss / count
        if not mean.isfinite():
            raise self._diverged(f"the loss is {mean.item()}")
        self._carried = tree_map_only(Tensor, Tensor.detach, state)
        self.seen += count
        return mean

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """What Lightning does, with a look at the norm: it costs nothing where gradients are clipped anyway."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        # Of finite gradients the norm may be infinite: then clipping makes zeros of them.
        if not norm.isfinite() and not all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise self._diverged("a gradient is not finite")
        if gradient_clip_val:
            clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def _diverged(self, what: str) -> Diverged:
        assert self._entered is not None
        batch, state, random = self._entered
        torch.set_rng_state(random)
        return diverged(self._task, self._options, f"{what} at step {self.global_step + 1}", batch, state)

    def on_train_start(self) -> None:
        if self._random is not None:
            torch.set_rng_state(self._random)

    def on_validation_epoch_start(self) -> None:
        self._validating, self._validation = None, (0.0, 0)

    def validation_step(self, batch: Any) -> None:
        entered = self._validating
        loss, count, self._validating = self._task.loss(batch, entered)
        if not loss.isfinite():
            what = f"the validation loss is {loss.item()} after step {self.global_step}"
            raise diverged(self._task, self._options, what, batch, entered)
        total, counted = self._validation
        self._validation = (total + loss.item(), counted + count)

    def on_validation_epoch_end(self) -> None:
        total, counted = self._validation
        # For callbacks; loggers get it from MetricsLog, by the number of the step.
        mean = torch.tensor(total / counted, dtype=torch.float64)
        self.log("val_loss", mean, batch_size=1, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Fused: one parallel region a step instead of a dozen for every parameter.
        kinds: dict[str, Any] = {
            "adamw": partial(torch.optim.AdamW, fused=True),
            "adam": partial(torch.optim.Adam, fused=True),
            "rmsprop": torch.optim.RMSprop,
            "sgd": partial(torch.optim.SGD, fused=True),
        }
        assert kinds.keys() == OPTIMIZERS.keys()
        optimizer: torch.optim.Optimizer = kinds[self._options.optimizer](self.parameters(), lr=self._options.lr_at(0))
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["lesson"] = {"carried": self._carried, "random": torch.get_rng_state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._carried = checkpoint["lesson"]["carried"]
        self._random = checkpoint["lesson"]["random"]
