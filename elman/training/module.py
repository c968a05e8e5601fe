"""The LightningModule and the data loader of a task."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel

from elman.data.batches import Unused
from elman.engine.torch_private import tree_map_only
from elman.training.agreement import Agreement
from elman.training.devices import to_device
from elman.training.diverged import Diverged, diverged
from elman.training.options import MAX_SKIPPED, OPTIMIZERS, WEIGHT_DECAY, TrainingOptions
from elman.training.processes import (
    divided_rows,
    exchanged,
    gathered,
    joined_rows,
    of_process,
    place,
    without_examples,
)
from elman.training.sharding import are_finite, is_sharded, sharded_loss, whole_norm
from elman.training.trainable import Batches, Trainable

ENDLESS = 10**9  # number of steps if only the clock ends the training
MIN_SCALE = 1.0  # a loss scale below which float16 gradients that overflow are not those of a loss scaled too much
RngStates = dict[str, Tensor]  # of torch's generators, by the type of the device


def grad_scaler(trainer: Trainer) -> torch.amp.GradScaler | None:
    """Return the gradient scaler of a training in float16; None in other precisions."""
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def moving_average(model: nn.Module, share: float) -> AveragedModel:
    """Return a copy of a model for the moving average of its weights.

    After step t, the average moves towards the weights by 1 / (1 + share * (t - 1)) of the distance: about the last
    `share` of the steps so far have most of the weight, however many there are. It is the polynomial-decay averaging of
    O. Shamir and T. Zhang, "Stochastic gradient descent for non-smooth optimization", ICML 2013.

    Args:
        model: the model; its buffers are copied, not averaged.
        share: fraction of the steps so far, from 0 to 1; with 1, all count alike.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = moving_average(model, 0.5)
    >>> for value in (1.0, 3.0, 5.0):
    ...     _ = nn.init.constant_(model.weight, value)
    ...     average.update_parameters(model)
    >>> round(average.module.weight.item(), 4)  # 1, then 1 + 2 / 1.5, then halfway to 5
    3.6667
    """

    def moved(average: Tensor, weights: Tensor, count: Any) -> Tensor:
        return torch.lerp(average, weights, 1 / (1 + share * int(count)))

    return AveragedModel(model, avg_fn=moved).requires_grad_(False)


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

    With several processes, each computes the loss of its part of a batch. The gradient is that of the mean over all
    parts, whatever their sizes: DistributedDataParallel averages over processes, so each scales its loss.

    Args:
        task: the task to train.
        options: the training options.
        agreement: with the other processes of the training, if there are any.

    Attributes:
        model: the model that the optimizer changes.
        averaged: the moving average of its weights, which is validated in its place; None without `options.average`.
        skipped: the number of steps that `options.on_nan` has left out, before an interruption too.

    Raises:
        Diverged: if a loss or a gradient is not finite, before the optimizer changes the weights.
    """

    def __init__(self, task: Trainable, options: TrainingOptions, agreement: Agreement | None = None) -> None:
        super().__init__()
        self.model = task.model
        self.averaged = moving_average(task.model, options.average) if options.average else None
        self._task, self._options, self._agreement = task, options, agreement
        self._validated = task.with_model(self.averaged.module) if self.averaged else task
        self.seen = 0  # units (such as tokens) that all processes trained on since the training began or was resumed
        self.skipped = 0
        self._skipped_in_a_row = 0
        self._bad_loss: str | None = None  # the loss of this step, if it is not finite
        self._statistics = list[Tensor]()  # buffers before this step, such as running means, if it may be skipped
        self._loss, self._validation_loss = task.loss, self._validated.loss
        self._carried: Any = None
        self._step_inputs: tuple[Any, Any, RngStates] | None = None  # batch, state and RNG states of this step
        self._validation_state: Any = None
        self._validation_sums = (0.0, 0)
        self._not_finite: tuple[float, Any, Any] | None = None  # first such validation loss, its batch and state
        self._rng_states: RngStates = {}  # to restore when training resumes

    def configure_model(self) -> None:
        if self._options.strategy == "fsdp" and self._agreement is not None and not is_sharded(self.model):
            assert self.device_mesh is not None
            mesh = self.device_mesh["data_parallel"]
            self._loss = self._validation_loss = sharded_loss(self._task, mesh)
            if self.averaged:
                self._validation_loss = sharded_loss(self._validated, mesh)

    @property
    def weights(self) -> nn.Module:
        """The model with the weights to keep: the average, if there is one."""
        return self._validated.model

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        super().optimizer_step(*arguments, **keywords)
        if self.averaged:
            self.averaged.update_parameters(self.model)

    def training_step(self, batch: Any) -> Tensor:
        values, is_used = (batch.batch, False) if isinstance(batch, Unused) else (batch, True)
        self._step_inputs = (values, self._carried, self._get_rng_states())
        if self.skips_bad_steps:
            self._statistics = [buffer.clone() for buffer in self.model.buffers()]
        with nullcontext() if is_used else without_examples():
            loss, count, state = self._loss(values, self._carried)
        mean, count = self._mean(loss, count) if is_used else self._mean(loss * 0, 0)
        if self._bad_loss:
            return mean * math.nan  # so that no gradient is finite; the state before the batch goes on
        self._carried = tree_map_only(Tensor, Tensor.detach, state)
        self.seen += count
        return mean

    def _mean(self, loss: Tensor, count: int) -> tuple[Tensor, int]:
        """Return the mean loss of a batch, with the gradient of this process's part, and the count of all parts."""
        self._bad_loss, rank = None, 0
        if self._agreement is None:
            mean = loss / count
            if not mean.isfinite():
                self._bad_loss = f"the loss is {mean.item()}"
        else:
            losses, count = self._agreement.exchange(loss.item(), count)
            value = sum(losses) / count
            if not math.isfinite(value):
                self._bad_loss, rank = f"the loss is {value}", _first_not_finite(losses)
            part = loss * (place().world_size / count)
            mean = part + (value - part.detach())
        if self._bad_loss and not self.skips_bad_steps:
            raise self._diverged(self._bad_loss, rank)
        return mean, count

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients as Lightning does, and check that they are finite, which needs only the norm."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        # The norm of finite gradients can overflow; clipping then sets them to zero.
        if not whole_norm(norm).isfinite() and not are_finite(gradients):
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
        for buffer, before in zip(self.model.buffers(), self._statistics, strict=True):
            buffer.copy_(before)

    def _diverged(self, what: str, rank: int = 0) -> Diverged:
        """Return the exception to raise; with several processes, that of the process whose part shall be diagnosed."""
        assert self._step_inputs is not None
        batch, state, rng_states = self._step_inputs
        self._set_rng_states(rng_states)
        return self._diagnosed(self._task, f"{what} at step {self.global_step + 1}", batch, state, rank)

    def _diagnosed(self, task: Trainable, what: str, batch: Any, state: Any, rank: int = 0) -> Diverged:
        if self._agreement is None:
            return diverged(task, self._options, what, batch, state)
        error = diverged(task, self._options, what, batch, state) if place().rank == rank else None
        of_rank = of_process(error, rank)
        assert of_rank is not None
        return of_rank

    def on_train_start(self) -> None:
        # Checkpoints are loaded to the CPU, and may be of a training in another precision.
        dtype = next(self.model.parameters()).dtype
        carried = to_device(self._carried, self.device)
        self._carried = tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, carried)
        if place().rank and not self._rng_states:  # other processes than the first draw other random numbers
            seeds = (self._options.seed, place().rank, self.global_step)
            torch.manual_seed(int(np.random.default_rng(seeds).integers(2**63)))
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
        self._validation_state, self._validation_sums, self._not_finite = None, (0.0, 0), None

    def validation_step(self, batch: Any) -> None:
        if isinstance(batch, Unused):
            if is_sharded(self.model):  # every process gives its part of the weights to the others
                self._validation_loss(batch.batch, None)
            return
        state = self._validation_state
        loss, count, self._validation_state = self._validation_loss(batch, state)
        if not loss.isfinite() and self._not_finite is None:
            self._not_finite = (loss.item(), batch, state)
            if self._agreement is None:
                raise self._validation_diverged()
        total, counted = self._validation_sums
        self._validation_sums = (total + loss.item(), counted + count)

    def _validation_diverged(self, rank: int = 0) -> Diverged:
        """Return the exception to raise; with several processes, that of the first with a loss that is not finite."""
        loss, batch, state = self._not_finite or (math.nan, None, None)
        what = f"the validation loss is {loss} after step {self.global_step}"
        if self.averaged:
            self.averaged.requires_grad_(True)  # the diagnosis needs gradients
        return self._diagnosed(self._validated, what, batch, state, rank)

    def on_validation_epoch_end(self) -> None:
        total, counted = self._validation_sums
        if self._agreement is not None:
            rows = exchanged([total, counted])
            total, counted = sum(row[0] for row in rows), int(sum(row[1] for row in rows))
            if not math.isfinite(total):
                raise self._validation_diverged(_first_not_finite([row[0] for row in rows]))
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
        name, decay = self._options.optimizer, self._options.weight_decay
        optimizer: torch.optim.Optimizer = kinds[name](
            self.model.parameters(),
            lr=self._options.lr_at(0),
            weight_decay=WEIGHT_DECAY[name] if decay is None else decay,
        )
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        first, *others = gathered(self._get_rng_states())
        skipped = (self.skipped, self._skipped_in_a_row)
        lesson = {"carried": joined_rows(self._carried), "random": first, "skipped": skipped}
        checkpoint["lesson"] = lesson | ({"random_of_others": others} if others else {})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        lesson, rank = checkpoint["lesson"], place().rank
        self._carried = divided_rows(lesson["carried"])
        self.skipped, self._skipped_in_a_row = lesson.get("skipped", (0, 0))
        states = lesson["random"]
        first = {"cpu": states} if isinstance(states, Tensor) else states  # a tensor in the first versions
        others = lesson.get("random_of_others", [])
        all_states = [first, *others] if len(others) + 1 == place().world_size else [first]
        self._rng_states = all_states[rank] if rank < len(all_states) else {}


def _first_not_finite(losses: Sequence[float]) -> int:
    """Return the index of the first loss that is not finite; 0 if only their sum is not."""
    return next((rank for rank, loss in enumerate(losses) if not math.isfinite(loss)), 0)
