"""Training metrics, written to metrics.csv and loggers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer

from elman.io.metrics_csv import CsvTable
from elman.training.callbacks import TimeBudget

COLUMNS = ["step", "epoch", "train_loss", "val_loss", "lr", "seconds"]


class MetricsWriter(Protocol):
    """Destination of metrics besides metrics.csv: TensorBoard or a Lightning logger."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Write the metrics of a step."""


class TensorBoard:
    """TensorBoard event file.

    Lightning's own logger is not used, because it interprets `~`, `$HOME` and `://` in paths.

    Args:
        folder: folder of the event file.
        purge_step: first step whose values in older event files of the folder are hidden.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder, purge_step=purge_step)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class MetricsLog(Callback):
    """Write a row every few steps and at every validation; a resumed run continues the file.

    This is a callback and not a Lightning logger, because Lightning calls loggers after the checkpoint of the same
    step, and a resumed training would not write that row again.

    Args:
        path: the CSV file to write.
        writers: loggers that receive the same values.
        clock: the budget of the training.
        per_epoch: number of steps per epoch.
        keep: last step whose rows are kept in an existing file; a resumed run writes later rows again.
    """

    def __init__(
        self, path: Path, writers: Sequence[MetricsWriter], clock: TimeBudget, per_epoch: int, keep: int = 0
    ) -> None:
        self._table, self._writers, self._clock = CsvTable(path, COLUMNS, keep), writers, clock
        self._per_epoch, self._every = per_epoch, max(1, min(10, per_epoch // 5))

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        if trainer.global_step % self._every == 0:
            loss, lr = float(out["loss"]), trainer.optimizers[0].param_groups[0]["lr"]
            losses = {"train_loss": loss} if math.isfinite(loss) else {}  # no loss of a step that was skipped
            self._add(trainer, **losses, lr=float(lr), seconds=self._clock.seconds)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._add(trainer, val_loss=float(trainer.callback_metrics["val_loss"]))

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._table.sync()  # a resumed run does not write the rows before the checkpoint again

    def _add(self, trainer: Trainer, **values: float) -> None:
        step = trainer.global_step
        values["epoch"] = step / self._per_epoch
        self._table.add({"step": step, **values})
        for writer in self._writers:
            writer.log_metrics(values, step)
