"""How time series go on, with how sure that is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that says how time series go on.

    Args:
        data: a data frame, or a dict of columns, with `time=` and `target=` for the names of these; or a series of
            pandas; an index that says times is the column of time where `time=` is its name or is not given; or values
            (N,), or (N, series), as an array or tensor, whose stamps are 0, 1, 2 and so on; or files, as for `elman
            train forecast`.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train forecast`, by their names there: `horizon=24`, `season=24`, `epochs=3`.

    Returns:
        `model`, an nn.Module; `scores`; `predict()`, or `predict(data)`, behind the end of each series;
        `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import numpy as np, tempfile
    >>> tide = np.sin(np.arange(200) * np.pi / 6)
    >>> small = {"season": 12, "horizon": 3, "context": 24, "hidden": 8, "epochs": 6, "batch": 16, "lr": 0.02}
    >>> found = fit(tide, tempfile.mkdtemp(), **small)
    >>> [row["time"] for row in found.predict()]
    ['200', '201', '202']
    >>> found.scores["GRU 8"]["mase"] < found.scores["naive"]["mase"]
    True
    """
    from elman.tasks.api import fit

    return fit("forecast", data, out, options)
