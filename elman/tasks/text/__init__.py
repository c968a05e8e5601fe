"""Language models: the next character, word or byte pair."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any = None, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a language model.

    Args:
        data: the file of a text, by its path or opened; a text itself as `io.StringIO(text)`. None: Python's reference
            manual.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train text`, by their names there: `tokens="word"`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `generate(prompt)`, a text; `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import io, tempfile
    >>> said = io.StringIO("please stay at home. " * 200)
    >>> found = fit(said, tempfile.mkdtemp(), hidden=32, bptt=16, batch=8, epochs=10, lr=0.02)
    >>> found.generate("please ", length=12, temperature=0)
    'please stay at home'
    """
    from elman.tasks.api import fit

    return fit("text", data, out, options)
