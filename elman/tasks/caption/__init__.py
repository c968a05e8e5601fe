"""Images to texts: an image is read row by row, a text is written about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any = None, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that writes what images show.

    Args:
        data: images (N, rows, columns) from 0 to 1 and N texts, as a tuple; or a file, as for `elman train caption`.
            None: scikit-learn's digits, spelled out.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train caption`, by their names there: `hidden=64`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(images)`; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import numpy as np, tempfile
    >>> x = np.random.default_rng(0).random((40, 4, 4), np.float32) / 16
    >>> x[::2, :, 1] = x[1::2, 1] = 1                  # upright bars, and bars that lie
    >>> bars = fit((x, ["it stands", "it lies"] * 20), tempfile.mkdtemp(), epochs=12, batch=4, hidden=16, lr=0.02)
    >>> [row["text"] for row in bars.predict(x[:2])]
    ['it stands', 'it lies']
    """
    from elman.tasks.api import fit

    return fit("caption", data, out, options)
