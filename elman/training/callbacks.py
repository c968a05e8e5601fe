"""What happens at the edges of a step: the clock and the learning rate, saving, Ctrl-C."""

import signal
import threading
import time
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from elman.runs import Run
from elman.training.lesson import Lesson
from elman.training.options import TrainingOptions


class Interrupted(Exception):
    """Ctrl-C or a polite kill, after everything was saved."""


class Clock(Callback):
    """Says how much of the training is done, sets the learning rate by it, and ends the training in time."""

    def __init__(self, options: TrainingOptions, steps: int, began: float) -> None:
        self.options, self.steps = options, steps
        self.step = 0
        self._began = began  # by time.monotonic

    @property
    def seconds(self) -> float:
        """How long training has gone on, interruptions left out."""
        return time.monotonic() - self._began

    @property
    def done(self) -> float:
        """The share of the training that is done, 0 to 1."""
        by_time = self.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return min(max(self.step / self.steps, by_time), 1.0)

    @property
    def seconds_left(self) -> float:
        """By the pace so far, or by the budget."""
        return self.seconds * (1 / self.done - 1) if self.done else float("inf")

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.options.lr_at(self.done)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        self.step = trainer.global_step
        module.log_dict({"lr": trainer.optimizers[0].param_groups[0]["lr"], "seconds": self.seconds}, batch_size=1)
        if self.done >= 1:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._began -= state["seconds"]
        self.step = state["step"]


class Keeper(Callback):
    """Keeps the best and the last of the training on disk, and sees to it that Ctrl-C loses nothing."""

    def __init__(self, run: Run, clock: Clock, every: int) -> None:
        self.run, self.clock = run, clock
        self.best: float | None = None
        self._every = every  # steps between validations
        self._saved = time.monotonic()
        self._stale = True
        self._stop = False
        self._leave = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._stop:  # a second Ctrl-C does not wait for the step to end
            raise KeyboardInterrupt
        self._stop = True

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        ending = self.clock.done >= 1
        if trainer.global_step % self._every == 0 and not ending:
            return  # a validation is due; a checkpoint from between a step and its validation would skip that
        if ending or self._stop or self._stale or time.monotonic() - self._saved > 60:
            trainer.save_checkpoint(self.run.last)
            self._saved, self._stale = time.monotonic(), False
            self._leave = self._stop and not ending

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        if self._leave:  # not before: the last step's losses had to be logged
            if self.best is None:
                self.run.save_tensors("model", _weights(module))
            raise Interrupted

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stale = True
        loss = float(trainer.callback_metrics["val_loss"])
        if self.best is None or loss < self.best:
            self.best = loss
            trainer.save_checkpoint(self.run.path / "checkpoints" / "best.ckpt")
            self.run.save_tensors("model", _weights(module))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]


def _weights(module: LightningModule) -> Any:
    assert isinstance(module, Lesson)
    return module.model.state_dict()
