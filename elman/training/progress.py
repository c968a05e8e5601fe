"""Progress of a training on the terminal."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from elman.io.format import clock_time, counted
from elman.io.terminal import Verbosity, verbosity
from elman.training.callbacks import TimeBudget

MIN_SECONDS_BETWEEN_LINES = 10.0  # between progress lines


class ProgressBar(Callback):
    """Show loss, speed and remaining time: a progress bar on a terminal, otherwise a line every few seconds.

    Args:
        console: the console to print to.
        clock: the budget of the training.
        unit: what the speed is counted in, such as "tokens".
    """

    def __init__(self, console: Console, clock: TimeBudget, unit: str) -> None:
        self._console, self._clock, self._unit = console, clock, unit
        self._validation = float("nan")
        self._losses = self._steps = 0.0  # exponentially decayed sums over steps
        self._began = self._seconds = self._units = 0.0  # start of the step; decayed sums over more steps
        self._seen, self._printed_step, self._printed_at = 0, 0, float("-inf")
        columns = [BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False)]
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("training", total=None)  # pulses until the end can be estimated

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._progress.start()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: Any, out: Any, batch: Any, index: int) -> None:
        if math.isfinite(loss := float(out["loss"])):  # no loss of a step that was skipped
            self._losses, self._steps = 0.9 * self._losses + loss, 0.9 * self._steps + 1
        self._seconds = 0.98 * self._seconds + time.monotonic() - self._began
        self._units, self._seen = 0.98 * self._units + module.seen - self._seen, module.seen
        is_end_known = (end := self._clock.seconds + self._clock.seconds_left) < float("inf")
        total, completed = (1.0, self._clock.seconds / end) if is_end_known else (None, None)
        self._progress.update(self._task, total=total, completed=completed, description=self._text())

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._validation = float(trainer.callback_metrics["val_loss"])
        if time.monotonic() - self._printed_at >= MIN_SECONDS_BETWEEN_LINES or verbosity() >= Verbosity.VERBOSE:
            self._print_line()

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self._printed_step != self._clock.step:
            self._print_line()

    def _print_line(self) -> None:
        self._printed_at, self._printed_step = time.monotonic(), self._clock.step
        if not self._console.is_terminal or verbosity() >= Verbosity.VERBOSE:
            self._console.print(f"step {self._printed_step}: {self._text()}", highlight=False)

    def _text(self) -> str:
        parts = [f"loss {self._losses / self._steps if self._steps else math.nan:.3f}"]
        if self._validation == self._validation:
            parts.append(f"validation {self._validation:.3f}")
        parts.append(f"{self._units / self._seconds:,.0f} {self._unit}/s")
        convergence = self._clock.convergence
        if convergence.patience and convergence.waited and not convergence.decay:
            parts.append(f"no improvement in {counted(convergence.waited, 'validation')}")
        left = self._clock.seconds_left
        return ", ".join([*parts, f"{clock_time(left)} left"] if left < float("inf") else parts)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._progress.stop()
