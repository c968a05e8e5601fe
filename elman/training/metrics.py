"""metrics.csv: what was logged, a row at a time."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from elman.files import write_whole

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
        self._path, self._per_epoch = path, per_epoch
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row in (read(path) if path.exists() else []) if int(row["step"]) <= keep)
        write_whole(path, table.getvalue())

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
        values = {"step": done, "epoch": done / self._per_epoch}
        values |= {key: metrics[key] for key in COLUMNS if key in metrics and key not in values}
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow({k: v if k == "step" else f"{v:.6g}" for k, v in values.items()})


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv; one that a full disk cut short is left out."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]
