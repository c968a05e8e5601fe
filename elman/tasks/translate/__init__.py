"""Sentences to sentences: one language is read, another is written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that translates.

    Args:
        data: a list of pairs of texts; a tuple of two lists, of texts and of translations; or files, as for
            `elman train translate`.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train translate`, by their names there: `hidden=64`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(texts)`; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import itertools, tempfile
    >>> words = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four"}
    >>> pairs = [(" ".join(k), " ".join(words[w] for w in k)) for k in itertools.permutations(words, 3)]
    >>> numbers = fit(pairs, tempfile.mkdtemp(), epochs=30, batch=4, hidden=16, tokens="word", lr=0.02)
    >>> [row["translation"] for row in numbers.predict(["drei eins vier"])]
    ['three one four']
    """
    from elman.tasks.api import fit

    return fit("translate", data, out, options)
