"""Names as users write them."""

from collections.abc import Iterable
from difflib import get_close_matches

# What the same thing is called elsewhere, as `_plain` returns it, where the spelling would suggest nothing or another.
SYNONYMS = {"cuda": "gpu", "fp16": "16", "float16": "16", "16mixed": "16", "fp32": "32", "float32": "32"}

_MAX_TYPED = 100  # characters; comparing a longer text takes long, and nobody has mistyped a name in it


def meant(text: str, names: Iterable[str]) -> str | None:
    """Return the name that matches a text, or None. Case, underscores and hyphens are ignored.

    >>> meant("PeepholeLSTM", ["lstm", "peephole_lstm"]), meant("ltsm", ["lstm"])
    ('peephole_lstm', None)
    """
    return {_plain(name): name for name in names}.get(_plain(text))


def perhaps(text: str, names: Iterable[str]) -> str:
    """Return a suggestion to append to an error message if a text resembles one of the names, otherwise "".

    >>> perhaps("Ltsm", ["gru", "lstm"]), perhaps("tree", ["gru", "lstm"])
    ('; did you mean lstm?', '')
    >>> perhaps("fp16", ["bf16", "16"])
    '; did you mean 16?'
    """
    if len(text) > _MAX_TYPED:
        return ""
    known = {_plain(name): name for name in names}
    plain = _plain(text)
    near = [SYNONYMS[plain]] if SYNONYMS.get(plain) in known else get_close_matches(plain, known, 1)
    return f"; did you mean {known[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")
