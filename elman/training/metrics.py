"""metrics.csv, and the same curves for TensorBoard: losses and rates, a row at a time."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard import SummaryWriter

from elman.io.metrics_csv import CsvTable
from elman.training.callbacks import TimeBudget

COLUMNS = ["step", "epoch", "train_loss", "val_loss", "lr", "seconds"]


class MetricsLog(Callback):
    """Writes a row every so many steps, and one at every validation; continues the file of a resumed run.

    (A callback, as Lightning's loggers are called after the checkpoint of the same step is saved, which a resumed
    training does not repeat; and take `~`, `$HOME` and `://` in a path for more than a name.)

    Args:
        path: of the file.
        board: TensorBoard's.
        clock: of the training.
        per_epoch: steps in an epoch.
        keep: rows up to this step are kept, later ones dropped: a resumed run writes those anew.
    """

    def __init__(self, path: Path, board: SummaryWriter, clock: TimeBudget, per_epoch: int, keep: int = 0) -> None:
        self._table, self._board, self._clock = CsvTable(path, COLUMNS, keep), board, clock
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
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
