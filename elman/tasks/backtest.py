"""The result of a backtest: forecasts from several cutoffs, and their scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elman.io.files import check_new_folder, write_whole
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

    def save(self, folder: str | Path, overwrite: bool = False) -> list[Path]:
        """Write the forecasts, forecasts.csv, and their plot, backtest.png.

        Args:
            folder: a new or empty folder.
            overwrite: whether the folder may have files; those of an earlier backtest are replaced.

        Returns:
            The paths of the files.

        Raises:
            BadInput: if `folder` exists and is not an empty folder, unless `overwrite` is set.
        """
        path = Path(folder)
        if not overwrite:
            check_new_folder(path, "save ")
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / FORECASTS, "".join(separated(self.forecasts, ",")))
        self.draw(path / PICTURE)
        return [path / FORECASTS, path / PICTURE]
