"""The text that a model is trained on, split and tokenized."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from elman.errors import BadInput
from elman.files import read_text
from elman.tasks import _tokens as tokens
from elman.tasks.text.score import Text

DEFAULT = "Python's reference manual"
TRAIN = 0.9  # the share of the text that is trained on, from its beginning


@dataclass(frozen=True)
class Corpus:
    """A text in its two parts; the tokenizer has seen only the first."""

    tokenizer: Tokenizer
    train: NDArray[np.int32]
    validation: Text
    characters: int
    sha256: str


def read(file: Path | None, encoding: str) -> str:
    """A file's text, or the English that every Python carries: its reference manual, as `help("if")` shows it."""
    if file is not None:
        return read_text(file, encoding)
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def prepare(text: str, name: str, kind: str, vocabulary: int, tokenizer: Tokenizer | None = None) -> Corpus:
    """Split a text, fit a tokenizer (or use the one given), tokenize.

    Raises:
        BadInput: if there is too little of it to have anything to validate on.
    """
    cut = int(len(text) * TRAIN)
    if tokenizer is None:
        tokenizer = tokens.fit(kind, text[:cut], vocabulary)
    train, validation = tokens.encode(tokenizer, text[:cut]), Text.of(tokenizer, text[cut:])
    if len(validation.ids) < 2:
        raise BadInput(f"{name}: expected a longer text, got {len(text)} characters: the last tenth is to validate on")
    return Corpus(tokenizer, train, validation, len(text), sha256(text))


def sha256(text: str) -> str:
    """To know a text again."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
