"""Recordings of speech, or of other sounds, to texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that writes down what recordings say.

    Args:
        data: N recordings and N texts, as a tuple, with N groups as a third if some belong together; or a manifest, as
            for `elman train transcribe`. A recording is a row of numbers at `rate` samples a second, -1 to 1 where they
            are no whole numbers; or a file, at any rate.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train transcribe`, by their names there: `rate=16000`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(recordings)`; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import numpy as np, tempfile
    >>> t = np.arange(800) / 8000                      # a tenth of a second
    >>> x = [np.sin(pitch * t) for k in range(20) for pitch in (9000 + 50 * k, 1500 + 20 * k)]
    >>> sounds = fit((x, ["hi", "lo"] * 20), tempfile.mkdtemp(), epochs=20, batch=4, hidden=16)
    >>> [row["text"] for row in sounds.predict(x[:2])]
    ['hi', 'lo']
    """
    from elman.tasks.api import fit

    return fit("transcribe", data, out, options)
