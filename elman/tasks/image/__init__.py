"""Images to labels, read row by row or column by column."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any = None, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that says what images show.

    Args:
        data: images (N, rows, columns) from 0 to 1 and N labels, as a tuple of arrays or tensors; or files, as for
            `elman train image`. None: scikit-learn's digits.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train image`, by their names there: `hidden=64`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(images)`; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import numpy as np, tempfile
    >>> x = np.random.default_rng(0).random((40, 4, 4), np.float32) / 16
    >>> x[::2, :, 1] = x[1::2, 1] = 1                  # upright bars, and bars that lie
    >>> bars = fit((x, ["upright", "lying"] * 20), tempfile.mkdtemp(), epochs=30, batch=4)
    >>> [row["label"] for row in bars.predict(x[:2])]
    ['upright', 'lying']
    """
    from elman.tasks.api import fit

    return fit("image", data, out, options)
