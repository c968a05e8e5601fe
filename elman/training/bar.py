"""What a training shows of itself."""

import sys
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from elman.training.callbacks import Clock
from elman.words import clock_time


class Bar(Callback):
    """A progress bar with loss, speed and time left; a line per validation where nobody looks at a terminal."""

    def __init__(self, console: Console, clock: Clock, unit: str) -> None:
        self._console, self._clock, self._unit = console, clock, unit
        self._loss = self._validation = float("nan")
        self._rate = float("nan")
        self._mark = (0.0, 0)  # seconds and units when the rate was last taken
        columns = [BarColumn(), TaskProgressColumn(), TextColumn("{task.description}")]
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("training", total=1.0)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._mark = (self._clock.seconds, 0)
        self._progress.start()

    def on_train_batch_end(self, trainer: Trainer, module: Any, out: Any, batch: Any, index: int) -> None:
        loss = float(out["loss"])
        self._loss = loss if self._loss != self._loss else 0.98 * self._loss + 0.02 * loss
        (before, seen), now = self._mark, self._clock.seconds
        if now - before > 1:
            self._rate = (module.seen - seen) / (now - before)
            self._mark = (now, module.seen)
        self._progress.update(self._task, completed=self._clock.done, description=self._text())

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        self._mark = (self._clock.seconds, module.seen)  # the rate is that of training alone
        self._validation = float(trainer.callback_metrics["val_loss"])
        if not self._console.is_terminal:
            self._console.print(f"step {self._clock.step}: {self._text()}", highlight=False)

    def _text(self) -> str:
        parts = [f"loss {self._loss:.3f}"]
        if self._validation == self._validation:
            parts.append(f"validation {self._validation:.3f}")
        if self._rate == self._rate:
            parts.append(f"{self._rate:,.0f} {self._unit}/s")
        left = self._clock.seconds_left
        return ", ".join([*parts, f"{clock_time(left)} left"] if left < float("inf") else parts)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._progress.stop()
        sys.stdout.flush()
