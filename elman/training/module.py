"""The LightningModule and the data loader of a task."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from elman.engine.torch_private import tree_map_only
from elman.training.devices import to_device
from elman.training.diverged import Diverged, diverged
from elman.training.options import MAX_SKIPPED, OPTIMIZERS, TrainingOptions
from elman.training.trainable import Batches, Trainable

ENDLESS = 10**9  # number of steps if only the clock ends the training
MIN_SCALE = 1.0  # a loss scale below which float16 gradients that overflow are not those of a loss scaled too much
RngStates = dict[str, Tensor]  # of torch's generators, by the type of the device


def grad_scaler(trainer: Trainer) -> torch.amp.GradScaler | None:
    """Return the gradient scaler of a training in float16; None in other precisions."""
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


class StepLoader:
    """Data loader over the batches of all epochs; it can be interrupted and resumed at any step.

    One pass over all epochs, rather than one per epoch, makes every interruption the same case.

    Args:
        batches: the training batches.
        total: total number of steps.
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
    """Model and loss of a task; the recurrent state is carried between batches and saved in checkpoints.

    Args:
        task: the task to train.
        options: the training options.

    Attributes:
        skipped: the number of steps that `options.on_nan` has left out, before an interruption too.

    Raises:
        Diverged: if a loss or a gradient is not finite, before the optimizer changes the weights.
    """

    def __init__(self, task: Trainable, options: TrainingOptions) -> None:
        super().__init__()
        self.model = task.model
        self._task, self._options = task, options
        self.seen = 0  # units (such as tokens) trained on in this process
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._bad_loss: str | None = None  # the loss of this step, if it is not finite
        self._carried: Any = None
        self._step_inputs: tuple[Any, Any, RngStates] | None = None  # batch, state and RNG states of this step
        self._validation_state: Any = None
        self._validation_sums = (0.0, 0)
        self._rng_states: RngStates = {}  # to restore when training resumes

    def training_step(self, batch: Any) -> Tensor:
        self._step_inputs = (batch, self._carried, self._get_rng_states())
        loss, count, state = self._task.loss(batch, self._carried)
        mean = loss / count
        self._bad_loss = None if mean.isfinite() else f"the loss is {mean.item()}"
        if self._bad_loss:
            if not self.skips_bad_steps:
                raise self._diverged(self._bad_loss)
            return mean * math.nan  # so that no gradient is finite; the state before the batch goes on
        self._carried = tree_map_only(Tensor, Tensor.detach, state)
        self.seen += count
        return mean

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients as Lightning does, and check that they are finite, which needs only the norm."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        # The norm of finite gradients can overflow; clipping then sets them to zero.
        if not norm.isfinite() and not all(bool(gradient.isfinite().all()) for gradient in gradients):
            scaler = grad_scaler(self.trainer)
            if scaler is not None and scaler.get_scale() >= MIN_SCALE and not self._bad_loss:
                return  # the scaler skips this step and halves its scale
            self._skip_or_raise(self._bad_loss or "a gradient is not finite")
            for parameter in parameters:
                parameter.grad = None  # optimizers leave out parameters without a gradient, and their states
            return
        self._skipped_in_a_row = 0
        if gradient_clip_val:
            clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    @property
    def skips_bad_steps(self) -> bool:
        """True if steps whose loss or gradient is not finite are skipped."""
        return self._options.on_nan == "skip"

    def _skip_or_raise(self, what: str) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if not self.skips_bad_steps:
            raise self._diverged(what)
        if self._skipped_in_a_row >= MAX_SKIPPED:
            raise self._diverged(f"{MAX_SKIPPED} steps in a row were skipped: {what}")

    def _diverged(self, what: str) -> Diverged:
        assert self._step_inputs is not None
        batch, state, rng_states = self._step_inputs
        self._set_rng_states(rng_states)
        return diverged(self._task, self._options, f"{what} at step {self.global_step + 1}", batch, state)

    def on_train_start(self) -> None:
        # Checkpoints are loaded to the CPU, and may be of a training in another precision.
        dtype = next(self.model.parameters()).dtype
        carried = to_device(self._carried, self.device)
        self._carried = tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, carried)
        self._set_rng_states(self._rng_states)

    def _get_rng_states(self) -> RngStates:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            states[self.device.type] = torch.get_device_module(self.device).get_rng_state()
        return states

    def _set_rng_states(self, states: RngStates) -> None:
        """Set the states of the CPU's generator and of the device's, if there is one of such a device."""
        for kind in states.keys() & {"cpu", self.device.type}:
            (torch if kind == "cpu" else torch.get_device_module(kind)).set_rng_state(states[kind])

    def on_validation_epoch_start(self) -> None:
        self._validation_state, self._validation_sums = None, (0.0, 0)

    def validation_step(self, batch: Any) -> None:
        state = self._validation_state
        loss, count, self._validation_state = self._task.loss(batch, state)
        if not loss.isfinite():
            what = f"the validation loss is {loss.item()} after step {self.global_step}"
            raise diverged(self._task, self._options, what, batch, state)
        total, counted = self._validation_sums
        self._validation_sums = (total + loss.item(), counted + count)

    def on_validation_epoch_end(self) -> None:
        total, counted = self._validation_sums
        # For callbacks only: MetricsLog writes it to loggers, with the step number.
        mean = torch.tensor(total / counted, dtype=torch.float64)
        self.log("val_loss", mean, batch_size=1, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Fused optimizers use one parallel region per step instead of a dozen per parameter. With a gradient scaler,
        # they would unscale gradients only after clipping.
        fused = self._options.precision != "16"
        kinds: dict[str, Any] = {
            "adamw": partial(torch.optim.AdamW, fused=fused),
            "adam": partial(torch.optim.Adam, fused=fused),
            "rmsprop": torch.optim.RMSprop,
            "sgd": partial(torch.optim.SGD, fused=fused),
        }
        assert kinds.keys() == OPTIMIZERS.keys()
        optimizer: torch.optim.Optimizer = kinds[self._options.optimizer](self.parameters(), lr=self._options.lr_at(0))
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        skipped = (self.skipped, self._skipped_in_a_row)
        checkpoint["lesson"] = {"carried": self._carried, "random": self._get_rng_states(), "skipped": skipped}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._carried = checkpoint["lesson"]["carried"]
        self.skipped, self._skipped_in_a_row = checkpoint["lesson"].get("skipped", (0, 0))
        states = checkpoint["lesson"]["random"]
        self._rng_states = {"cpu": states} if isinstance(states, Tensor) else states  # a tensor in the first versions
