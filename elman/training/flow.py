"""Gradient-flow diagnostics during training, written to flow.csv and loggers."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from elman.flow import Recording, record
from elman.flow.history import HistoryRow, rows_of
from elman.io.metrics_csv import CsvTable
from elman.training.metrics import MetricsWriter
from elman.training.module import TaskModule, grad_scaler

COLUMNS = ["step", *HistoryRow._fields]


class FlowLog(Callback):
    """Record the backward pass of every `every`-th step.

    Args:
        path: the CSV file to write.
        writers: loggers that receive the same values.
        every: number of steps between recordings.
        clip: the maximum gradient norm; 0 if gradients are not clipped.
        keep: last step whose rows are kept in an existing file; a resumed run writes later rows again.
    """

    def __init__(self, path: Path, writers: Sequence[MetricsWriter], every: int, clip: float, keep: int = 0) -> None:
        self._table, self._writers, self._every, self._clip = CsvTable(path, COLUMNS, keep), writers, every, clip
        self._open = ExitStack()
        self._recording: Recording | None = None

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
        assert isinstance(module, TaskModule)
        if trainer.global_step % self._every == 0:
            self._recording = self._open.enter_context(record(module.model))

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        self._open.close()

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._table.sync()  # as for metrics.csv

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        if self._recording is None:
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        scaler = grad_scaler(trainer)
        scale = scaler.get_scale() if scaler else 1.0  # the gradients of parameters are unscaled, the recorded ones not
        assert isinstance(module, TaskModule)
        if (scaler or module.skips_bad_steps) and not norm.isfinite():  # this step is skipped
            self._recording = None
            return
        is_clipped = float(self._clip > 0 and float(norm) > self._clip)
        step = trainer.global_step + 1
        for row in rows_of(self._recording, float(norm), is_clipped):
            row = row._replace(first=row.first / scale, last=row.last / scale)
            self._table.add({"step": step, **row._asdict()})
            numbers = {f"flow/{row.name}/{key}": value for key, value in row.numbers().items()}
            for writer in self._writers:
                writer.log_metrics(numbers, step)
        self._recording = None
