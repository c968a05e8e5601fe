"""metrics.csv, and the same curves for loggers: losses and rates, a row at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer

from elman.io.metrics_csv import CsvTable
from elman.training.callbacks import TimeBudget

COLUMNS = ["step", "epoch", "train_loss", "val_loss", "lr", "seconds"]


class MetricsWriter(Protocol):
    """What metrics are written to beside metrics.csv: TensorBoard, or a logger of Lightning."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Write metrics of a step."""


class TensorBoard:
    """A file of TensorBoard.

    (Lightning's logger takes `~`, `$HOME` and `://` in a path for more than a name.)

    Args:
        folder: of the file.
        purge_step: later steps in older files of the folder are no longer shown.
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
    """Writes a row every so many steps, and one at every validation; continues the file of a resumed run.

    (A callback, as Lightning's loggers are called after the checkpoint of the same step is saved, which a resumed
    training does not repeat.)

    Args:
        path: of the file.
        writers: get the same numbers.
        clock: of the training.
        per_epoch: steps in an epoch.
        keep: rows up to this step are kept, later ones dropped: a resumed run writes those anew.
    """

    def __init__(
        self, path: Path, writers: Sequence[MetricsWriter], clock: TimeBudget, per_epoch: int, keep: int = 0
    ) -> None:
        self._table, self._writers, self._clock = CsvTable(path, COLUMNS, keep), writers, clock
        self._per_epoch, self._every = per_epoch, max(1, min(10, per_epoch // 5))

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, out: Any, batch: Any, index: int) -> None:
        if trainer.global_step % self._every == 0:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._add(trainer, train_loss=float(out["loss"]), lr=float(lr), seconds=self._clock.seconds)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._add(trainer, val_loss=float(trainer.callback_metrics["val_loss"]))

    def _add(self, trainer: Trainer, **values: float) -> None:
        step = trainer.global_step
        values["epoch"] = step / self._per_epoch
        self._table.add({"step": step, **values})
        for writer in self._writers:
            writer.log_metrics(values, step)
