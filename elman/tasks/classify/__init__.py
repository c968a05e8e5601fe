"""Texts to labels, read word by word."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that says what kind of text a text is.

    Args:
        data: N texts and N labels, as a tuple of lists; or files, as for `elman train classify`.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train classify`, by their names there: `hidden=64`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(texts)`; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import tempfile
    >>> texts = [f"{what} {thing}" for thing in "abcdefghij" for what in ("a good", "quite good", "a bad", "quite bad")]
    >>> reader = fit((texts, ["+", "+", "-", "-"] * 10), tempfile.mkdtemp(), epochs=15, batch=4, hidden=16)
    >>> [row["label"] for row in reader.predict(["a good reader", "quite bad"])]
    ['+', '-']
    """
    from elman.tasks.api import fit

    return fit("classify", data, out, options)
