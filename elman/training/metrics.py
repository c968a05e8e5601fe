"""metrics.csv: what was logged, a row at a time."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from elman.table import Table

COLUMNS = ["step", "epoch", "train_loss", "val_loss", "lr", "seconds"]


class MetricsFile(Logger):
    """A Lightning logger that writes each row at once, and goes on with the rows of a resumed run.

    (Lightning's CSVLogger deletes the file it finds.)

    Args:
        path: of the file.
        per_epoch: steps in an epoch.
        keep: rows up to this step are kept, later ones dropped: a resumed run writes those anew.
    """

    def __init__(self, path: Path, per_epoch: int, keep: int = 0) -> None:
        super().__init__()
        self._table, self._per_epoch = Table(path, COLUMNS, keep), per_epoch

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.json has them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row; `step` counts from zero, the file from one."""
        done = (step or 0) + 1
        values: dict[str, int | float] = {"step": done, "epoch": done / self._per_epoch}
        values |= {key: metrics[key] for key in COLUMNS if key in metrics and key not in values}
        self._table.add(values)
