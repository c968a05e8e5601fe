"""What happens at the edges of a step: the clock and the learning rate, saving, Ctrl-C."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from elman.errors import Terminated
from elman.io.files import read_bytes, write_whole
from elman.io.run_folder import Run
from elman.training.convergence import Convergence
from elman.training.module import TaskModule
from elman.training.options import HOLD, TrainingOptions

SAVE_EVERY = 60.0  # seconds


class Interrupted(Exception):
    """Ctrl-C or SIGTERM, after everything was saved.

    Args:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class TimeBudget(Callback):
    """Sets the learning rate, and ends the training: when its steps or its time are over, or when it has converged.

    Args:
        options: of the training.
        steps: at most.
        began: when the clock was started, by time.monotonic.
        best: the checkpoint of the best validation.
        restart: a converged training goes on, at the full learning rate.
    """

    state_key = "Clock"  # in checkpoints: the name that the class had first

    def __init__(self, options: TrainingOptions, steps: int, began: float, best: Path, restart: bool = False) -> None:
        self.options, self.steps = options, steps
        self.step = 0
        self.convergence = Convergence(options.patience, options.schedule == "plateau")
        self._began, self._best, self._restart = began, best, restart

    @property
    def seconds(self) -> float:
        """How long training has gone on, interruptions left out."""
        return time.monotonic() - self._began

    @property
    def used(self) -> float:
        """The share of the steps or of the time, whichever is larger, that is used up, 0 to 1."""
        by_time = self.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return min(max(self.step / self.steps, by_time), 1.0)

    @property
    def done(self) -> float:
        """The share of the training that is done, 0 to 1; until a plateau is found, of its bounds."""
        used, decayed = self.used, self.convergence.decayed(self.step)
        return used if used == 1 or decayed is None else HOLD + (1 - HOLD) * decayed

    @property
    def limit(self) -> str | None:
        """The option whose limit ended a training that was to go on until validation stopped improving."""
        if not self.options.until_converged or self.convergence.reached(self.step) or self.used < 1:
            return None
        return "epochs" if self.step >= self.steps else "minutes"

    @property
    def seconds_left(self) -> float:
        """By the pace so far, or by the budget; infinite before a plateau, as nobody knows when it will come."""
        if self.convergence.decay:
            return self.seconds / self.step * max(self.convergence.decay[1] - self.step, 0)
        if self.options.schedule == "plateau" and self.done < HOLD:
            return float("inf")
        return self.seconds * (1 / self.done - 1) if self.done else float("inf")

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
            best = torch.load(self._best, weights_only=True)
            if best["callbacks"]["Keeper"]["best"] <= loss:  # a best that gains too little to count has those weights
                module.load_state_dict(best["state_dict"])
                trainer.optimizers[0].load_state_dict(best["optimizer_states"][0])
        if self.convergence.reached(self.step):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "step": self.step,
            "limit": self.limit,
            "convergence": self.convergence.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._began -= state["seconds"]
        self.step = state["step"]
        self.convergence.load_state_dict(state.get("convergence", {}))
        if self._restart and self.convergence.reached(self.step):
            self.convergence.restart(self.step)


class CheckpointCallback(Callback):
    """Saves the best and the last state of the training, also on Ctrl-C.

    A checkpoint is saved at the first step, at every best validation, after a minute without, at the end, and when the
    training is interrupted: after the validation where one is due, or else after the step. `last.ckpt` comes first:
    until it is written, a resumed training repeats the validation, and with it what is written after that.
    """

    state_key = "Keeper"  # in checkpoints: the name that the class had first

    def __init__(self, run: Run, clock: TimeBudget, every: int) -> None:
        self.run, self.clock = run, clock
        self.best: float | None = None
        self.best_step: int | None = None
        self.has_ended = False  # its last validation included
        self.signal: int | None = None  # that stopped the training
        self._every = every  # steps between validations
        self._saved = float("-inf")
        self._leaves = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopped:  # a second one does not wait for the step to end
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        self.signal = number

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped the training."""
        return self.signal is not None

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        is_validation_due = trainer.global_step % self._every == 0 or self._is_over(trainer)
        if not is_validation_due and self._is_save_due():
            self._save(trainer)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        if self._leaves:  # not before: the last step's losses had to be logged
            if self.best is None:
                self.run.save_tensors("model", _weights(module))
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
            keep_best(self.run, _weights(module))

    def _is_save_due(self) -> bool:
        return self.is_stopped or time.monotonic() - self._saved > SAVE_EVERY

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.run.last)
        self._saved, self._leaves = time.monotonic(), self.is_stopped and not self.has_ended

    def _is_over(self, trainer: Trainer) -> bool:
        return trainer.should_stop or trainer.global_step >= self.clock.steps

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save every checkpoint as one from the end of a step, from which Lightning resumes exactly.

        From one that it calls finished, as after a validation, it counts steps wrongly and cannot be made to train
        longer. A validation that was due is not repeated in either case.
        """
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in ("total", "current"):
            progress[part]["completed"] = progress[part]["processed"] - 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "has_ended": self.has_ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step = state["best"], state.get("best_step")


def keep_best(run: Run, weights: dict[str, Any]) -> None:
    """Keep the last checkpoint, and these weights of it, as the best."""
    write_whole(run.best, read_bytes(run.last))
    run.save_tensors("model", weights)


def _weights(module: LightningModule) -> Any:
    assert isinstance(module, TaskModule)
    return module.model.state_dict()
