"""The result of a backtest: forecasts from several cutoffs, and their scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elman.errors import BadInput
from elman.io.files import write_whole
from elman.report.rows import separated
from elman.report.shown import Scores

FORECASTS, PICTURE = "forecasts.csv", "backtest.png"


@dataclass(frozen=True)
class Backtest:
    """Forecasts from several cutoffs, and their scores.

    Attributes:
        scores: metrics by name, of the model first, then of each baseline, with `margins` and `counted`.
        forecasts: a row for each model, window and step: model, series, cutoff (the last time that the forecast knew),
            time, actual (None where it is unknown), median, low, high, and other quantiles.
        draw: plots the forecasts of the model behind the data to a PNG file.
    """

    scores: Scores
    forecasts: list[dict[str, Any]] = field(repr=False)
    draw: Callable[[Path], None] = field(repr=False)

    def save(self, folder: str | Path) -> list[Path]:
        """Write the forecasts, forecasts.csv, and their plot, backtest.png.

        Args:
            folder: the folder; it is created if it does not exist, and files of an earlier backtest are replaced.

        Returns:
            The paths of the files.

        Raises:
            BadInput: if `folder` is a file.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise BadInput(f"--out {path}: expected a folder, got a file")
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / FORECASTS, "".join(separated(self.forecasts, ",")))
        self.draw(path / PICTURE)
        return [path / FORECASTS, path / PICTURE]
