"""Lightning callbacks: training budget and learning rate, checkpoints, signals."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from elman.errors import Terminated
from elman.io.files import read_bytes
from elman.io.run_folder import BEST, WEIGHTS, Run, tensors_to_bytes
from elman.io.terminal import leave_closed_terminal, terminating_signals
from elman.training.agreement import Agreement
from elman.training.checkpoints import load
from elman.training.convergence import Convergence
from elman.training.module import TaskModule
from elman.training.options import HOLD, TrainingOptions
from elman.training.processes import is_first, of_process
from elman.training.sharding import is_sharded, whole_weights

SAVE_EVERY = 60.0  # seconds between periodic checkpoints


class Interrupted(Exception):
    """Training was stopped by Ctrl-C, SIGTERM or SIGHUP; a checkpoint has been saved.

    Args:
        signal: the signal number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class TimeBudget(Callback):
    """Set the learning rate at every step, and stop training at the step limit, the time limit or convergence.

    Args:
        options: the training options.
        steps: the maximum number of steps.
        began: start of the training clock, as returned by `time.monotonic`, in seconds.
        best: path of the checkpoint with the lowest validation loss.
        restart: if a resumed training has converged, continue it at the full learning rate.
        agreement: with the other processes of the training, if there are any: decisions follow its clock.
    """

    state_key = "Clock"  # the key in existing checkpoints

    def __init__(
        self,
        options: TrainingOptions,
        steps: int,
        began: float,
        best: Path,
        restart: bool = False,
        agreement: Agreement | None = None,
    ) -> None:
        self.options, self.steps = options, steps
        self._agreement = agreement
        if agreement:
            agreement.clock = lambda: self.seconds
        self.step = 0
        self.convergence = Convergence(options.patience, options.schedule == "plateau")
        self._began, self._best, self._restart = began, best, restart
        self._first = 0.0, 0  # seconds and steps before the first step of this process

    @property
    def seconds(self) -> float:
        """Training time in seconds, without the time between an interruption and its resumption."""
        return time.monotonic() - self._began

    @property
    def used(self) -> float:
        """Fraction of the step or time limit that is used, whichever is larger, from 0 to 1."""
        seconds = self.seconds if self._agreement is None else self._agreement.seconds
        by_time = seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return min(max(self.step / self.steps, by_time), 1.0)

    @property
    def done(self) -> float:
        """Progress of the training, from 0 to 1; before a plateau, it is the used fraction of the limits."""
        used, decayed = self.used, self.convergence.decayed(self.step)
        return used if used == 1 or decayed is None else HOLD + (1 - HOLD) * decayed

    @property
    def limit(self) -> str | None:
        """Option ("epochs" or "minutes") whose limit ended the training before convergence; None otherwise."""
        if not self.options.until_converged or self.convergence.reached(self.step) or self.used < 1:
            return None
        return "epochs" if self.step >= self.steps else "minutes"

    @property
    def seconds_left(self) -> float:
        """Estimated remaining time in seconds; infinite before a plateau, whose time cannot be predicted."""
        seconds, (seconds_before, steps_before) = self.seconds, self._first
        if self.step == steps_before:
            return float("inf")
        per_step = (seconds - seconds_before) / (self.step - steps_before)
        if self.convergence.decay:
            return per_step * max(self.convergence.decay[1] - self.step, 0)
        if self.options.schedule == "plateau" and self.done < HOLD:
            return float("inf")
        by_time = 60 * self.options.minutes - seconds if self.options.minutes else float("inf")
        return max(min(per_step * (self.steps - self.step), by_time), 0.0)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._first = self.seconds, self.step
        if self._agreement:
            self._agreement.exchange()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.options.lr_at(self.done)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        self.step = trainer.global_step
        if self.done >= 1:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        if self.convergence.validated(loss, self.step, self.used < HOLD):
            best = of_process(load(self._best) if is_first() else {})
            if best["callbacks"]["Keeper"]["best"] <= loss:  # may be newer than the last counted best
                if is_sharded(module):
                    trainer.strategy.load_checkpoint(self._best, weights_only=True)
                else:
                    module.load_state_dict(best["state_dict"])
                    trainer.optimizers[0].load_state_dict(best["optimizer_states"][0])
        if self.convergence.reached(self.step):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "step": self.step,
            "limit": self.limit,
            "limits": (self.options.epochs, self.options.minutes),
            "convergence": self.convergence.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._began -= state["seconds"]
        self.step = state["step"]
        self.convergence.load_state_dict(state.get("convergence", {}))
        if self._restart and self.convergence.reached(self.step):
            self.convergence.restart(self.step)


class CheckpointCallback(Callback):
    """Save the best and the last checkpoint, also when training is interrupted.

    A checkpoint is saved after the first step, after every new best validation, when the last checkpoint is older than
    `SAVE_EVERY`, at the end, and on SIGINT, SIGTERM or SIGHUP. If a validation is due at that step, the checkpoint is
    saved after it. `last.ckpt` is written before `best.ckpt` and the weights: if the process dies before `last.ckpt` is
    written, a resumed training repeats the validation and then writes all of them.

    Args:
        run: the run to save to.
        clock: the budget of the training.
        every: number of steps between validations.
        agreement: with the other processes of the training, if there are any.
    """

    state_key = "Keeper"  # the key in existing checkpoints

    def __init__(self, run: Run, clock: TimeBudget, every: int, agreement: Agreement | None = None) -> None:
        self.run, self.clock = run, clock
        self.best: float | None = None
        self.best_step: int | None = None
        self.has_started = False  # True once a checkpoint to resume from is restored
        self.has_ended = False  # True after the last validation
        self.received: int | None = None  # the signal that this process has received
        self._agreement = agreement
        if agreement:
            agreement.save_due, agreement.received = self._is_checkpoint_old, lambda: self.received
        self._every = every
        self._saved = float("-inf")
        self._stops_next = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.has_started = True
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *terminating_signals()):
                self._handlers[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # a second signal stops at once
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)
        self.received = number
        leave_closed_terminal(number)

    @property
    def signal(self) -> int | None:
        """The signal that has stopped the training, of any process; None if it goes on."""
        return self.received if self._agreement is None else self._agreement.signal

    @property
    def is_stopped(self) -> bool:
        """True if a signal has stopped the training."""
        return self.signal is not None

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        is_validation_due = trainer.global_step % self._every == 0 or self._is_over(trainer)
        if not is_validation_due and self._is_save_due():
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        if self._stops_next:  # not earlier, so that the losses of the last step are logged
            if self.best is None:
                weights = _weights(module)
                if is_first():
                    self.run.save_tensors("model", weights)
            assert self.signal is not None
            raise Interrupted(self.signal)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        loss = float(trainer.callback_metrics["val_loss"])
        is_best = self.best is None or loss < self.best
        if is_best:
            self.best, self.best_step = loss, trainer.global_step
        self.has_ended = self._is_over(trainer)
        if is_best or self.has_ended or self._is_save_due():
            self._save(trainer)
        if is_best:
            weights = _weights(module)
            if is_first():
                keep_best(self.run, weights)

    def _is_save_due(self) -> bool:
        is_old = self._is_checkpoint_old() if self._agreement is None else self._agreement.is_save_due
        return self.is_stopped or is_old

    def _is_checkpoint_old(self) -> bool:
        return time.monotonic() - self._saved > SAVE_EVERY

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.run.last)
        self._saved, self._stops_next = time.monotonic(), self.is_stopped and not self.has_ended

    def _is_over(self, trainer: Trainer) -> bool:
        return trainer.should_stop or trainer.global_step >= self.clock.steps

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make every checkpoint look like one saved at the end of a step, from which Lightning resumes exactly.

        From a checkpoint that is marked as completed, such as one saved after a validation, Lightning counts steps
        wrongly and cannot train longer. In both cases it does not repeat a validation that has been done.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("total", "current"):
            progress[part]["completed"] = progress[part]["processed"] - 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "has_ended": self.has_ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step = state["best"], state.get("best_step")


def keep_best(run: Run, weights: dict[str, Any]) -> None:
    """Save the last checkpoint as the best one, and its weights as model.safetensors.

    Args:
        run: the run to save to.
        weights: the state dict of the model in that checkpoint.
    """
    run.write({BEST: read_bytes(run.last), WEIGHTS: tensors_to_bytes(weights)})


def _weights(module: LightningModule) -> Any:
    assert isinstance(module, TaskModule)
    return whole_weights(module.weights)
