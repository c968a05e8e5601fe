"""Music: what sounds next."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network on pieces of music.

    Args:
        data: pieces, each a list of frames, which are lists of MIDI pitches, or an array (T, 128) that is not 0 where
            a pitch sounds; such pieces as a dictionary with "train", "valid" and "test"; or files, as for
            `elman train music`.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train music`, by their names there: `hidden=64`, `minutes=1`; `--as` is `as_`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(pieces)`, a row for each; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import tempfile
    >>> pieces = [[[60 + k], [64 + k], [67 + k], []] * 4 for k in range(12)]
    >>> arpeggios = fit(pieces, tempfile.mkdtemp(), epochs=2, batch=4, hidden=16)
    >>> [row["frames"] for row in arpeggios.predict(pieces[:2])]
    [16, 16]
    """
    from elman.tasks.api import fit

    return fit("music", data, out, options)
